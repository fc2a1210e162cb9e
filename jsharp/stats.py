"""Intervals, verdicts and slopes; every one states its level (false-alarm probability).

NumPy and SciPy on the host: nothing here runs inside jit.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import scipy.stats

Outcome = Literal["holds", "fails", "undecided"]


class Interval(NamedTuple):
    """An estimate with a two-sided confidence interval."""

    estimate: float
    low: float
    high: float


def clopper_pearson(k: int, n: int, *, level: float) -> Interval:
    """Exact two-sided interval for a probability after k successes in n trials.

    It misses the true probability with probability at most `level`.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"expected 0 <= k <= n and n >= 1, found k={k}, n={n}")
    interval = scipy.stats.binomtest(k, n).proportion_ci(1 - level, method="exact")
    return Interval(k / n, float(interval.low), float(interval.high))


def verdict(interval: Interval, bound: float) -> Outcome:
    """Judge `probability <= bound`: holds if the whole interval does, fails if none."""
    if interval.high <= bound:
        return "holds"
    return "fails" if interval.low > bound else "undecided"


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    level: float,
    seed: int,
    resamples: int = 2000,
) -> Interval:
    """Percentile bootstrap over the first axis (prompts) of `values` [B ...].

    Its level is asymptotic in B; where all prompts agree its width is zero.
    `statistic` maps a resampled [R B ...] stack to [R]; paired comparisons keep both
    arms in the trailing axes, so that a prompt is resampled with both of its results.
    """
    values = np.asarray(values)
    rows = np.random.default_rng(seed).integers(
        0, len(values), (resamples, len(values))
    )
    draws = statistic(values[rows])
    low, high = np.quantile(draws, [level / 2, 1 - level / 2])
    return Interval(float(statistic(values[None])[0]), float(low), float(high))


def mean_interval(values: np.ndarray, *, level: float, seed: int) -> Interval:
    """Bootstrap interval of a mean over prompts."""
    return bootstrap(values, lambda v: v.mean(1), level=level, seed=seed)


def quantile(values: np.ndarray, probability: float, *, level: float) -> Interval:
    """The least v with P[value <= v] >= probability, from independent draws.

    Order statistics as ends, by the binomial law of how many draws fall below the
    quantile: the interval misses it with probability at most `level`, whatever the law.
    Raises ValueError when there are too few draws for that.
    """
    ranked, size = np.sort(values), len(values)
    law = scipy.stats.binom(size, probability)
    low, high = int(law.ppf(level / 2)), int(law.ppf(1 - level / 2)) + 1
    if not 1 <= low < high <= size:
        raise ValueError(f"expected more draws for a {probability} quantile: {size}")
    middle = int(np.ceil(probability * size * (1 - 1e-12)))
    return Interval(*(float(ranked[k - 1]) for k in (middle, low, high)))


class Slope(NamedTuple):
    """The exponent b of y = a x^b, with its regression interval."""

    slope: float
    low: float
    high: float


def loglog_slope(x: np.ndarray, y: np.ndarray, *, level: float) -> Slope:
    """Least squares of log y on log x; Student-t interval of the slope."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or (x <= 0).any() or (y <= 0).any():
        raise ValueError(f"expected >= 3 positive points, found x={x}, y={y}")
    if np.ptp(y) == 0:  # no residuals; SciPy's interval would be NaN
        return Slope(0.0, 0.0, 0.0)
    fit = np.asarray(scipy.stats.linregress(np.log(x), np.log(y)))
    slope, error = fit[0], fit[4]
    half = scipy.stats.t.ppf(1 - level / 2, len(x) - 2) * error
    return Slope(float(slope), float(slope - half), float(slope + half))
