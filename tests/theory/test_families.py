"""Instances: exact ties, distributions that sum to one, the paper's formulas."""

import itertools
import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.tabular import all_responses, autoregressive_softmax, prompts_of
from theory.claim import compiled
from theory.families import (
    as_float,
    compositions,
    geometric,
    hard_family,
    hard_row,
    heavy_tail,
    labelled_graphs,
    multi_layer,
    multi_layer_row,
    prop_e2_features,
    two_level,
    two_step_table,
    zipf,
    zoo,
)


def test_two_level_ties_are_exact_and_its_ratio_is_the_margin():
    row = two_level(7, best=3, ratio=0.5)
    assert row[0] == row[1] == row[2] and len(set(row[3:])) == 1
    assert row[3] / row[0] == 0.5
    assert row.sum() == pytest.approx(1.0, abs=1e-15)
    assert two_level(4, best=1, ratio=0.0).tolist() == [1, 0, 0, 0]


def test_zipf_and_geometric():
    assert zipf(3, exponent=1.0) == pytest.approx(np.array([6, 3, 2]) / 11)
    assert geometric(3, decay=0.5) == pytest.approx(np.array([4, 2, 1]) / 7)


def test_the_heavy_tail_is_summable_and_its_entropy_is_not():
    """Beyond n the mass is C (1/log n - 1/log |Y|), the integral of 1/(k log^2 k), and
    its entropy at least C (log log |Y| - log log n), which has no limit in |Y|."""
    weights = [1 / (k * math.log(k + 1) ** 2) for k in (1, 2, 3)]
    assert heavy_tail(3) == pytest.approx(np.array(weights) / sum(weights))
    n, size = 10**3, 10**6
    row = heavy_tail(size)
    tail, constant = row[n:], row[0] * math.log(2) ** 2
    integral = constant * (1 / math.log(n) - 1 / math.log(size))
    assert tail.sum() == pytest.approx(integral, rel=1e-3)
    growth = constant * (math.log(math.log(size)) - math.log(math.log(n)))
    assert growth < -(tail * np.log(tail)).sum() < 2 * growth
    assert (np.diff(heavy_tail(50, power=1.0)) < 0).all()


@pytest.mark.parametrize(("vocab", "horizon"), [(2, 3), (3, 2), (5, 1)])
def test_multi_layer_rows_are_the_librarys_autoregressive_softmax(vocab, horizon):
    rng = np.random.default_rng(vocab)
    found = multi_layer(rng, vocab=vocab, horizon=horizon, dim=3, norm=4.0)
    for phi in found.features:
        np.testing.assert_allclose(np.linalg.norm(phi, axis=-1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(found.theta, axis=-1), 4.0)
    row = multi_layer_row(found)
    assert row.sum() == pytest.approx(1.0, abs=1e-14)
    float32 = lambda a: jnp.asarray(a, jnp.float32)
    policy = autoregressive_softmax([float32(phi) for phi in found.features])
    with jax.numpy_dtype_promotion("standard"):  # the library is float32
        log_prob = compiled(policy.log_prob)(
            float32(found.theta),
            prompts_of(jnp.zeros(1, jnp.int32)),
            all_responses(vocab, horizon),
        )
    np.testing.assert_allclose(jnp.exp(log_prob[0]), row, rtol=2e-5)


@pytest.mark.parametrize("vertices", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("parity", [0, 1])
def test_labelled_graphs_are_all_different_and_half_of_all(vertices, parity):
    found = labelled_graphs(vertices, parity=parity)
    pairs = math.comb(vertices, 2)
    assert found.shape == (2 ** (pairs - 1), pairs)
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found.sum(-1) % 2 == parity).all()


@pytest.mark.parametrize("vertices", [1, 7])
def test_graphs_too_small_or_too_many_are_refused(vertices):
    with pytest.raises(ValueError, match=f"2 to 6 vertices, found {vertices}"):
        labelled_graphs(vertices, parity=1)


def test_the_zoo_has_distributions_ties_zeros_and_an_ignored_prompt(key):
    found = zoo(key, count=80, prompts=2, responses=6)
    pi, mu = found["pi"], found["mu"]
    assert pi.shape == (80, 2, 6) and mu.shape == (80, 2)
    assert (pi >= 0).all() and (mu >= 0).all()
    np.testing.assert_allclose(pi.sum(-1), 1.0, atol=1e-14)
    np.testing.assert_allclose(mu.sum(-1), 1.0, atol=1e-14)
    tied = (pi == pi.max(-1, keepdims=True)).sum(-1) > 1
    assert tied.any() and (~tied).any() and (pi == 0).any()
    assert (mu[::4, 0] == 0).all()


@pytest.mark.parametrize(("total", "cells"), [(0, 3), (5, 1), (4, 3), (3, 4)])
def test_compositions_are_all_count_tables_once(total, cells):
    found = [tuple(row) for row in compositions(total, cells).tolist()]
    grid = itertools.product(range(total + 1), repeat=cells)
    assert sorted(found) == sorted(c for c in grid if sum(c) == total)
    assert len(found) == math.comb(total + cells - 1, total)


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 3), Fraction(1, 2)])
@pytest.mark.parametrize("size", [2, 5, 12])
def test_hard_rows_are_distributions_with_the_printed_entries(gamma, size):
    row = hard_row(2, size=size, gamma=gamma)
    assert sum(row) == 1 and min(row) >= 0 and row[0] == 0
    assert row[2] == 1 / ((1 - gamma) * size)
    others = Fraction(1, size) * (1 - gamma / ((size - 1) * (1 - gamma)))
    assert set(row[1:2] + row[3:]) == {others}


def test_hard_family_at_the_theorems_gamma():
    """M = 4, g = 1/2: 1/2 on y_j and 1/6 on the three others."""
    family = hard_family([1, 3], size=4, gamma=Fraction(1, 2), weight=Fraction(1, 4))
    sixth = Fraction(1, 6)
    assert family.pi[0] == [1, 0, 0, 0, 0]
    assert family.pi[1] == [0, Fraction(1, 2), sixth, sixth, sixth]
    assert family.pi[2] == [0, sixth, sixth, Fraction(1, 2), sixth]
    assert family.mu == [Fraction(3, 4), Fraction(1, 8), Fraction(1, 8)]
    np.testing.assert_allclose(as_float(family.pi).sum(-1), 1.0, atol=1e-15)


@pytest.mark.parametrize(
    ("size", "gamma"), [(1, Fraction(0)), (2, Fraction(3, 4)), (5, Fraction(-1, 9))]
)
def test_hard_rows_that_are_no_distributions_are_refused(size, gamma):
    with pytest.raises(ValueError, match=f"found M={size}, g={gamma}"):
        hard_row(1, size=size, gamma=gamma)


def test_prop_e2_table_is_the_autoregressive_softmax_policy():
    """Two implementations: the policy's token walk, and the float64 table."""
    features = prop_e2_features(4)
    theta = jnp.array([[0.7, -0.4], [1.1, 0.2]])
    policy = autoregressive_softmax([jnp.asarray(f) for f in features])
    with jax.numpy_dtype_promotion("standard"):  # the library is float32
        log_prob = compiled(policy.log_prob)(
            theta, prompts_of(jnp.zeros(1, jnp.int32)), all_responses(4, 2)
        )
    table = two_step_table(features, theta)
    np.testing.assert_allclose(jnp.exp(log_prob[0]), table.ravel(), rtol=1e-6)
    assert float(table.sum()) == pytest.approx(1.0, abs=1e-14)


def test_prop_e2_features_are_as_printed():
    first, second = prop_e2_features(5)
    e_1, e_2, zero = [1, 0], [0, 1], [0, 0]
    assert first[0, 0].tolist() == [e_1, e_1, e_2, e_2, e_2]
    assert second[0, 1].tolist() == [e_1, e_2, e_2, e_2, e_2]
    for i in (0, 2, 3, 4):
        assert second[0, i].tolist() == [zero] * 5


def test_the_first_two_tokens_are_equally_likely_whatever_theta(key):
    tables = compiled(jax.vmap(partial(two_step_table, prop_e2_features(6))))
    first = tables(5.0 * jax.random.normal(key, (20, 2, 2))).sum(-1)
    np.testing.assert_allclose(first[:, 0], first[:, 1], rtol=1e-14)
