"""Statistics against SciPy's laws and hand arithmetic."""

import numpy as np
import pytest
import scipy.stats

from jsharp.stats import (
    Interval,
    bootstrap,
    clopper_pearson,
    loglog_slope,
    mean_interval,
    quantile,
    verdict,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (500, 1000)])
def test_clopper_pearson_ends_are_the_binomial_tails(k, n):
    """At each end the tail that the observation lies in has mass level/2."""
    got = clopper_pearson(k, n, level=0.01)
    if k > 0:
        tail = scipy.stats.binom.sf(k - 1, n, got.low)
        np.testing.assert_allclose(tail, 0.005, rtol=1e-6)
    if k < n:
        tail = scipy.stats.binom.cdf(k, n, got.high)
        np.testing.assert_allclose(tail, 0.005, rtol=1e-6)
    assert got.low <= got.estimate <= got.high
    assert (got.low == 0) == (k == 0) and (got.high == 1) == (k == n)


def test_clopper_pearson_covers_at_its_level_exactly_summed():
    """Sum over all outcomes, no sampling: it misses with probability <= level."""
    for p in (0.03, 0.4):
        missed = 0.0
        for k in range(31):
            low, high = clopper_pearson(k, 30, level=0.1)[1:]
            missed += (not low <= p <= high) * scipy.stats.binom.pmf(k, 30, p)
        assert missed <= 0.1


def test_clopper_pearson_refuses_nonsense():
    with pytest.raises(ValueError, match="found k=5, n=4"):
        clopper_pearson(5, 4, level=0.1)


def test_verdicts():
    interval = Interval(0.2, 0.1, 0.3)
    assert verdict(interval, 0.3) == "holds"
    assert verdict(interval, 0.2) == "undecided"
    assert verdict(interval, 0.05) == "fails"


def test_loglog_slope_finds_the_exponent():
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    exact = loglog_slope(x, 3 * x**-2, level=0.05)
    np.testing.assert_allclose(exact, [-2, -2, -2], atol=1e-9)
    noisy = loglog_slope(x, x**-2 * np.array([1.1, 0.9, 1.05, 0.95, 1.0]), level=0.05)
    assert noisy.low < -2 < noisy.high and noisy.high - noisy.low > 0.01
    y = x**-2 * np.array([1.1, 0.9, 1.05, 0.95, 1.0])
    line = scipy.stats.linregress(np.log(x), np.log(y))
    half = scipy.stats.t.ppf(0.975, 3) * line.stderr
    ends = [line.slope, line.slope - half, line.slope + half]
    np.testing.assert_allclose(noisy, ends)
    flat = loglog_slope(x, np.full(5, 3333.0), level=0.05)
    np.testing.assert_array_equal(flat, [0, 0, 0])


@pytest.mark.parametrize("y", [[1.0, 2.0], [1.0, 0.0, 2.0]])
def test_loglog_slope_refuses_too_few_or_non_positive(y):
    with pytest.raises(ValueError, match="positive points"):
        loglog_slope(np.arange(1.0, len(y) + 1), np.array(y), level=0.05)


def test_bootstrap_is_the_normal_interval_in_the_limit():
    values = np.random.default_rng(0).normal(size=2000)
    got = mean_interval(values, level=0.05, seed=1)
    half = 1.96 * values.std() / np.sqrt(2000)
    np.testing.assert_allclose(got.estimate, values.mean())
    # 2000 resamples put each end within a few per cent of its limit.
    np.testing.assert_allclose(
        [got.low, got.high], values.mean() + [-half, half], atol=0.15 * half
    )


def test_bootstrap_resamples_both_arms_together():
    """A constant paired difference has an interval of width zero."""
    a = np.random.default_rng(0).normal(size=100)
    pairs = np.stack([a, a + 0.5], 1)
    gap = bootstrap(
        pairs, lambda v: (v[..., 1] - v[..., 0]).mean(1), level=0.05, seed=0
    )
    np.testing.assert_allclose(gap, [0.5, 0.5, 0.5])


@pytest.mark.parametrize("size", [60, 101, 500])
def test_the_interval_of_a_quantile_has_its_level(size):
    """Uniform draws: [X_(l), X_(u)] covers 0.9 iff l <= #(X <= 0.9) < u, binomially."""
    interval = quantile(np.arange(1.0, size + 1), 0.9, level=0.05)
    low, high = int(interval.low), int(interval.high)
    below = scipy.stats.binom(size, 0.9)
    covered = below.cdf(high - 1) - below.cdf(low - 1)
    assert covered >= 0.95
    assert below.cdf(high - 2) - below.cdf(low) < 0.96  # two ranks fewer are too few
    assert interval.estimate == np.ceil(0.9 * size)
    ordered = np.random.default_rng(0).permutation(np.arange(1.0, size + 1))
    assert quantile(ordered, 0.9, level=0.05) == interval


def test_a_quantile_needs_draws():
    with pytest.raises(ValueError, match="more draws for a 0.9 quantile: 5"):
        quantile(np.arange(5.0), 0.9, level=0.05)
