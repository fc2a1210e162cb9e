"""RLOO: an exactly unbiased gradient of J_beta, by enumeration of all pairs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp import update
from jsharp.loss import policy_gradient
from jsharp.policy import freeze
from jsharp.rloo import rloo
from jsharp.tabular import table

BETA = 0.4


def objective(theta, log_base):
    """J_beta(pi) = sum_y pi(y) (log pi_base(y) - beta log pi(y)/pi_base(y))."""
    log_prob = jax.nn.log_softmax(theta)
    return (jnp.exp(log_prob) * (log_base - BETA * (log_prob - log_base))).sum()


def expected_gradient(theta, log_base, beta):
    """E over all Y^2 ordered pairs y_1, y_2 ~ pi of the gradient estimate."""
    pairs = jnp.asarray(list(itertools.product(range(4), repeat=2)))
    weight = jax.nn.softmax(theta)[pairs].prod(1)
    reward = log_base[pairs]

    def one(pair, r):
        estimate = lambda t: policy_gradient(
            jax.nn.log_softmax(t)[pair][None], r[None], r[None], beta=beta
        )
        return jax.grad(estimate)(theta)

    gradients = jax.vmap(one)(pairs, reward)
    return (weight[:, None] * gradients).sum(0)


def test_the_estimate_is_unbiased():
    theta = jax.random.normal(jax.random.key(0), (4,))
    log_base = jax.nn.log_softmax(jax.random.normal(jax.random.key(1), (4,)))
    exact = -jax.grad(objective)(theta, log_base)
    assert float(jnp.abs(exact).max()) > 0.05
    np.testing.assert_allclose(
        expected_gradient(theta, log_base, BETA), exact, atol=1e-6
    )
    # The must-fail twin: without the KL the gradient is another one.
    wrong = expected_gradient(theta, log_base, 0.0)
    assert float(jnp.abs(wrong - exact).max()) > 1e-2


def test_needs_two_responses():
    policy = table(1, 2)
    base = freeze(policy, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="n >= 2 responses, found n=1"):
        rloo(policy, base, update.finite_class(jnp.zeros((1, 1, 2))), n=1, beta=0.1)
