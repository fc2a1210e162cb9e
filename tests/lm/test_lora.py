"""Adapters: nothing at first, W + (alpha/r) A B after, and no gradient to the base."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import CONFIG, END, HORIZON, PAD, PARAMS, PROMPTS

from jsharp.lm.language_model import transformer_policy
from jsharp.lm.lora import TARGETS, lora, merge
from jsharp.policy import Policy

POLICY = transformer_policy(CONFIG, horizon=HORIZON, end=END, pad=PAD)
RANK, ALPHA = 3, 5.0
ADAPTED = lora(POLICY, PARAMS, rank=RANK, alpha=ALPHA)


@pytest.fixture
def adapters(key):
    return ADAPTED.init(jax.random.fold_in(key, 0))


@pytest.fixture
def moved(adapters, key):
    """As after some training: B is no longer zero."""
    keys = jax.random.split(jax.random.fold_in(key, 1), len(adapters))
    return {
        name: {**pair, "b": 0.3 * jax.random.normal(k, pair["b"].shape)}
        for k, (name, pair) in zip(keys, adapters.items(), strict=True)
    }


def test_at_first_it_is_the_base_exactly(adapters):
    same = merge(PARAMS, adapters, alpha=ALPHA)
    jax.tree.map(np.testing.assert_array_equal, same, PARAMS)


def test_there_is_an_adapter_for_each_matrix_of_attention_and_mlp(adapters):
    shapes = {"qkv": (16, 48), "out": (24, 16), "gate_up": (16, 40), "down": (20, 16)}
    assert len(adapters) == 2 * len(shapes)
    for name, (inner, outer) in shapes.items():
        pairs = [pair for path, pair in adapters.items() if f"['{name}']" in path]
        assert len(pairs) == CONFIG.num_hidden_layers
        for pair in pairs:
            assert pair["a"].shape == (inner, RANK) and jnp.any(pair["a"])
            assert pair["b"].shape == (RANK, outer) and not jnp.any(pair["b"])


def test_merge_adds_the_scaled_product(moved):
    found = merge(PARAMS, moved, alpha=ALPHA)
    block = lambda tree: tree["layers"][1]["mlp"]["down"]["kernel"]
    pair = moved["['layers'][1]['mlp']['down']['kernel']"]
    change = ALPHA / RANK * np.asarray(pair["a"]) @ np.asarray(pair["b"])
    np.testing.assert_allclose(block(found), block(PARAMS) + change, atol=1e-6)
    np.testing.assert_array_equal(found["embedding"], PARAMS["embedding"])
    np.testing.assert_array_equal(found["norm"]["scale"], PARAMS["norm"]["scale"])


def test_samples_and_scores_are_those_of_the_merged_weights(moved, key):
    """The policy wrapped here hands back what it was given."""
    echo = Policy(init=POLICY.init, sample=lambda *a: a, log_prob=lambda *a: a)
    adapted = lora(echo, PARAMS, rank=RANK, alpha=ALPHA)
    merged = merge(PARAMS, moved, alpha=ALPHA)
    _, given, prompts, n = adapted.sample(key, moved, PROMPTS, 4)
    jax.tree.map(np.testing.assert_array_equal, given, merged)
    assert prompts is PROMPTS and n == 4
    given, prompts, response = adapted.log_prob(moved, PROMPTS, "response")
    jax.tree.map(np.testing.assert_array_equal, given, merged)
    assert prompts is PROMPTS and response == "response"


def test_gradients_move_b_first_and_the_base_never(adapters, moved):
    """Under a stand-in for the log-probability that depends on every weight."""
    square = lambda params, *_: sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    policy = POLICY._replace(log_prob=square)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(params, adapters):
        adapted = lora(policy, params, rank=RANK, alpha=ALPHA)
        return adapted.log_prob(adapters, PROMPTS, None)

    base, first = slopes(PARAMS, adapters)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(base))
    assert all(not jnp.any(pair["a"]) and jnp.any(pair["b"]) for pair in first.values())
    base, later = slopes(PARAMS, moved)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(base))
    assert all(jnp.any(pair["a"]) and jnp.any(pair["b"]) for pair in later.values())


def test_targets_choose_the_matrices(key):
    some = lora(POLICY, PARAMS, rank=1, alpha=1.0, targets=("qkv",)).init(key)
    assert len(some) == 2 and all("['qkv']" in name for name in some)
    assert set(TARGETS) == {"qkv", "out", "gate_up", "down"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rank=0), "rank must be at least 1, got 0"),
        (dict(targets=("q_proj",)), "target 'q_proj' names no 2-D kernel"),
        (dict(targets=("attention_norm",)), "names no 2-D kernel"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lora(POLICY, PARAMS, **{"rank": 1, "alpha": 1.0, **change})
