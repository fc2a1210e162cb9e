"""RLOO: an exactly unbiased gradient of J_beta, by enumeration of all pairs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsharp import loop, update
from jsharp.loss import policy_gradient
from jsharp.policy import freeze
from jsharp.rloo import rloo
from jsharp.tabular import prompts_of, table

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


def test_division_by_the_deviation_is_passed_on(key):
    """One step from the base with GRPO's advantages, recomputed from its draws."""
    policy, params = table(1, 4), jax.random.normal(jax.random.key(0), (1, 4))
    base, descend = freeze(policy, params), update.gradient(optax.sgd(1.0))
    algorithm = rloo(policy, base, descend, n=16, beta=BETA, by_deviation=True)
    prompts = prompts_of(jnp.zeros(1, jnp.int32))
    state = algorithm.init(params, prompts)
    state, _ = jax.jit(algorithm.step)(key, state, prompts)
    y = np.asarray(policy.sample(key, params, prompts, 16).tokens[0, :, 0])
    p = np.asarray(jax.nn.softmax(params), float)[0]
    value = np.log(p)[y]  # beta charges nothing at the base
    score = (value - value.mean()) / (value.std(ddof=1) + 1e-4)
    ascent = (score[:, None] * (np.eye(4)[y] - p)).mean(0)
    assert np.abs(ascent).max() > 0.1
    np.testing.assert_allclose(state.params[0] - params[0], ascent, atol=1e-5)


def test_ascends_the_exact_objective(key):
    """150 SGD steps on 64 prompts each bring J_beta to within 2% of its largest."""
    log_base = jax.nn.log_softmax(jnp.asarray([1.5, 0.5, 0.0, -1.0]))
    policy = table(1, 4)
    base = freeze(policy, log_base[None])
    algorithm = rloo(policy, base, update.gradient(optax.sgd(1.0)), n=4, beta=BETA)
    prompts = jax.vmap(prompts_of)(jnp.zeros((150, 64), jnp.int32))
    run = jax.jit(loop.scan, static_argnums=1)
    state, _ = run(key, algorithm, log_base[None], prompts)
    best = BETA * jax.nn.logsumexp((1 + 1 / BETA) * log_base)  # J_beta(pi*_beta)
    start, end = (float(objective(t, log_base)) for t in (log_base, state.params[0]))
    assert start < best - 0.1
    assert best - end < 0.02 * (best - start)


def test_info_estimates_the_objective_and_the_kl(key):
    """Recomputed from the same draws, away from the base and from beta = 1."""
    policy = table(1, 4)
    params = jax.random.normal(jax.random.key(0), (1, 4))
    log_base = jax.nn.log_softmax(jax.random.normal(jax.random.key(1), (1, 4)))
    base = freeze(policy, log_base)
    algorithm = rloo(policy, base, update.gradient(optax.sgd(0.0)), n=4, beta=BETA)
    prompts = prompts_of(jnp.zeros(32, jnp.int32))
    _, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    y = np.asarray(policy.sample(key, params, prompts, 4).tokens[..., 0])
    ratio = np.asarray(jax.nn.log_softmax(params) - log_base)[0][y]
    np.testing.assert_allclose(info.kl, ratio.mean(), rtol=1e-4)
    value = np.asarray(log_base)[0][y] - BETA * ratio
    np.testing.assert_allclose(info.objective, value.mean(), rtol=1e-4)
