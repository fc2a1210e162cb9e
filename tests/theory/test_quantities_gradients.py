"""Gradient ascent may visit zeros and ties: gradients are finite there, and right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import quantities as q

ROUGH = [[0.5, 0.5, 0.0, 0.0], [0.6, 0.3, 0.1, 0.0], [1.0, 1e-300, 0.0, 0.0]]
OTHER = [[0.2, 0.5, 0.3, 0.0], [0.7, 0.2, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0]]
WEIGHTS = [0.5, 0.5, 0.0]
SMOOTH = {
    "coverage": lambda p, ref, mu: q.coverage(p, mu, gamma=0.2, p=2.0),
    "coverage_bar": lambda p, ref, mu: q.coverage_bar(p, mu),
    "concentrability": lambda p, ref, mu: q.concentrability(p, ref, mu),
    "concentrability of the base": lambda p, ref, mu: q.concentrability(ref, p, mu),
    "concentrability_beta": lambda p, ref, mu: q.concentrability_beta(
        p, ref, mu, beta=0.1
    ),
    "concentrability_beta_log": lambda p, ref, mu: q.concentrability_beta_log(
        q.log_probability(p), q.log_pi_star_beta(p, beta=0.1), mu, beta=0.1
    ),
    "margin": lambda p, ref, mu: q.margin(p, mu),
    "approximate_margin": lambda p, ref, mu: q.approximate_margin(p, mu, gamma=0.1),
    "pi_star_beta": lambda p, ref, mu: q.pi_star_beta(p, beta=1e-3)[1, 0],
    "tilt": lambda p, ref, mu: q.tilt(p, q.log_probability(p), beta=0.1)[1, 0],
    "kl": lambda p, ref, mu: q.kl(p, ref)[1],
    "kl_log": lambda p, ref, mu: q.kl_log(q.log_probability(p), q.log_probability(ref))[
        1
    ],
    "hellinger_squared": lambda p, ref, mu: q.hellinger_squared(p, ref)[1],
    "objective": lambda p, ref, mu: q.objective(
        p, ref, q.log_probability(ref), mu, beta=0.1
    ),
    "majority_mass": lambda p, ref, mu: q.majority_mass(
        p, jnp.zeros((3, 4), jnp.int32)
    )[0, 0],
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_finite_at_zeros_and_ties(name):
    rest = jnp.array(OTHER), jnp.array(WEIGHTS)
    gradient = jax.jit(jax.grad(SMOOTH[name]))(jnp.array(ROUGH), *rest)
    assert np.isfinite(gradient).all() and np.any(gradient != 0)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_right_in_the_interior(name):
    """Along one direction that keeps the order, against a central difference."""
    here = jnp.array(
        [[0.4, 0.3, 0.2, 0.1], [0.5, 0.25, 0.15, 0.1], [0.7, 0.1, 0.1, 0.1]]
    )
    along = jnp.array([[3.0, -1.0, 2.0, -4.0]] * 3)
    rest = (jnp.array(OTHER) + 0.25) / 2, jnp.array(WEIGHTS)
    value = jax.jit(lambda p: SMOOTH[name](p, *rest))
    step = 1e-6
    slope = (value(here + step * along) - value(here - step * along)) / (2 * step)
    expected = jax.jvp(value, (here,), (along,))[1]
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)
