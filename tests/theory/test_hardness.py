"""Lem H.1 and Prop E.2: exact rationals on both sides of the claims."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from theory.hardness import (
    exact_e2_text,
    lemma_h1,
    prop_e2,
    prop_e2_base,
    prop_e2_text,
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
    assert float(left) == pytest.approx(max(float(runner_up), 1 / 6), rel=1e-12)
    assert runner_up < exact and exact > Fraction(1, 6)


def test_the_counterexample_to_the_closing_sentence():
    """n = 3, w = 11: 121/299 > 0.4, sharpened at delta = 0.6, as in errata.md."""
    i = {"weight": np.array([11.0, 11.0]), "delta": np.array(0.6), "size": np.array(3)}
    left, right = exact_e2_text(i)
    assert left == Fraction(121, 299) and left > right
    found = prop_e2_text({k: jnp.asarray(i[k]) for k in ("weight", "delta")}, size=3)
    assert float(found[0]) == pytest.approx(121 / 299, rel=1e-13)
    assert float(found[1]) == pytest.approx(0.4)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_below_one_half_delta_nothing_is_sharpened(size):
    for weight in (1, 10, 10**9, 10**18):
        assert mass(size, Fraction(weight), Fraction(weight)) < Fraction(1, 2)
