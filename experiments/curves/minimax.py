"""What any algorithm needs on the hard family of Thm 3.1', and what SFT pays there.

Expected: SFT-Sharpening with its best n and N pays about twice the non-adaptive
optimum, adaptive SFT about five times the adaptive one, at the optimum's slopes (-2 and
-1 in eps, 1 in C and d); as the theorems prescribe them, 10^4 to 10^6 times.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from experiments.curves.curve import Curve, Panel, Point
from theory.laws import two_level_draws
from theory.lower_bounds import ADAPTIVE, FIXED
from theory.minimax import (
    Cost,
    Hard,
    adaptive_optimum,
    adaptive_sft_optimum,
    fixed_optimum,
    hard,
    hard_coverage,
    sft_optimum,
)

DELTA = 0.5  # success is pihat(y*|x) > 1/2: failures are P_mu[pihat(Y*) <= 1-delta]


@dataclass(frozen=True)
class Config:
    """Each panel moves one of eps, C, d; the others stay at eps, c_cov, d."""

    eps: float = 1 / 64
    c_cov: float = 4.0
    d: int = 10
    all_eps: tuple[float, ...] = tuple(0.05 * 2.0**-k for k in range(7))
    all_c_cov: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    all_d: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)


def _prompts(family: Hard, *, rho: float, eps: float) -> int:
    """n of Thm 4.1' and D.1 from log|Pi|; `laws.prompts_needed` overflows at M^d."""
    constant = 2.0 / (1.0 - 1.0 / math.sqrt(2.0)) ** 2
    return math.ceil(constant * (family.log_class - math.log(rho)) / (DELTA * eps))


def sft_prescribed(family: Hard, *, eps: float) -> Cost:
    """n and N of Thm 4.1 with the constants of Thm 4.1', delta = 1/2.

    The mean of the failures is at most rho + statistical term + C_cov/N*: eps/2, eps/4
    and eps/4; N = N* log(2/delta).
    """
    responses = math.ceil(4 * hard_coverage(family) / eps * math.log(2 / DELTA))
    n = _prompts(family, rho=eps / 2, eps=eps / 4)
    return Cost(n, responses, n * responses)


def adaptive_sft_prescribed(family: Hard, *, eps: float) -> Cost:
    """mu = ln(2/delta) and n of Thm D.1, delta = 1/2: rho and the other term eps/2."""
    size, mu = family.size, math.log(2 / DELTA)
    first = math.ceil(mu * size / 2)  # y_{j*} is accepted from here on, all from `last`
    last = math.ceil(mu * size * (size - 1) / (size - 2))
    hard_mean = two_level_draws(first, last, q=2 / size)
    draws = (1 - family.weight) * math.ceil(mu) + family.weight * hard_mean
    n = _prompts(family, rho=eps / 2, eps=eps / 2)
    return Cost(n, draws, n * draws)


def least_queries(family: Hard, eps: float) -> dict[str, float]:
    """m, or E[m], of each algorithm at risk eps."""
    return {
        "best non-adaptive": fixed_optimum(family, eps=eps).m,
        "best adaptive": adaptive_optimum(family, eps=eps),
        "SFT, best n and N": sft_optimum(family, eps=eps).m,
        "adaptive SFT, best n and mu": adaptive_sft_optimum(family, eps=eps).m,
        "SFT, as prescribed": sft_prescribed(family, eps=eps).m,
        "adaptive SFT, as prescribed": adaptive_sft_prescribed(family, eps=eps).m,
    }


def lower_bounds(family: Hard, *, eps: float, c_cov: float) -> dict[str, float]:
    """c C log|Pi|/(eps^2 (1 + log(C/eps))), and eps for eps^2 if adaptive."""
    figure = c_cov / eps * family.log_class / (1 + math.log(c_cov / eps))
    return {"Thm 3.1": FIXED * figure / eps, "Thm D.2": ADAPTIVE * figure}


def _sweep(panel: str, x: tuple, at: Callable[[float], dict]) -> list[Point]:
    points = []
    for value in x:
        goal = at(value)
        family = hard(**goal)
        needed = least_queries(family, goal["eps"])
        bounds = lower_bounds(family, eps=goal["eps"], c_cov=goal["c_cov"])
        add = lambda kind, found, x=float(value): [
            Point(panel, series, kind, x, float(m)) for series, m in found.items()
        ]
        points += add("measured", needed) + add("bound", bounds)
    return points


def _times_the_optimum(points: list[Point]) -> list[Point]:
    """Each algorithm's m over the optimum of its own kind, along eps."""
    m = {(p.series, p.x): p.y for p in points if p.panel == "eps"}
    best = lambda s: "best adaptive" if "adaptive" in s else "best non-adaptive"
    return [
        Point("times", series, "measured", x, y / m[best(series), x])
        for (series, x), y in m.items()
        if "SFT" in series
    ]


def run(config: Config, seed: int) -> list[Point]:
    """All four panels; nothing is sampled."""
    del seed
    base = {"eps": config.eps, "c_cov": config.c_cov, "d": config.d}
    points = _sweep("eps", config.all_eps, lambda eps: base | {"eps": eps})
    points += _sweep("C", config.all_c_cov, lambda c_cov: base | {"c_cov": c_cov})
    points += _sweep("d", config.all_d, lambda d: base | {"d": d})
    return points + _times_the_optimum(points)


QUERIES = "queries m"

CURVE = Curve(
    name="minimax",
    says=(
        "The exact least number of queries on the hard family of Thm 3.1' (M = 1 + "
        "C/eps, Delta = 16 eps, so that C_cov is about 8 C), of any algorithm and of "
        "SFT-Sharpening on the same instance; fourth panel: how many times the optimum "
        "of its kind, non-adaptive or adaptive, each algorithm pays. The lines of Thm "
        "3.1 and D.2 have our constants, 0.086 and 0.46 (the paper hides them)."
    ),
    config=Config(),
    quick=Config(
        all_eps=(0.05, 0.02, 0.01), all_c_cov=(1.0, 3.0, 10.0), all_d=(1, 3, 10)
    ),
    run=run,
    panels=(
        Panel("eps", "eps", QUERIES, "C = 4, d = 10"),
        Panel("C", "C", QUERIES, "eps = 1/64, d = 10"),
        Panel("d", "d", QUERIES, "eps = 1/64, C = 4"),
        Panel("times", "eps", "m / optimum", "C = 4, d = 10", slopes=False),
    ),
)
