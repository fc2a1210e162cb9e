"""Losses by hand arithmetic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jsharp.loss import (
    advantage,
    exploration,
    negative_log_likelihood,
    pair_regression,
    pair_residual,
    policy_gradient,
)

LOG_PROB = jnp.asarray([[-1.0, -2.0], [-0.5, -3.0]])
BASE = jnp.asarray([[-1.5, -1.0], [-0.5, -2.0]])
REWARD = jnp.asarray([[-1.5, -1.0], [-0.5, -2.0]])


def test_negative_log_likelihood_is_a_sum():
    assert float(negative_log_likelihood(LOG_PROB)) == 6.5


def test_pair_residual_by_hand():
    # Row 0: 2*(0.5 - -1) - (-1.5 - -1) = 3.5.  Row 1: 2*(0 - -1) - (-0.5 - -2) = 0.5.
    residual = pair_residual(LOG_PROB, BASE, REWARD, beta=2.0)
    np.testing.assert_allclose(residual, [3.5, 0.5])


def test_pair_regression_sums_squares():
    loss = pair_regression(LOG_PROB, BASE, REWARD, beta=2.0)
    assert float(loss) == 3.5**2 + 0.5**2


def test_residual_at_the_base_is_minus_the_reward_gap():
    np.testing.assert_allclose(
        pair_residual(BASE, BASE, REWARD, beta=7.0), REWARD[:, 1] - REWARD[:, 0]
    )


def test_residual_vanishes_at_the_tilted_policy():
    log_base = jax.nn.log_softmax(jnp.asarray([0.3, -1.0, 2.0, 0.0]))
    beta = 0.4
    tilted = jax.nn.log_softmax(log_base * (1 + 1 / beta))
    pairs = jnp.asarray([[0, 1], [2, 3], [1, 2]])
    args = (tilted[pairs], log_base[pairs], log_base[pairs])
    np.testing.assert_allclose(pair_residual(*args, beta=beta), 0, atol=2e-6)


def test_exploration_adds_alpha_times_the_base_responses():
    """The sign of Alg 1's proof: a larger residual makes the loss larger."""
    loss = exploration(LOG_PROB, BASE, REWARD, alpha=0.1, beta=2.0)
    np.testing.assert_allclose(loss, 0.1 * (-2.0 - 3.0) + 12.5, rtol=1e-6)


def test_policy_gradient_uses_the_other_responses_as_baseline():
    log_prob = jnp.asarray([[-1.0, -2.0, -3.0]])
    reward = jnp.asarray([[1.0, 4.0, 7.0]])
    grad = jax.grad(lambda l: policy_gradient(l, l * 0, reward, beta=0.0))(log_prob)
    # Advantages 1-(4+7)/2, 4-(1+7)/2, 7-(1+4)/2, averaged over 3, descended.
    np.testing.assert_allclose(grad, [[4.5 / 3, 0.0, -4.5 / 3]], rtol=1e-6)


def test_policy_gradient_charges_beta_times_the_log_ratio():
    log_prob, base = jnp.asarray([[-1.0, -2.0]]), jnp.asarray([[-2.0, -2.0]])
    grad = jax.grad(lambda l: policy_gradient(l, base, jnp.zeros((1, 2)), beta=0.5))(
        log_prob
    )
    # R = (-0.5, 0): advantages -0.5 and 0.5, each over 2.
    np.testing.assert_allclose(grad, [[0.25, -0.25]], rtol=1e-6)


def test_advantages_by_hand():
    """RLOO against the mean of the others; GRPO by 3 = sqrt((9 + 0 + 9) / 2)."""
    value = jnp.asarray([[1.0, 4.0, 7.0], [2.0, 2.0, 2.0]])
    others = [[1 - 11 / 2, 4 - 8 / 2, 7 - 5 / 2], [0, 0, 0]]
    np.testing.assert_allclose(advantage(value), others, rtol=1e-6)
    standard = [[-3 / 3.0001, 0, 3 / 3.0001], [0, 0, 0]]
    np.testing.assert_allclose(advantage(value, by_deviation=True), standard, rtol=1e-6)


def test_policy_gradient_divides_by_the_deviation_where_told():
    log_prob = jnp.asarray([[-1.0, -2.0, -3.0]])
    reward = jnp.asarray([[1.0, 4.0, 7.0]])
    grad = jax.grad(
        lambda l: policy_gradient(l, l * 0, reward, beta=0.0, by_deviation=True)
    )(log_prob)
    np.testing.assert_allclose(grad, [[1 / 3.0001, 0.0, -1 / 3.0001]], rtol=1e-6)


def test_only_the_advantage_by_deviation_forgets_the_size_of_the_rewards():
    value = jnp.asarray([[0.5, -2.0, 3.0, 0.0]])
    for by_deviation, ratio in ((False, 100.0), (True, 1.0)):
        of = functools.partial(advantage, by_deviation=by_deviation)
        found = of(100 * value) / of(value)
        np.testing.assert_allclose(found, ratio, rtol=1e-4)
