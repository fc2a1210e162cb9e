"""What (eps, delta)-sharpening costs on a real model, from bounds on its coverage.

N by the exact law of best-of-N, n and m by the theorems as repaired in errata.md. The
prompts of the pilot stand for mu; a bound on pi(Y*|x) gives one on every cost.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from jsharp.stats import quantile
from theory.diagnosis import Bounds, Masses, coverage, inverse
from theory.laws import prompts_needed
from theory.precision import TIE
from theory.s4_linear import explicit
from theory.s4_xpo_form import ROUNDS


def draws_needed(mass: Masses, *, delta: float) -> Masses:
    """Least N with 1 - (1-q)^N >= 1-delta, for q = pi(Y*|x) (Prop C.1's exact law).

    `theory.laws.least_n_by_prompt` on a table; here only q is known.
    """
    with np.errstate(divide="ignore"):
        exact = math.log(delta) / np.log1p(-np.minimum(mass, 1.0))
    return np.maximum(1.0, np.ceil(exact * (1.0 - TIE)))


def least_draws(needed: Masses, *, eps: float) -> float:
    """Least N that is enough for a share of at least 1-eps of the prompts."""
    enough = math.ceil(len(needed) * (1 - eps) * (1 - TIE))
    return float(np.sort(needed)[max(enough, 1) - 1])


def population_draws(
    mass: Bounds, *, eps: float, delta: float, level: float
) -> tuple[float, float] | None:
    """Interval for the (1-eps)-quantile of `draws_needed` over mu; None: B too small.

    By the binomial law of order statistics; its level adds to that of `mass`.
    """
    try:
        ends = [
            quantile(draws_needed(side, delta=delta), 1 - eps, level=level)
            for side in (mass.high, mass.low)
        ]
    except ValueError:
        return None
    return ends[0].low, ends[1].high


def found_by(mass: Masses, draws: int) -> Masses:
    """pi^BoN_N(Y*|x) = 1 - (1-q)^N."""
    return -np.expm1(draws * np.log1p(-np.minimum(mass, 1 - 1e-16)))


def adaptive_draws(top: Bounds, *, delta: float) -> tuple[Masses, Masses]:
    """Bounds on E[N_mu(x)], mu = ln(2/delta), from those on P* = max_y pi (Eq 10).

    N_mu >= mu/P*, and it is largest where the maximiser is alone among infinitely many
    rivals that are never accepted: ceil(mu/P*) + (1-P*)^ceil(mu/P*)/P*, the limit of
    `theory.laws.two_level_draws`.
    """
    threshold = math.log(2 / delta)
    wait = lambda mass: np.ceil(threshold * inverse(mass) * (1 - TIE))
    first, q = wait(top.low), np.clip(top.low, 1e-300, 1 - 1e-16)
    return wait(top.high), first + np.exp(first * np.log1p(-q)) / q


class Price(NamedTuple):
    """What a guarantee asks for: n prompts, N responses to each, m = n N in all."""

    n: float
    N: tuple[float, float]
    m: tuple[float, float]


class Goal(NamedTuple):
    """What is asked of the sharpened policy, and of the class it is chosen from."""

    eps: float
    delta: float
    rho: float
    log_class: float  # log|Pi|
    dimension: int  # d, of the bound on the SEC


def prompts(goal: Goal, *, eps: float) -> float:
    """n = ceil( 23.3 log(|Pi|/rho)/(delta eps) ), the statistical term of Thm 4.1'."""
    fit = {"class_size": math.exp(goal.log_class), "rho": goal.rho}
    with jax.enable_x64(True):
        return float(prompts_needed(**fit, delta=goal.delta, eps=eps))


def _price(n: float, each: tuple[float, float]) -> Price:
    return Price(n, each, (n * each[0], n * each[1]))


def theorem_draws(cover: float, goal: Goal) -> float:
    """N = ceil( 2 C_cov log(2/delta)/eps ), by Markov's inequality (Thm 4.1)."""
    exact = 2 * cover * math.log(2 / goal.delta) / goal.eps * (1 - TIE)
    return float(np.ceil(exact))


def prices(
    mass: Bounds, top: Bounds, goal: Goal, *, margin: float, log_responses: float
) -> dict[str, Price]:
    """The guaranteed cost of each algorithm on these prompts, as the repairs have it.

    fixed N       n of the proof and the exact N at eps/2, delta/2        Thm 4.1'
    adaptive N    n of the proof, E[N_mu]                                 Thm D.1
    regression    2 x 8 C log(|Pi|/rho)/(delta eps/2)^2, C_conc = C_cov   Thm 4.2
    XPO           2 T, T-1 = 13800 (2R)^2 SEC L/(eps/2 delta beta)^2      Thm 4.3
                  SEC = 16 (d+1) log(1 + 8T/(d+1))/log 9, linear class    Lem J.5

    `margin` is log(1+g_m) on all but eps/2 of the prompts; the other eps/2 is for bias
    and fit. Where it is 0, the last two promise nothing. Favourable to them: C_conc =
    C_cov is what Lem 4.1 grants pi*_beta, other members may need more; XPO has beta =
    margin/log(2|Y|/delta) and R_max = V_max = 1 + margin + log C_cov.
    """
    log_size = goal.log_class - math.log(goal.rho)
    need = lambda m: least_draws(
        draws_needed(m, delta=goal.delta / 2), eps=goal.eps / 2
    )
    few, many = adaptive_draws(top, delta=goal.delta)
    cover = coverage(mass)
    pairs = 8 * log_size / (goal.delta * goal.eps / 2) ** 2
    fit = [pairs * c if margin > 0 else math.inf for c in cover]
    rounds = [
        _rounds(c, goal, margin=margin, log_responses=log_responses) for c in cover
    ]
    return {
        "fixed N": _price(
            prompts(goal, eps=goal.eps / 2), (need(mass.high), need(mass.low))
        ),
        "adaptive N": _price(
            prompts(goal, eps=goal.eps), (float(few.mean()), float(many.mean()))
        ),
        "regression": Price(
            float(np.ceil(fit[0])), (2.0, 2.0), (2 * fit[0], 2 * fit[1])
        ),
        "XPO": Price(rounds[0], (2.0, 2.0), (2 * rounds[0], 2 * rounds[1])),
    }


def regression_beta(goal: Goal, *, margin: float, cover: float) -> float:
    """beta = log(1+g_m) delta (eps/2)/(2 log C_cov), the largest of Thm 4.2 repaired.

    `margin` is log(1+g_m) on all but eps/2 of the prompts, as in `prices`.
    """
    scale = 2 * math.log(cover) if cover > 1 else 0.0
    if not margin > 0:
        return 0.0
    return margin * goal.delta * goal.eps / 2 / scale if scale else math.inf


def _rounds(cover: float, goal: Goal, *, margin: float, log_responses: float) -> float:
    if not margin > 0 or not math.isfinite(cover):
        return math.inf
    # 2R/beta, which falls with the margin: no rival at all is the easiest case.
    reach = 2 * ((1 + math.log(cover)) / margin + 1)
    reach *= math.log(2 / goal.delta) + log_responses
    scale = ROUNDS * (reach / (goal.eps / 2 * goal.delta)) ** 2
    log_net = goal.log_class + math.log(2 / goal.rho)
    rounds = 2.0
    for _ in range(100):  # T = 1 + c log^2 T climbs to its fixed point
        dimension = max(float(explicit(goal.dimension, int(min(rounds, 1e300)))), 1.0)
        rounds = 1 + scale * dimension * (log_net + math.log(rounds))
    return rounds
