"""Prop E.1: brute-force max-cuts, every response enumerated, the library's policy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.tabular import all_responses, autoregressive_softmax, prompts_of
from theory.claim import compiled
from theory.maxcut import (
    CHOICES,
    cut_sizes,
    graphs_with_both_sums,
    most_likely,
    prop_e1,
    prop_e1_policy,
    sign_vectors,
    vertices_of,
)


def cuts_by_sets(edges, n):
    """{side of the cut as a bit mask: edges across}, from the definition."""
    pairs = [
        p for p, e in zip(itertools.combinations(range(n), 2), edges, strict=True) if e
    ]
    across = lambda side: sum((side >> i & 1) != (side >> j & 1) for i, j in pairs)
    return {side: across(side) for side in range(2**n)}


def log_probability(edges, n, multiplicity, response):
    """log pi of a response, token by token, as the proposition defines it."""
    *y, v, w = response
    pairs = zip(itertools.combinations(range(n), 2), edges, strict=True)
    s = -sum(y[i] * y[j] for (i, j), edge in pairs if edge) * multiplicity
    token = lambda logit, sign: -math.log1p(math.exp(-2 * sign * logit))
    return -n * math.log(2) + token(s, v) + token(2 * v + 2, w)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("parity", [0, 1])
def test_every_response_of_every_small_graph(n, parity):
    """Floats over 2^H responses, their argmax up to 1e-9, against the integers."""
    batch = graphs_with_both_sums(n, parity=parity)
    found = most_likely(batch["edges"], batch["multiplicity"])
    sides = prop_e1(batch)
    for k, (edges, c) in enumerate(
        zip(batch["edges"], batch["multiplicity"].tolist(), strict=True)
    ):
        cuts = cuts_by_sets(edges, n)
        assert sides.left[k] == max(cuts.values()) == sides.right[k]
        table = {
            r: log_probability(edges, n, c, r)
            for r in itertools.product((-1, 1), repeat=n + 2)
        }
        top = max(table.values())
        argmax = {r for r, value in table.items() if value > top - 1e-9}
        exact = {
            (*y.tolist(), *CHOICES[which])
            for y, members in zip(sign_vectors(n), found.members[k], strict=True)
            for which in np.flatnonzero(members)
        }
        assert exact == argmax
        assert math.fsum(map(math.exp, table.values())) == pytest.approx(1)


def test_odd_is_not_needed_not_even_an_edge():
    """Even numbers of edges up to six vertices, and the empty graphs."""
    for n in range(2, 7):
        batch = graphs_with_both_sums(n, parity=0)
        sides = prop_e1(batch)
        assert (sides.left == sides.right).all()
        assert not batch["edges"][0].any() and sides.left[0] == 0


def test_cuts_of_known_graphs():
    """Max-cut of K_6 is 9, of the 5-cycle 4, of K_{3,3} all of its 9 edges."""
    pairs = list(itertools.combinations(range(6), 2))
    k33 = [(i < 3) != (j < 3) for i, j in pairs]
    graphs = np.array([[True] * 15, k33])
    assert cut_sizes(graphs).max(-1).tolist() == [9, 9]
    cycle = [(j - i) % 5 in (1, 4) for i, j in itertools.combinations(range(5), 2)]
    batch = {"edges": np.array([cycle]), "multiplicity": np.array([1])}
    assert prop_e1(batch).left.tolist() == prop_e1(batch).right.tolist() == [4]


@pytest.mark.parametrize(("n", "multiplicity"), [(3, 1), (3, 2), (4, 1)])
def test_the_librarys_autoregressive_softmax_has_the_same_argmax(n, multiplicity):
    """Features of degree <= 3 through jsharp.tabular, over all 2^H responses."""
    batch = graphs_with_both_sums(n, parity=1)
    picked = np.flatnonzero(batch["multiplicity"] == multiplicity)[
        :: 1 if n == 3 else 7
    ]
    features, _ = prop_e1_policy(batch["edges"][0])
    assert [phi.shape[1] for phi in features] == [2**h for h in range(n + 2)]
    policy = autoregressive_softmax([jnp.asarray(f, jnp.float32) for f in features])
    responses = all_responses(2, n + 2)
    log_prob = compiled(policy.log_prob)
    for k in picked:
        _, theta = prop_e1_policy(batch["edges"][k], multiplicity=multiplicity)
        with jax.numpy_dtype_promotion("standard"):  # the library is float32
            found = log_prob(
                jnp.asarray(theta, jnp.float32),
                prompts_of(jnp.zeros(1, jnp.int32)),
                responses,
            )[0]
        tokens = 2 * np.asarray(responses.tokens[0]) - 1
        expected = [
            log_probability(batch["edges"][k], n, multiplicity, tuple(r))
            for r in tokens.tolist()
        ]
        np.testing.assert_allclose(np.asarray(found), expected, atol=2e-5)
        best = tokens[np.asarray(found) > np.max(found) - 1e-4][:, :n]
        sides = [int(sum(2**i for i in range(n) if y[i] > 0)) for y in best]
        cuts = cuts_by_sets(batch["edges"][k], n)
        assert {cuts[side] for side in sides} == {max(cuts.values())}


def test_the_features_are_the_monomials_of_degree_at_most_three():
    """Each is a product of at most three tokens seen so far: +-1, or 0 if beyond."""
    features, theta = prop_e1_policy(np.array([True]))
    assert len(features) == 4 and theta.shape == (4, 4 + 6 + 4)
    last = features[-1].reshape(16, 14)
    assert (np.abs(last) == 1).all()  # all four tokens are there
    assert np.linalg.matrix_rank(last) == 14  # different monomials
    assert (np.abs(features[0]).reshape(2, 14).sum(-1) == 1).all()  # y_1 alone
    assert not theta[:2].any()
    assert sorted(theta[2].tolist())[0] == -1 and np.abs(theta[2]).sum() == 1
    assert np.abs(theta[3]).sum() == 4


def test_planted_bugs_fail_on_one_edge():
    """n = 2, one edge: the cut is 1; every misreading has a response of cut 0."""
    batch = {"edges": np.array([[True]]), "multiplicity": np.array([1])}
    for planted in ({"sign": 1}, {"last": (2, 0)}, {"last": (0, 2)}):
        found = prop_e1(batch, **planted)
        assert (found.left.tolist(), found.right.tolist()) == ([1.0], [0.0])


@pytest.mark.parametrize("pairs", [2, 4, 14])
def test_pairs_that_are_no_graph_are_refused(pairs):
    with pytest.raises(ValueError, match=f"pairs of vertices, found {pairs}"):
        vertices_of(pairs)
    assert [vertices_of(n * (n - 1) // 2) for n in range(2, 9)] == list(range(2, 9))
