"""Selection by hand and by enumeration of every subset."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.selection import (
    adaptive_stop,
    best_of_every_k,
    best_of_k,
    best_of_n,
    coverage_at_k,
)


def test_best_of_n_takes_the_first_of_equals():
    score = jnp.asarray([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0], [-jnp.inf, -5.0, -5.0]])
    np.testing.assert_array_equal(best_of_n(score), [[1], [0], [1]])


def by_definition(probs, mu):
    """Eq 10 in exact arithmetic on the probabilities themselves."""
    for k in range(1, len(probs) + 1):
        if 1 / max(probs[:k]) <= k / mu:
            return k
    return None


def test_adaptive_stop_is_eq_10():
    rng = np.random.default_rng(0)
    mu = math.log(2 / 0.3)
    rows = rng.dirichlet(np.ones(8), size=200)
    draws = np.stack([p[rng.choice(8, size=12, p=p)] for p in rows])
    stop = adaptive_stop(jnp.log(jnp.asarray(draws, jnp.float32)), log_mu=math.log(mu))
    expected = [by_definition(row, mu) for row in draws]
    assert None in expected and len(set(expected)) > 4
    for row, want, time, stopped, best in zip(
        draws, expected, stop.time, stop.stopped, stop.best[:, 0], strict=True
    ):
        assert bool(stopped) == (want is not None)
        assert int(time) == (want or 12)
        assert int(best) == row[: int(time)].argmax()


def test_adaptive_stop_continues_a_row_where_it_broke_off():
    log_prob = jnp.log(jnp.asarray([[0.05, 0.1, 0.05, 0.2, 0.1, 0.1, 0.1, 0.1]]))
    whole = adaptive_stop(log_prob, log_mu=0.0)
    first = adaptive_stop(log_prob[:, :3], log_mu=0.0)
    rest = adaptive_stop(
        log_prob[:, 3:], log_mu=0.0, seen=3, best=log_prob[:, :3].max(1)
    )
    assert not bool(first.stopped[0])
    assert int(rest.time[0]) + 3 == int(whole.time[0]) == 5


def by_every_subset(score, value, k):
    """The mean of the best of k, ties shared, over all subsets of k candidates."""
    expected = np.zeros(len(score))
    for b, n in enumerate([score.shape[1]] * len(score)):
        subsets = list(itertools.combinations(range(n), k))
        for subset in subsets:
            top = max(score[b, i] for i in subset)
            winners = [i for i in subset if score[b, i] == top]
            expected[b] += np.mean([value[b, i] for i in winners]) / len(subsets)
    return expected


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_best_of_k_is_the_mean_over_every_subset(k):
    rng = np.random.default_rng(k)
    score = rng.integers(0, 3, size=(5, 6)).astype(float)  # many ties
    value = rng.random((5, 6))
    expected = by_every_subset(score, value, k)
    np.testing.assert_allclose(best_of_k(score, value, k), expected, rtol=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 100])
def test_best_of_every_k_is_the_mean_over_every_subset(levels):
    rng = np.random.default_rng(levels)
    score = rng.integers(0, levels, size=(5, 6)).astype(float)
    score[0, :2] = -np.inf  # a reward may be that, and ties as any other
    value = rng.normal(size=(5, 6))
    found = best_of_every_k(score, value)
    expected = np.stack([by_every_subset(score, value, k) for k in range(1, 7)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_best_of_every_k_of_thousands():
    """The mean rank of a maximum of k among n = 1500: k (n + 1) / (k + 1)."""
    n = 1500
    rank = np.random.default_rng(0).permutation(n)[None] + 1.0
    k = np.arange(1.0, n + 1)[None]
    np.testing.assert_allclose(best_of_every_k(rank, rank), k * (n + 1) / (k + 1))


def test_best_of_every_k_refuses_a_score_that_is_no_number():
    with pytest.raises(ValueError, match="found NaN at"):
        best_of_every_k(np.array([[0.0, np.nan]]), np.zeros((1, 2)))


def test_best_of_k_leaves_each_tied_candidate_an_equal_weight():
    value = np.array([[1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(best_of_k(np.zeros((1, 4)), value, 3), [0.25])


def test_coverage_at_k_is_the_unbiased_pass_at_k():
    correct = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]])
    for k in (1, 2, 3, 4):
        c = correct.sum(1)
        expected = [1 - math.comb(4 - int(i), k) / math.comb(4, k) for i in c]
        np.testing.assert_allclose(coverage_at_k(correct, k), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [0, 5])
def test_best_of_k_refuses_k_outside_its_range(k):
    with pytest.raises(ValueError, match=f"expected 1 <= k <= n=4, found k={k}"):
        best_of_k(np.zeros((1, 4)), np.zeros((1, 4)), k)


def test_best_of_k_of_thousands():
    """n = 2000 > 1030, where C(n, k) overflows: the mean rank of a maximum, exactly."""
    n, k = 2000, 1000
    rank = np.arange(1.0, n + 1)[None]
    np.testing.assert_allclose(best_of_k(rank, rank, k), [k * (n + 1) / (k + 1)])


def test_best_of_k_refuses_a_score_that_is_no_number():
    with pytest.raises(ValueError, match="found NaN at"):
        best_of_k(np.array([[0.0, np.nan]]), np.zeros((1, 2)), 1)
