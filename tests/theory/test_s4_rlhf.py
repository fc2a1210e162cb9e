"""Lem 4.1 and 4.1': float64 against rationals, and the counterexamples by hand."""

from fractions import Fraction
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import QUICK, compiled, unstack, vectorised
from theory.families import two_level, zoo
from theory.s4_rlhf import (
    CLAIMS,
    exact_sides,
    lemma_41,
    lemma_41_loss,
    lemma_41_prime,
    lemma_41_prime_repaired,
)

PAIRS = {
    "lemma": lemma_41,
    "loss": lemma_41_loss,
    "printed": lemma_41_prime,
    "repaired": lemma_41_prime_repaired,
}
BOUNDS = {name: compiled(pair) for name, pair in PAIRS.items()}


def by_rationals(mu, pi, power, gamma, bound):
    """Both sides for 1/beta an integer, from pi*_beta itself, nothing cancelled."""
    left = right = Fraction(0)
    for weight, row in zip(mu, pi, strict=True):
        tilted = [p ** (1 + power) for p in row]
        tilted = [t / sum(tilted) for t in tilted]
        if bound == "loss":  # beta = 1
            ratio = [p * p / t for p, t in zip(row, tilted, strict=True) if p > 0]
            left, right = left + weight * sum(ratio), right + weight * len(row)
            continue
        ratio = [t * t / p for p, t in zip(row, tilted, strict=True) if p > 0]
        near = [p for p in row if p >= (1 - gamma) * max(row)]
        left, right = left + weight * sum(ratio), right + weight / sum(near)
    lost = {"printed": 1, "repaired": power}.get(bound, 0)
    return left, right / (1 - gamma) ** lost


def as_jax(mu, pi, power, gamma):
    return {
        "pi": jnp.array([[float(p) for p in row] for row in pi]),
        "mu": jnp.array([float(m) for m in mu]),
        "beta": jnp.asarray(1 / power),
        "gamma": jnp.asarray(float(gamma)),
    }


PI = [
    [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4), Fraction(0)],
    [Fraction(3, 8), Fraction(3, 8), Fraction(1, 8), Fraction(1, 8)],
]
MU = [Fraction(1, 4), Fraction(3, 4)]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("power", [1, 2, 5])
@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 4), Fraction(1, 2)])
def test_sides_in_rationals_decimals_and_floats(bound, power, gamma):
    gamma = gamma if bound in ("printed", "repaired") else Fraction(0)
    power = 1 if bound == "loss" else power
    left, right = by_rationals(MU, PI, power, gamma, bound)
    i = as_jax(MU, PI, power, gamma)
    decimal = exact_sides({k: np.asarray(v) for k, v in i.items()}, bound=bound)
    for found in (BOUNDS[bound](i), decimal):
        assert float(found[0]) == pytest.approx(float(left), rel=1e-12)
        assert float(found[1]) == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
def test_decimals_and_floats_agree_at_any_beta(key, bound):
    batch = zoo(key, count=30, prompts=2, responses=5)
    batch |= {"beta": np.resize([0.07, 0.6, 3.0], 30), "gamma": np.full(30, 0.3)}
    sides = vectorised(PAIRS[bound])(batch)
    exact = [exact_sides(i, bound=bound) for i in unstack(batch)]
    left, right = np.array(exact, float).T
    np.testing.assert_allclose(sides.left, left, rtol=1e-11)
    np.testing.assert_allclose(sides.right, right, rtol=1e-11)


def test_the_counterexample_to_lemma_41_prime():
    """pi = (2, 1 x 7)/9, beta = 1/4, g = 1/2: C = 9 * 519/1521 > 2, as in errata.md."""
    pi = [[Fraction(2, 9)] + [Fraction(1, 9)] * 7]
    left, right = by_rationals([Fraction(1)], pi, 4, Fraction(1, 2), "printed")
    assert (left, right) == (Fraction(9 * 519, 1521), 2)
    assert left > 3
    repaired = by_rationals([Fraction(1)], pi, 4, Fraction(1, 2), "repaired")
    assert repaired == (left, 16)


def test_a_counterexample_at_beta_one_half():
    """Weights (10, 1 x 1000): C = W sum w^5/(sum w^3)^2 = 25.5 > 10: see errata.md."""
    total, cubes, fifths = (10**k + 1000 for k in (1, 3, 5))
    row = two_level(1001, best=1, ratio=0.1)
    i = {
        "pi": jnp.asarray(row)[None],
        "mu": jnp.ones(1),
        "beta": jnp.asarray(0.5),
        "gamma": jnp.asarray(0.9),
    }
    left, right = BOUNDS["printed"](i)
    assert float(left) == pytest.approx(total * fifths / cubes**2, rel=1e-12)
    assert float(right) == pytest.approx(10, rel=1e-9)
    assert round(float(left), 1) == 25.5


def test_an_exponent_half_as_large_is_refuted_on_the_claims_own_instances(key):
    """25.5 against 10 with 1001 responses; the repaired right side is 100."""
    claim = next(c for c in CLAIMS if c.id == "Lem 4.1' (repaired)")
    designed = claim.attack(key, QUICK)[-1]
    left, right = (float(side[0]) for side in claim.sides(designed)[:2])
    half = vectorised(partial(lemma_41_prime_repaired, share=0.5))(designed)
    assert round(left, 4) == 25.5025 and right == pytest.approx(100)
    assert float(half.right[0]) == pytest.approx(10)


@pytest.mark.parametrize("beta", [1.0, 1.5, 20.0])
def test_the_printed_form_is_implied_from_beta_one_on(beta):
    i = {"pi": jnp.array([[0.6, 0.4]]), "mu": jnp.ones(1), "beta": jnp.asarray(beta)}
    for gamma in (0.0, 0.2, 0.9):
        at = i | {"gamma": jnp.asarray(gamma)}
        assert BOUNDS["repaired"](at)[1] <= BOUNDS["printed"](at)[1] * (1 + 1e-12)


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.8])
def test_the_repaired_exponent_cannot_be_improved(beta):
    """One mode and r^-(1+1/beta) others at ratio r: left/right tends to 1/4."""
    ratio = 0.02 if beta > 0.3 else 0.1
    others = round(ratio ** -(1 + 1 / beta))
    row = two_level(others + 1, best=1, ratio=ratio)
    i = {
        "pi": jnp.asarray(row)[None],
        "mu": jnp.ones(1),
        "beta": jnp.asarray(beta),
        "gamma": jnp.asarray(1 - ratio * (1 - 1e-9)),
    }
    left, right = BOUNDS["repaired"](i)
    assert 0.24 < float(left / right) < 0.28
    left, right = BOUNDS["printed"](i)
    assert left > right or beta == 0.8  # at 0.8 the printed form needs a smaller r
