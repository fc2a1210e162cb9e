"""Lem J.4 and J.5: the counterexamples, the SEC by moments, the proof's own steps."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.special

from theory.claim import QUICK, stack, unstack
from theory.s4_linear import (
    CLAIMS,
    any_base,
    exact_any_base,
    exact_j4,
    explicit,
    lemma_j4,
    lemma_j5,
    opposed,
    orthogonal,
    outside,
)


def one(**numbers):
    return {name: np.array([value]) for name, value in numbers.items()}


def moments(i):
    """w_t [T, d+1] and E^t[z], E^t[z z^T], from z = (phi - phi', r - r') enumerated."""
    z = np.concatenate([i["phi"], i["reward"][:, None]], -1)
    pairs = z[:, None] - z[None]  # [Y Y' d+1]
    base = scipy.special.softmax(i["phi"] @ i["base"])
    w, means, seconds = [], [], []
    for theta in i["theta"]:
        law = scipy.special.softmax(i["phi"] @ theta)[:, None] * base[None]
        w.append(np.append(i["beta"] * (theta - i["base"]), -1.0))
        means.append(np.einsum("yz,yzd->d", law, pairs))
        seconds.append(np.einsum("yz,yzd,yze->de", law, pairs, pairs))
    return np.array(w), np.array(means), np.array(seconds)


def sec_by_moments(i):
    """The inner sum of Def J.1 as sum_t (w_t m_t)^2/max(lambda, w_t' sum A_i w_t)."""
    w, means, seconds = moments(i)
    lam = 4 * (i["beta"] * i["B"]) ** 2 + i["R"] ** 2
    total, seen = 0.0, np.zeros_like(seconds[0])
    for now, mean, second in zip(w, means, seconds, strict=True):
        total += (now @ mean) ** 2 / max(lam, now @ seen @ now)
        seen = seen + second
    return total


def drawn(rng, *, steps=5, d=3, responses=4, norm=3.0):
    ball = lambda *shape: (
        (v := rng.normal(size=shape)) / np.linalg.norm(v, axis=-1, keepdims=True)
    )
    return {
        "theta": norm * ball(steps, d),
        "base": 0.7 * norm * ball(d),
        "phi": ball(responses, d),
        "reward": rng.uniform(-1, 1, responses),
        "beta": np.array(0.4),
        "B": np.array(norm),
        "R": np.array(1.0),
    }


def test_the_sec_and_every_step_of_the_proof():
    """SEC by moments, then 2 Tr(G^-1 A) <= ... <= the bound, on random instances."""
    rng = np.random.default_rng(8)
    instances = [drawn(rng) for _ in range(20)]
    sides = lemma_j5(stack(instances))
    for k, i in enumerate(instances):
        assert sides.left[k] == pytest.approx(sec_by_moments(i), rel=1e-10)
        _, _, seconds = moments(i)
        g = np.diag(np.append(np.ones(3), i["R"] ** 2))
        assert np.trace(np.linalg.solve(g, seconds[0])) <= 8
        potential = 0.0
        for second in seconds:
            potential += 2 * np.trace(np.linalg.solve(g, second))
            g = g + second
        assert sides.left[k] <= potential <= sides.right[k]
        assert sides.right[k] == explicit(3, 5)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_opposed_policies_have_the_sec_in_closed_form(steps):
    """8 + 1 + 1/2 + ... + 1/(T-1)."""
    found = lemma_j5(stack([opposed(steps)]))
    harmonic = sum(1 / t for t in range(1, steps))
    assert found.left[0] == pytest.approx(8 + harmonic, rel=1e-12)


def test_eight_is_the_most_at_one_step():
    """(2x + 2R)^2/(x^2 + R^2) <= 8, x = 2 beta B, attained at x = R."""
    batch = stack([opposed(1, scale=s) for s in (0.05, 0.4, 0.5, 0.6, 10.0)])
    left = lemma_j5(batch).left
    x = 2 * np.array([0.05, 0.4, 0.5, 0.6, 10.0])
    np.testing.assert_allclose(left, 4 * (x + 1) ** 2 / (x**2 + 1), rtol=1e-12)
    assert left.argmax() == 2 and left.max() == pytest.approx(8)


@pytest.mark.parametrize("d", [1, 3])
def test_orthogonal_blocks_do_not_help_each_other(d):
    """d times the sum of one block: E = beta B, lambda = (4 + 1/d) (beta B)^2."""
    rounds = 4
    found = lemma_j5(stack([orthogonal(d, rounds * d)])).left[0]
    block = sum(1 / max(4 + 1 / d, n) for n in range(rounds))
    assert found == pytest.approx(d * block, rel=1e-9)


def test_the_explicit_bound_is_at_most_34_d_log():
    """Largest at d = T = 1: 32 log 5/log 9/log 2 = 33.8."""
    ratio = {
        (d, t): explicit(d, t) / (d * math.log(t + 1))
        for d in (1, 2, 3, 10, 1000)
        for t in (1, 2, 5, 100, 10**6, 10**12)
    }
    largest = 32 * math.log(5) / math.log(9) / math.log(2)
    assert max(ratio.values()) == ratio[1, 1] == pytest.approx(largest, rel=1e-12)
    assert 33 < largest < 34


def test_the_search_keeps_to_the_lemmas_assumptions(key):
    claim = next(c for c in CLAIMS if c.id == "Lem J.5")
    batches = claim.attack(key, QUICK._replace(starts=4, steps=20))
    for i in (i for batch in batches for i in unstack(batch)):
        norm = lambda a: np.linalg.norm(a, axis=-1).max()
        assert norm(i["phi"]) <= 1 + 1e-12 and np.abs(i["reward"]).max() <= i["R"]
        assert max(norm(i["theta"]), norm(i["base"])) <= i["B"] * (1 + 1e-12)


@pytest.mark.parametrize("strength", [1.0, 8.0, 40.0])
def test_a_base_outside_the_class_in_closed_form(strength):
    """SEC = (L/2)^2 tanh(L/2)^2/5 at theta_base = -L/2: without bound in L."""
    i = outside(strength)
    closed = (strength / 2 * math.tanh(strength / 2)) ** 2 / 5
    left, right = exact_any_base(i)
    assert float(left) == pytest.approx(closed, rel=1e-13)
    assert float(right) == pytest.approx(1000 * math.log(2), rel=1e-13)
    assert any_base(stack([i])).left[0] == pytest.approx(closed, rel=1e-12)
    assert sec_by_moments(i) == pytest.approx(closed, rel=1e-12)


def test_the_control_spares_only_bases_in_the_ball():
    batch = stack([outside(s) for s in (2.0, 2.1)])
    assert np.isinf(any_base(batch, inside=True).right).tolist() == [False, True]


def test_the_counterexample_to_the_printed_net():
    """B = 1, eps = 12, d = 1: 6B/eps = 1/2, and no net has half a member."""
    i = one(B=1.0, eps=12.0, d=1)
    left, right = exact_j4(unstack(i)[0])
    assert (left, right) == (1, Fraction(1, 2))
    found = lemma_j4(i)
    assert (found.low[0], found.right[0]) == (1.0, 0.5)
    repaired = lemma_j4(i, least=1.0)
    assert (repaired.high[0], repaired.right[0]) == (1.0, 1.0)
    assert np.isinf(lemma_j4(i, longest=6.0).right[0])


def test_a_smaller_constant_is_refuted_by_a_minimal_net():
    """B = 100, eps = 199: two members are needed, 3.9 B/eps = 1.96."""
    i = one(B=100.0, eps=199.0, d=1)
    found = lemma_j4(i, least=1.0, constant=3.9)
    assert found.low[0] == 2.0 > found.right[0] > 1.9
    assert lemma_j4(i, least=1.0, constant=4.0).right[0] >= found.high[0] == 2.0
