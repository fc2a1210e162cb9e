"""Lem H.1 and Prop E.2: exact rationals on both sides of the claims."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import QUICK, ROUNDING
from theory.hardness import (
    CLAIMS,
    exact_e2_text,
    lemma_h1,
    mass_e2,
    prop_e2,
    prop_e2_base,
)


def hard(size, gamma, index=(1, 2)):
    return {
        "size": np.array(size),
        "index": np.array(index),
        "gamma_numerator": np.array(gamma.numerator),
        "gamma_denominator": np.array(gamma.denominator),
    }


@pytest.mark.parametrize("size", [2, 3, 9])
def test_at_gamma_zero_every_response_is_a_maximiser(size):
    """P_i is uniform over [M], so the set is all of it: H.1 fails as printed."""
    assert lemma_h1(hard(size, Fraction(0))) == (float(size), 1.0)


@pytest.mark.parametrize("gamma", [Fraction(1, 10**12), Fraction(1, 2)])
def test_from_the_smallest_gamma_on_the_set_is_one_response(gamma):
    assert lemma_h1(hard(7, gamma, (7, 3))) == (1.0, 1.0)


def test_the_point_mass_at_the_far_end_and_nothing_beyond():
    assert lemma_h1(hard(4, Fraction(3, 4))) == (1.0, 1.0)
    with pytest.raises(ValueError, match="0 <= g <= 1-1/M"):
        lemma_h1(hard(4, Fraction(4, 5)))


def mass(size, w_1, w_2):
    """pi(2,1) by hand: the first two tokens share w_1, the rest weigh 1."""
    return w_1 / (2 * w_1 + size - 2) * w_2 / (w_2 + size - 1)


@pytest.mark.parametrize("size", [2, 3, 11])
@pytest.mark.parametrize(
    "theta", [[[0.3, -0.2], [1.0, 0.4]], [[5.0, 0.0], [-2.0, 1.0]]]
)
def test_prop_e2_mass_by_hand(size, theta):
    left, right = prop_e2({"theta": jnp.array(theta)}, size=size)
    weights = [np.exp(row[0] - row[1]) for row in theta]
    assert float(left) == pytest.approx(mass(size, *weights), rel=1e-12)
    assert float(right) == 0.5 and left <= right


@pytest.mark.parametrize("size", [2, 3, 30, 400])
def test_the_base_policy_has_its_argmax_at_two_one_with_a_sixth(size):
    """At B = log n the mass is n^2/((3n-2)(2n-1)), which falls to 1/6."""
    theta = jnp.log(jnp.asarray(float(size))) * jnp.array([[1.0, 0.0], [1.0, 0.0]])
    left, right = prop_e2_base({"theta": theta}, size=size)
    exact = Fraction(size**2, (3 * size - 2) * (2 * size - 1))
    assert float(right) == pytest.approx(float(exact), rel=1e-12)
    # The runner-up is (1, j): half of the pair's mass, spread over n second tokens.
    runner_up = Fraction(size, 3 * size - 2) / size
    refused = (1 + 1e-6) * float(runner_up)  # ties are
    assert float(left) == pytest.approx(max(refused, 1 / 6), rel=1e-12)
    assert runner_up < exact and exact > Fraction(1, 6)


def test_a_tied_argmax_is_refused():
    """At B = 0 and n = 2 all four responses have 1/4, more than 1/6."""
    left, right = prop_e2_base({"theta": jnp.zeros((2, 2))}, size=2)
    assert float(right) == pytest.approx(0.25) and left > right * (1 + ROUNDING)


def text(weight, delta, size):
    return {
        "weight": np.array([weight, weight]),
        "delta": np.array(delta),
        "size": np.array(size),
    }


def test_the_counterexample_to_the_closing_sentence():
    """n = 3, w = 11: 121/299 > 0.4, sharpened at delta = 0.6, as in errata.md."""
    i = text(11.0, 0.6, 3)
    assert mass_e2(i) == Fraction(121, 299)
    assert exact_e2_text(i) == (1, Fraction(1, 2))
    assert exact_e2_text(text(11.0, 0.59, 3)) == (0, Fraction(1, 2))


def test_mass_that_only_reaches_the_threshold_is_sharpened():
    """n = 2, w = 1: pi(2,1) = 1/4 and 1-delta = 1/4; Def 3.1 asks for >=."""
    assert mass_e2(text(1.0, 0.75, 2)) == Fraction(1, 4)
    assert exact_e2_text(text(1.0, 0.75, 2)) == (1, Fraction(1, 2))


def test_a_class_that_attained_one_half_would_be_refuted(key):
    """The twin's only violations are n = 2, delta = 1/2, mass exactly 1/2."""
    claim = next(c for c in CLAIMS if c.id == "Prop E.2 (text, repaired)")
    attained = next(t for t in claim.twins if t.name == "y_2 = 1 certain")
    for batch in claim.attack(key, QUICK):
        found = attained.sides(batch).left > 0.5
        expected = (batch["size"] == 2) & (batch["delta"] == 0.5)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_below_one_half_delta_nothing_is_sharpened(size):
    for weight in (1, 10, 10**9, 10**18):
        assert mass(size, Fraction(weight), Fraction(weight)) < Fraction(1, 2)
