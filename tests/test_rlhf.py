"""Offline RLHF-Sharpening: the regression's minimiser is the tilted policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp import update
from jsharp.policy import freeze
from jsharp.rlhf import rlhf
from jsharp.tabular import prompts_of, table


def tilted(p: np.ndarray, beta: float) -> np.ndarray:
    weight = p ** (1 + 1 / beta)
    return weight / weight.sum(-1, keepdims=True)


def test_finite_class_picks_the_tilted_policy(key):
    """With pi*_beta in the class its loss is 0 and no other member's is (exactly)."""
    policy = table(2, 4)
    params = policy.init(jax.random.key(0))
    pi_base = np.asarray(jax.nn.softmax(params), float)
    beta = 0.6
    others = jax.vmap(policy.init)(jax.random.split(jax.random.key(1), 20))
    answer = jnp.log(jnp.asarray(tilted(pi_base, beta), jnp.float32))
    members = jnp.concatenate([others[:7], answer[None], others[7:]])
    base = freeze(policy, params)
    algorithm = rlhf(policy, base, update.finite_class(members), beta=beta)
    prompts = prompts_of(jnp.tile(jnp.arange(2), 16))
    state, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    np.testing.assert_array_equal(state.params, answer)
    np.testing.assert_allclose(info.loss, 0, atol=1e-9)
    assert float(np.delete(state.inner, 7).min()) > 0.1
    assert int(info.queries) == 64


def test_ties_are_counted(key):
    policy = table(1, 3)
    params = jnp.zeros((1, 3))
    base = freeze(policy, params)
    algorithm = rlhf(policy, base, update.finite_class(params[None]), beta=1.0)
    prompts = prompts_of(jnp.zeros(5, jnp.int32))
    _, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    assert float(info.ties) == 1 and float(info.reward_gap) == 0


def test_the_reward_decides_the_target(key):
    """With r = -log pi the minimiser is the tilt towards the unlikely."""
    policy = table(1, 4)
    params = policy.init(jax.random.key(0))
    p = np.asarray(jax.nn.softmax(params), float)
    weight = p * p ** (-1 / 0.6)
    answer = jnp.log(jnp.asarray(weight / weight.sum(), jnp.float32))
    usual = jnp.log(jnp.asarray(tilted(p, 0.6), jnp.float32))
    algorithm = rlhf(
        policy,
        freeze(policy, params),
        update.finite_class(jnp.stack([usual, answer])),
        beta=0.6,
        reward=lambda candidates: -candidates.log_prob,
    )
    prompts = prompts_of(jnp.zeros(32, jnp.int32))
    state, _ = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    np.testing.assert_array_equal(state.params, answer)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(beta):
    policy = table(1, 2)
    base = freeze(policy, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="expected beta > 0"):
        rlhf(policy, base, update.finite_class(jnp.zeros((1, 1, 2))), beta=beta)
