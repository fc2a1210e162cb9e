"""Selection by hand and by enumeration of every subset."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.selection import adaptive_stop, best_of_k, best_of_n, coverage_at_k


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


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_best_of_k_is_the_mean_over_every_subset(k):
    rng = np.random.default_rng(k)
    score = rng.integers(0, 3, size=(5, 6)).astype(float)  # many ties
    value = rng.random((5, 6))
    expected = np.zeros(5)
    for b in range(5):
        subsets = list(itertools.combinations(range(6), k))
        for subset in subsets:
            top = max(score[b, i] for i in subset)
            winners = [i for i in subset if score[b, i] == top]
            expected[b] += np.mean([value[b, i] for i in winners]) / len(subsets)
    np.testing.assert_allclose(best_of_k(score, value, k), expected, rtol=1e-12)


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
