"""Ex J.1: queries m against the dimension d, exponential against polynomial.

The code Y = {-1,1}^d / sqrt d with pi_base ~ exp<y, y*> is a 1/4-packing for d <= 64 on
which every linear softmax factorises, so that d = 60 needs no enumeration. The measured
m is the (1-rho)-quantile, over runs, of the least m from which a run is sharpened.

Rewards here are linear in theta and free of noise: d independent differences y - y' fix
theta, so that offline regression is as cheap as XPO. What the figure shows is the value
of the reward, not that of exploration; that is `exploration.py`.
"""

from dataclasses import dataclass

import numpy as np

from experiments.curves.curve import Curve, Kind, Panel, Point
from jsharp.stats import Interval, loglog_slope, quantile
from theory.packing import (
    Code,
    least_sft,
    offline_draws,
    sft_draws,
    xpo_draws,
    xpo_sharpened,
)

RATE_FROM = 8  # rates are fitted from this dimension on, past the constants


@dataclass(frozen=True)
class Config:
    """Dimensions up to 64; `labels` is n of SFT-Sharpening, m = n N."""

    dims: tuple[int, ...] = (*range(1, 21), *range(24, 61, 4))
    labels: int = 16
    delta: float = 0.1
    rho: float = 0.1
    runs: int = 500
    level: float = 0.05  # of each interval


def theorem_draws(code: Code, *, delta: float, rho: float) -> float:
    """m = 2T of Thm 4.3 with c = 1: T = R^2 SEC log(2 Net T/rho)/(delta beta)^2.

    SEC = d log(T+1) (Lem J.5), Net = (6 B T)^d (Lem J.4 at eps_disc = 1/T); one prompt,
    so every eps < 1 is alike. The fixed point of T, by iteration.
    """
    scale = (code.reward_range / (delta * code.beta(delta))) ** 2
    rounds = scale
    for _ in range(100):
        net = code.dim * np.log(6 * code.radius(delta) * rounds)
        log_term = net + np.log(2 * rounds / rho)
        rounds = scale * code.dim * np.log(rounds + 1) * log_term
    return 2 * float(rounds)


def _measured(config: Config, seed: int) -> dict[str, list[Interval]]:
    found = {"SFT": [], "offline": [], "XPO": []}
    for dim in config.dims:
        code, rng = Code(dim), np.random.default_rng((seed, dim))
        runs, delta = config.runs, config.delta
        sharp = xpo_sharpened(rng, code, delta=delta, rounds=2 * dim + 20, runs=runs)
        draws = {
            "SFT": sft_draws(rng, code, labels=config.labels, delta=delta, runs=runs),
            "offline": offline_draws(rng, code, runs=runs),
            "XPO": xpo_draws(sharp),
        }
        for name, values in draws.items():
            interval = quantile(values, 1 - config.rho, level=config.level)
            found[name].append(interval)
    return found


def _rate(config: Config, values: list[Interval]) -> str:
    """d log m/dd with its interval, as part of a legend entry."""
    kept = [k for k, dim in enumerate(config.dims) if dim >= RATE_FROM]
    base = np.exp([config.dims[k] for k in kept])
    m = np.array([values[k].estimate for k in kept])
    rate = loglog_slope(base, m, level=config.level)
    return f"d log m/dd = {rate.slope:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def run(config: Config, seed: int) -> list[Point]:
    found = _measured(config, seed)
    sft = f"SFT-Sharpening, n = {config.labels}: {_rate(config, found['SFT'])}"
    offline, xpo = "offline regression (Eq 8), any ties", "XPO (Alg 1)"
    points = []

    def measured(panel: str, series: str, values: list[Interval]) -> None:
        for dim, v in zip(config.dims, values, strict=True):
            point = Point(panel, series, "measured", dim, v.estimate, v.low, v.high)
            if panel == "all" or dim >= RATE_FROM:
                points.append(point)

    def line(panel: str, series: str, kind: Kind, value) -> None:
        points.extend(
            Point(panel, series, kind, dim, value(Code(dim))) for dim in config.dims
        )

    measured("all", sft, found["SFT"])
    measured("all", offline, found["offline"])
    measured("all", xpo, found["XPO"])
    best = "SFT-Sharpening, best split (n = 1), exact"
    line("all", best, "theory", lambda c: least_sft(c, rho=config.rho))
    every = "SFT-Sharpening at least, any packing: (1-rho) C_cov"
    line("all", every, "theory", lambda c: (1 - config.rho) * c.coverage)
    printed = "Thm 4.3 for XPO, c = 1"
    limits = {"delta": config.delta, "rho": config.rho}
    line("all", printed, "bound", lambda c: theorem_draws(c, **limits))
    measured("polynomial", offline, found["offline"])
    measured("polynomial", xpo, found["XPO"])
    late = [dim for dim in config.dims if dim >= RATE_FROM]
    independent = "d independent differences: 2d"
    points += [Point("polynomial", independent, "theory", d, 2.0 * d) for d in late]
    return points


CURVE = Curve(
    name="packing",
    says="Ex J.1 on the code {-1,1}^d / sqrt d: SFT-Sharpening needs exp(Omega(d)) "
    "queries, offline regression and XPO about 2d. The reward is linear and free of "
    "noise, so the gap is due to it, not to exploration.",
    config=Config(),
    quick=Config(dims=(2, 4, 8, 10, 12, 16, 20), runs=100),
    run=run,
    panels=(
        Panel("all", "dimension d", "queries m", "all three", log="y", slopes=False),
        Panel("polynomial", "dimension d", "queries m", "with the reward"),
    ),
)
