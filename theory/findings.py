"""All that a pilot tells, in one JSON object.

pilot, modes, self-rewards -> coverage, margins, signals, prices, predictions -> verdict
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jsharp.selection import coverage_at_k
from jsharp.stats import Interval, mean_interval
from theory import diagnosis, prices, signals
from theory.advice import advice
from theory.diagnosis import Bounds, Masses
from theory.pilot import Known, Pilot
from theory.precision import TIE
from theory.prediction import predictions
from theory.prices import Goal

_TRUNCATED = (4.0, 16.0, 64.0, 256.0, 1024.0)  # M of E[min(1/pi, M)]
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class Options(NamedTuple):
    """What was asked for; half of `level` is for what was not drawn, half for mu."""

    goal: Goal
    gamma: float
    level: float
    seed: int
    log_responses: float  # log|Y|, of the bound for XPO


def findings(
    pilot: Pilot,
    known: Known,
    rewards: Mapping[str, Float[np.ndarray, "B N"]],
    right: Float[np.ndarray, " B"] | None,
    options: Options,
) -> dict[str, Any]:
    """Everything but what the run was; `right` says whether y* is, NaN: not known."""
    seeded = {"level": options.level, "seed": options.seed}
    steps = signals.lift(
        *(pilot.log_prob, pilot.length, pilot.correct, pilot.greedy_correct), **seeded
    )
    mass = diagnosis.maximisers(known, level=options.level / 2)
    alone = mass.low[diagnosis.unique(known)]
    hits = {step.k: _hits(alone, step.k, **seeded) for step in steps}
    found = {
        "modes": _modes(known),
        "coverage": _coverage(known, mass, options),
        "margin": _margin(known, options),
        "length": _length(pilot, **seeded),
        "rewards": _rewards(pilot, rewards, **seeded),
        "lift": [step._asdict() for step in steps],
        "accuracy": _accuracy(pilot, right, **seeded),
        "price": _price(known, mass, options),
        "predictions": predictions(steps, hits),
    }
    return found | {"verdict": advice(found, steps, options.goal)}


def _modes(known: Known) -> dict[str, int]:
    sure = diagnosis.certified(known)
    return {
        "prompts": len(sure),
        "draws": known.place.shape[1],
        "certified": int(sure.sum()),
        "by_search": int(known.searched.sum()),
        "tied": int((sure & (diagnosis.ties(known) > 1)).sum()),
    }


def _hits(mass: Masses, draws: int, *, level: float, seed: int) -> Interval | None:
    """Mean of P[best of N is y*] over the prompts where y* is certain and not tied."""
    if not len(mass):
        return None
    found = prices.found_by(mass, draws)
    return mean_interval(found, level=level, seed=seed)


def _coverage(known: Known, mass: Bounds, options: Options) -> dict[str, Any]:
    half = options.level / 2
    size, draws = known.place.shape
    near = diagnosis.near_maximisers(known, gamma=options.gamma, level=half)
    cut = lambda most: diagnosis.truncated_coverage(mass, most=most, level=half)
    grid = thresholds(mass)
    return {
        "C_cov": diagnosis.coverage(mass),
        "C_cov_g": diagnosis.coverage(near),
        "gamma": options.gamma,
        "truncated": [
            dict(zip(("most", "here", "mu"), (most, *cut(most)), strict=True))
            for most in _TRUNCATED
        ],
        "unseen": diagnosis.missed(draws, prompts=size, level=half),
        "band": diagnosis.band(size, level=half),
        "profile": diagnosis.profile(mass, grid, level=half)._asdict(),
    }


def thresholds(mass: Bounds) -> Float[np.ndarray, " M"]:
    """M from 1 to beyond the largest finite 1/pi, 32 to a factor of ten."""
    inverse = diagnosis.inverse(mass.low)
    largest = np.max(inverse, initial=10.0, where=np.isfinite(inverse))
    return 10 ** (np.arange(math.ceil(32 * math.log10(largest)) + 2) / 32)


def _margin(known: Known, options: Options) -> dict[str, Any]:
    bounds = diagnosis.margins(known, level=options.level / 2)
    at = lambda values, q: float(np.quantile(values, q, method="lower"))
    return {
        "exact": int(bounds.exact.sum()),
        "quantiles": [
            {"share": q, "low": at(bounds.low, q), "high": at(bounds.high, q)}
            for q in _QUANTILES
        ],
        "at_half_eps": reached(bounds.low, eps=options.goal.eps / 2),
    }


def reached(values: Float[np.ndarray, " B"], *, eps: float) -> float:
    """The largest v that all but a share eps of the values are at or above."""
    return float(
        np.sort(values)[min(int(eps * len(values) * (1 + TIE)), len(values) - 1)]
    )


def _length(pilot: Pilot, *, level: float, seed: int) -> dict[str, Any]:
    bias = signals.rank_correlation(
        pilot.log_prob, pilot.length, level=level, seed=seed
    )
    return {"correlation": bias._asdict(), "cut": float(pilot.cut.mean())}


def _rewards(pilot: Pilot, rewards, *, level: float, seed: int) -> list[dict[str, Any]]:
    if pilot.correct is None:
        return []
    rows = {
        name: signals.auc(score, pilot.correct, level=level, seed=seed)
        for name, score in rewards.items()
    }
    return [{"reward": name, **found._asdict()} for name, found in rows.items()]


def _accuracy(pilot: Pilot, right, *, level: float, seed: int) -> dict[str, Any] | None:
    if pilot.correct is None:
        return None
    mean = lambda value: mean_interval(np.asarray(value, float), level=level, seed=seed)
    n = pilot.correct.shape[1]
    greedy = pilot.greedy_correct
    limit = None if right is None else signals.limit_accuracy(right, level=level)
    return {
        "sample": mean(pilot.correct.mean(1)),
        "greedy": None if greedy is None else mean(greedy),
        "any": mean(coverage_at_k(pilot.correct, n)),
        "mode_here": limit and limit[0],
        "mode": limit and limit[1],
    }


def _price(known: Known, mass: Bounds, options: Options) -> dict[str, Any]:
    goal, half = options.goal, options.level / 2
    top = diagnosis.likeliest(known, level=half)
    margin = reached(diagnosis.margins(known, level=half).low, eps=goal.eps / 2)
    cover = diagnosis.coverage(mass)
    need = [
        prices.draws_needed(side, delta=goal.delta) for side in (mass.high, mass.low)
    ]
    each = prices.prices(
        mass, top, goal, margin=margin, log_responses=options.log_responses
    )
    adaptive = prices.adaptive_draws(top, delta=goal.delta)
    steps = signals.doublings(1024)
    return {
        "N": [prices.least_draws(side, eps=goal.eps) for side in need],
        "N_mu": prices.population_draws(
            mass, eps=goal.eps, delta=goal.delta, level=half
        ),
        "N_theorem": [prices.theorem_draws(c, goal) for c in cover],
        "E_N_adaptive": [float(side.mean()) for side in adaptive],
        "n": prices.prompts(goal, eps=goal.eps / 2),
        "beta": prices.regression_beta(goal, margin=margin, cover=cover[1]),
        "algorithms": {name: price._asdict() for name, price in each.items()},
        "cheapest": min(each, key=lambda name: each[name].m[1]),
        "found": [
            {
                "N": n,
                "mean": [
                    float(prices.found_by(side, n).mean())
                    for side in (mass.low, mass.high)
                ],
                "sharpened": [float((side <= n).mean()) for side in need[::-1]],
            }
            for n in steps
        ],
    }
