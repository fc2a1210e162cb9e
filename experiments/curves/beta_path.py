"""Reward gap against KL: the whole beta path, and best-of-N beside it (Eq 3).

The reward is r = log pi_base. E_{pi*}[r] - E_pi[r], pi* living on Y*, is what there is
left to gain, and KL(pi||pi_base) what has been paid. pi*_beta maximises
J_beta(pi) = E_pi[r] - beta KL(pi||pi_base), so that no policy lies below its path: it
is the Pareto frontier. Best-of-N, which is also what SFT-Sharpening fits, and adaptive
best-of-N follow paths of their own, from the exact laws.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.curves.curve import Curve, Kind, Panel, Point
from theory import families
from theory.laws import adaptive_law, best_of_n_law
from theory.precision import Scalar
from theory.quantities import Table, kl, kl_log, log_pi_star_beta, log_probability

TILTED, BEST, ADAPTIVE = "pi*_beta", "best of N (SFT)", "adaptive best of N"
BOUND = "best of N at log N - (N-1)/N"


@dataclasses.dataclass(frozen=True)
class Config:
    """One row of pi_base for each panel, and the three grids."""

    responses: int = 200
    zipf_exponent: float = 1.0
    decay: float = 0.9
    near_tie: float = 0.9
    dirichlet: float = 1.0
    betas: int = 200
    beta_range: tuple[float, float] = (0.005, 100.0)
    most_draws: int = 10_000
    draws: int = 25
    thresholds: int = 25
    threshold_range: tuple[float, float] = (0.05, 30.0)
    least_gap: float = 1e-3
    """Below, all paths end at KL = -log pi_base(Y*), and rounding has a say."""


QUICK = Config(betas=40, draws=9, thresholds=9)


def rows(config: Config, seed: int) -> dict[str, Float[np.ndarray, " Y"]]:
    """The base policies, by panel; only the Dirichlet one depends on the seed."""
    size, rng = config.responses, np.random.default_rng(seed)
    return {
        "zipf": families.zipf(size, exponent=config.zipf_exponent),
        "geometric": families.geometric(size, decay=config.decay),
        "near_tie": families.two_level(size, best=1, ratio=config.near_tie),
        "dirichlet": rng.dirichlet(np.full(size, config.dirichlet)),
    }


def reward_gap(pi: Table, base: Table) -> Float[Array, " X"]:
    """max_y log pi_base - E_pi[log pi_base]: sum pi log(max pi_base/pi_base)."""
    reward = log_probability(base)
    short = jnp.max(reward, axis=-1, keepdims=True) - reward
    return jnp.sum(jnp.where(pi > 0, pi * jnp.where(pi > 0, short, 0.0), 0.0), axis=-1)


def tilted_point(base: Table, beta: Scalar) -> tuple[Array, Array]:
    """KL and gap of pi*_beta, in logs: small beta underflows."""
    log_pi = log_pi_star_beta(base, beta=beta)
    gap = reward_gap(jnp.exp(log_pi), base)
    return kl_log(log_pi, log_probability(base))[0], gap[0]


def best_point(base: Table, n: Scalar) -> tuple[Array, Array]:
    """KL and gap of pi^BoN_N."""
    law = best_of_n_law(base, base, n=n)
    return kl(law, base)[0], reward_gap(law, base)[0]


def adaptive_point(base: Table, threshold: Scalar) -> tuple[Array, Array]:
    """KL and gap of adaptive best-of-N at this mu (Eq 10)."""
    law = adaptive_law(base, mu_threshold=threshold).response
    return kl(law, base)[0], reward_gap(law, base)[0]


def along(
    point: Callable[[Table, Scalar], tuple[Array, Array]],
    bases: Float[Array, "F Y"],
    grid: Float[np.ndarray, " G"],
) -> tuple[Float[np.ndarray, "F G"], Float[np.ndarray, "F G"]]:
    """KL and gap of one path for every family."""

    def path(row: Float[Array, " Y"]) -> tuple[Array, Array]:
        return jax.lax.map(partial(point, row[None, :]), jnp.asarray(grid))

    kls, gaps = jax.jit(lambda b: jax.lax.map(path, b))(bases)
    return np.asarray(kls), np.asarray(gaps)


def kl_bound(n: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """KL(pi^BoN_N||pi_base) <= log N - (N-1)/N, with equality without ties or atoms."""
    return np.log(n) - (n - 1) / n


def run(config: Config, seed: int) -> list[Point]:
    """The paths of all panels; gaps below `least_gap` are left out."""
    found = rows(config, seed)
    bases = jnp.asarray(np.stack(list(found.values())))
    beta = np.geomspace(*config.beta_range, config.betas)
    draws = np.unique(np.rint(np.geomspace(1, config.most_draws, config.draws)))
    threshold = np.geomspace(*config.threshold_range, config.thresholds)
    tilted = along(tilted_point, bases, beta)
    best = along(best_point, bases, draws)
    adaptive = along(adaptive_point, bases, threshold)
    points = []
    for k, panel in enumerate(found):
        paths: tuple[tuple[str, Kind, np.ndarray, np.ndarray], ...] = (
            (TILTED, "theory", tilted[0][k], tilted[1][k]),
            (BOUND, "bound", kl_bound(draws), best[1][k]),
            (BEST, "measured", best[0][k], best[1][k]),
            (ADAPTIVE, "measured", adaptive[0][k], adaptive[1][k]),
        )
        for series, kind, x, y in paths:
            points += [
                Point(panel, series, kind, float(a), float(b))
                for a, b in zip(x, y, strict=True)
                if b > config.least_gap
            ]
    return points


TITLES = {
    "zipf": "Zipf, exponent 1",
    "geometric": "geometric, decay 0.9",
    "near_tie": "199 rivals at 0.9 of the mode",
    "dirichlet": "uniform Dirichlet",
}

CURVE = Curve(
    name="beta_path",
    says=(
        "Reward gap E_pi*[r] - E_pi[r], r = log pi_base, against KL(pi||pi_base), "
        "exact, on 200 responses. The path of pi*_beta is the Pareto frontier; best of "
        "N and adaptive best of N lie within 30% above it, and on it where pi_base "
        "has two levels. Dotted: best of N if it paid its bound KL <= log N - (N-1)/N."
    ),
    config=Config(),
    quick=QUICK,
    run=run,
    panels=tuple(
        Panel(
            name,
            "KL(pi || pi_base) [nats]",
            "reward gap [nats]",
            title,
            log="y",
            slopes=False,
        )
        for name, title in TITLES.items()
    ),
)
