"""Which algorithm is cheapest, by what its theorem guarantees (Thm 4.1, D.1, 4.2, J.1).

The instances: pi_base has one mode and rivals that are all 1+g_m times less likely, so
that the coverage C and the margin g_m are free and |Y| = 1 + (C-1)(1+g_m). The costs m:

    fixed N       46.6 log(|Pi|/rho)/(delta eps) * 2 C log(2/delta)/eps        Thm 4.1
    adaptive N    23.3 log(|Pi|/rho)/(delta eps) * (1 + log(2/delta)) C        Thm D.1
    regression    2 * 4 C log^3(|Y| |Pi|/rho)/(g^2 delta^2 eps^2)              Thm 4.2'
    XPO           2 T, T = (12 * 2R/(beta delta eps))^2 d log(T+1) log(2 |Pi| T/rho)

The first two constants are those of the proofs. The paper hides the others; here they
are 1, beside what it shows: regression has N = 2 and pays eps/2 for the statistical
term, with C_conc = C and C_loss = |Y| (Lem 4.1); XPO draws two responses a round and
needs KL(pihat||pi*_beta) <= eps delta/12 (Thm 4.3), R_max = V_max = R with
R = 1 + max log 1/pi_base = 1 + log(C (1+g_m)), SEC = d log(T+1) (Lem J.5) and
beta = g/log(2|Y|/delta).
Everywhere g = log(1+g_m), the margin of the reward log pi_base: with g_m itself the two
guarantees fall without limit as g_m grows, which no algorithm does.

Beside them the least m, by exact laws, on one easy prompt and a hard one of weight
h = 2 eps (whose row is as above, C being the average coverage), against one rival that
is not sharpened, with probability 1-rho. For the two forms of best of N the truth is
pi^BoN and the rival misses with mass delta; for the two forms of regression the truth
is pi*_beta and the rival lifts one wrong response y' to delta. There nothing is noisy:
the first pair at the hard prompt of which exactly one is y' refutes the rival for good.
XPO draws one of the two from the rival, once it is fooled; of many rivals it would meet
one after the other, and these panels do not speak about that.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.curves.curve import Curve, Panel, Point
from experiments.style import PALETTE
from theory.curves import least_prompts, private_confusion
from theory.laws import two_level_draws
from theory.s4_sft import HELLINGER

FIXED, ADAPTIVE, OFFLINE, XPO = "fixed N", "adaptive N", "regression", "XPO"
ALGORITHMS = (FIXED, ADAPTIVE, OFFLINE, XPO)
NOT_ADAPTIVE = (FIXED, OFFLINE, XPO)
SEPARATOR = ", margin "

Grid = Float[np.ndarray, "G C"]


@dataclasses.dataclass(frozen=True)
class Config:
    """The slices, the grid of coverage and margin, and what stays as it is."""

    eps: tuple[float, float] = (0.1, 0.01)
    c_cov: tuple[float, float] = (2.0, 1e16)
    margin: tuple[float, float] = (0.01, 1e6)
    steps: int = 29
    delta: float = 0.1
    rho: float = 0.05
    log_class: float = 20.0
    dimension: int = 10
    """d, of the bound on the SEC."""
    need_c_cov: tuple[float, float] = (1.2, 1e3)
    need_margin: tuple[float, float] = (0.01, 100.0)
    need_steps: int = 17
    overdraw: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """Multiples of the theorem's N of which fixed N takes the cheapest."""


QUICK = Config(steps=9, need_steps=5)


def responses(c_cov: float, margin: float) -> float:
    """|Y| = 1 + (C-1)(1+g_m): a mode of mass 1/C, rivals 1+g_m times less likely."""
    return 1 + (c_cov - 1) * (1 + margin)


def sft_cost(c_cov: float, *, eps: float, config: Config) -> tuple[float, float]:
    """m of Thm 4.1 and E[m] of Thm D.1, with the constants of their proofs."""
    log_size = config.log_class - math.log(config.rho)
    prompts = HELLINGER * log_size / (config.delta * eps)
    log_draws = math.log(2 / config.delta)
    return (
        2 * prompts * 2 * c_cov * log_draws / eps,
        prompts * (1 + log_draws) * c_cov,
    )


def regression_cost(
    c_cov: float, margin: float, *, eps: float, config: Config
) -> float:
    """m = 2 n with sqrt(C log^3(|Y||Pi|/rho)/n)/(g delta) = eps/2 (Thm 4.2')."""
    log_size = config.log_class - math.log(config.rho)
    logs = math.log(responses(c_cov, margin)) + log_size
    return 8 * c_cov * logs**3 / (math.log1p(margin) * config.delta * eps) ** 2


def xpo_cost(c_cov: float, margin: float, *, eps: float, config: Config) -> float:
    """m = 2 T, T the fixed point of the rounds of Thm J.1 at KL = eps delta/12.

    The right side grows like log^2 T: iteration from T = 1 climbs to the fixed point.
    """
    size = responses(c_cov, margin)
    beta = math.log1p(margin) / math.log(2 * size / config.delta)
    largest = 1 + math.log(c_cov * (1 + margin))  # 1/pi_base of a rival is C (1+g_m)
    scale = (12 * 2 * largest / (beta * config.delta * eps)) ** 2 * config.dimension
    log_net = config.log_class + math.log(2 / config.rho)
    rounds = 1.0
    for _ in range(200):
        rounds = scale * math.log1p(rounds) * (log_net + math.log(rounds))
    return 2 * rounds


def costs(
    c_cov: float, margin: float, *, eps: float, config: Config
) -> dict[str, float]:
    """The guaranteed m of each algorithm."""
    fixed, adaptive = sft_cost(c_cov, eps=eps, config=config)
    return {
        FIXED: fixed,
        ADAPTIVE: adaptive,
        OFFLINE: regression_cost(c_cov, margin, eps=eps, config=config),
        XPO: xpo_cost(c_cov, margin, eps=eps, config=config),
    }


# ---- The need, against one rival


def hard_row(c_cov: float, margin: float, *, eps: float) -> tuple[float, float, int]:
    """q = pi_base(y*), p' and the number of rivals at the hard prompt, p' <= q/(1+g_m).

    1-h + h/q = C for h = 2 eps; the number of rivals is rounded up.
    """
    q = 2 * eps / (c_cov - 1 + 2 * eps)
    rivals = max(1, math.ceil((1 - q) * (1 + margin) / q))
    return q, (1 - q) / rivals, rivals


@functools.cache
def refuting_prompts(miss: float, *, eps: float, config: Config) -> int:
    """Least n at which maximum likelihood picks pi^BoN, with this mass off Y*."""
    fails = lambda n: private_confusion(
        n, miss=miss, hard=2 * eps, delta=config.delta, count=1
    )
    return least_prompts(fails, rho=config.rho)


def fixed_need(q: float, *, eps: float, config: Config) -> float:
    """The least n N over multiples of the least N with (1-q)^N <= delta/2."""
    least = math.ceil(math.log(config.delta / 2) / math.log1p(-q))
    draws = [math.ceil(factor * least) for factor in config.overdraw]
    return min(
        float(n * refuting_prompts((1 - q) ** n, eps=eps, config=config)) for n in draws
    )


def adaptive_need(q: float, other: float, *, eps: float, config: Config) -> float:
    """n E[N_mu] at mu = ln(2/delta): y* is accepted from mu/q on, others from mu/p'."""
    threshold = math.log(2 / config.delta)
    first, last = math.ceil(threshold / q), math.ceil(threshold / other)
    hard_mean = two_level_draws(first, last, q=q)
    mean = (1 - 2 * eps) * math.ceil(threshold) + 2 * eps * hard_mean
    miss = math.exp(last * math.log1p(-q))
    return refuting_prompts(miss, eps=eps, config=config) * mean


def pair_needs(other: float, *, eps: float, config: Config) -> tuple[float, float]:
    """m = 2 n of regression and m = 2 T of XPO, ties going against the truth.

    A pair refutes with probability 2 h p'(1-p') when both are drawn from pi_base, as
    in the first round of XPO, and h (delta (1-p') + (1-delta) p') when the first is
    drawn from the rival, as in all other rounds.
    """
    passive = 2 * 2 * eps * other * (1 - other)
    active = 2 * eps * (config.delta * (1 - other) + (1 - config.delta) * other)
    log_rho = math.log(config.rho)
    pairs = math.ceil(log_rho / math.log1p(-passive))
    left = log_rho - math.log1p(-passive)  # after the first round
    rounds = 1 + max(0, math.ceil(left / math.log1p(-active)))
    return 2.0 * pairs, 2.0 * rounds


def needs(
    c_cov: float, margin: float, *, eps: float, config: Config
) -> dict[str, float]:
    """The least m of each algorithm against one rival; `fixed_need` knows no margin."""
    q, other, _ = hard_row(c_cov, margin, eps=eps)
    offline, xpo = pair_needs(other, eps=eps, config=config)
    return {
        FIXED: fixed_need(q, eps=eps, config=config),
        ADAPTIVE: adaptive_need(q, other, eps=eps, config=config),
        OFFLINE: offline,
        XPO: xpo,
    }


def run(config: Config, seed: int) -> list[Point]:
    """m against C_cov for every algorithm, margin and eps; nothing is sampled."""
    del seed
    points: list[Point] = []

    def add(
        panel: str, c_cov: float, margin: float, found: Mapping[str, float]
    ) -> None:
        for name, m in found.items():
            series = f"{name}{SEPARATOR}{margin:.6g}"
            points.append(Point(panel, series, "theory", c_cov, m))

    for row, eps in zip(ROWS, config.eps, strict=True):
        for margin in np.geomspace(*config.margin, config.steps).tolist():
            for c_cov in np.geomspace(*config.c_cov, config.steps).tolist():
                found = costs(c_cov, margin, eps=eps, config=config)
                add(f"{row}: guarantees", c_cov, margin, found)
        for margin in np.geomspace(*config.need_margin, config.need_steps).tolist():
            for c_cov in np.geomspace(*config.need_c_cov, config.need_steps).tolist():
                found = needs(c_cov, margin, eps=eps, config=config)
                add(f"{row}: needs", c_cov, margin, found)
    return points


def table(
    points: list[Point], panel: str
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " G"], dict[str, Grid]]:
    """Coverages [C], margins [G] and m [G C] by algorithm, from a panel's points."""
    found: dict[str, dict[float, list[Point]]] = {}
    for point in points:
        if point.panel == panel:
            name, margin = point.series.split(SEPARATOR)
            found.setdefault(name, {}).setdefault(float(margin), []).append(point)
    rows = next(iter(found.values()))
    covers = np.array([point.x for point in next(iter(rows.values()))])
    cost = {
        name: np.array([[point.y for point in row] for row in by_margin.values()])
        for name, by_margin in found.items()
    }
    return covers, np.array(list(rows)), cost


def draw(figure: Figure, axes: np.ndarray, points: list[Point]) -> None:
    """By row one eps; guarantees, those without adaptive N, needs. Lines: log10 m."""
    colours = dict(zip(ALGORITHMS, PALETTE, strict=False))
    for axis, panel in zip(axes.flat, PANELS, strict=True):
        names = NOT_ADAPTIVE if "without" in panel.name else ALGORITHMS
        covers, margins, cost = table(points, panel.name.removesuffix(WITHOUT))
        stacked = np.stack([cost[name] for name in names])
        axis.pcolormesh(
            covers,
            margins,
            stacked.argmin(0),
            cmap=ListedColormap([colours[name] for name in names]),
            vmin=-0.5,
            vmax=len(names) - 0.5,
            shading="nearest",
            alpha=0.55,
            rasterized=True,
        )
        lines = axis.contour(
            covers, margins, np.log10(stacked.min(0)), colors="k", linewidths=0.6
        )
        for label in axis.clabel(lines, fmt="%g", fontsize=7, inline=False):
            label.set_rotation(0)  # on its head a 6 is a 9
        axis.set(xscale="log", yscale="log", xlabel=panel.x, ylabel=panel.y)
        axis.set_title(panel.title, fontsize=10)
    patches = [Patch(color=colours[n], alpha=0.55, label=n) for n in ALGORITHMS]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8)


ROWS = ("first eps", "second eps")
WITHOUT = ", without adaptive N"
PANELS = tuple(
    Panel(f"{row}: {name}", "C_cov", "margin g_m", f"eps = {eps}: {name}", slopes=False)
    for row, eps in zip(ROWS, Config().eps, strict=True)
    for name in ("guarantees", f"guarantees{WITHOUT}", "needs")
)

CURVE = Curve(
    name="phase",
    says=(
        "Which algorithm is cheapest, at delta = 0.1. Guarantees: what the theorems "
        "ask for at log|Pi| = 20 and SEC = 10 log(T+1), with the constants of the "
        "proofs for SFT-Sharpening, 1 where the paper hides them (regression, XPO), "
        "and log(1+g_m) for the margin; regression wins nowhere. Needs: the "
        "least m, by exact laws, against a single rival. Lines: log10 of the least m."
    ),
    config=Config(),
    quick=QUICK,
    run=run,
    panels=PANELS,
    draw=draw,
)
