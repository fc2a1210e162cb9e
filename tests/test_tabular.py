"""Toy policies against direct formulas."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.tabular import (
    all_responses,
    autoregressive_softmax,
    linear_softmax,
    prompts_of,
    table,
)


def softmax(logits):
    weight = np.exp(np.asarray(logits, float))
    return weight / weight.sum(-1, keepdims=True)


def test_table_is_a_softmax_of_its_rows():
    logits = jnp.asarray([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
    every = all_responses(3, 1, prompts=2)
    got = table(2, 3).log_prob(logits, prompts_of(jnp.arange(2)), every)
    np.testing.assert_allclose(np.exp(got), softmax(logits), rtol=1e-5)


def test_linear_softmax_is_a_softmax_of_inner_products():
    features = np.random.default_rng(0).normal(size=(2, 4, 3))
    theta = np.array([0.5, -1.0, 2.0])
    policy = linear_softmax(jnp.asarray(features, jnp.float32))
    got = policy.log_prob(
        jnp.asarray(theta, jnp.float32),
        prompts_of(jnp.asarray([1, 0])),
        all_responses(4, 1, prompts=2),
    )
    np.testing.assert_allclose(np.exp(got), softmax(features @ theta)[::-1], rtol=1e-5)


def test_autoregressive_softmax_multiplies_its_layers():
    """Every sequence by nested loops over the definition, V = 3, H = 3."""
    rng = np.random.default_rng(1)
    features = [rng.normal(size=(1, 3**h, 3, 2)) for h in range(3)]
    theta = rng.normal(size=(3, 2))
    policy = autoregressive_softmax([jnp.asarray(f, jnp.float32) for f in features])
    every = all_responses(3, 3)
    got = policy.log_prob(
        jnp.asarray(theta, jnp.float32), prompts_of(jnp.zeros(1, int)), every
    )[0]
    for tokens, value in zip(itertools.product(range(3), repeat=3), got, strict=True):
        expected = 1.0
        for h in range(3):
            prefix = int("".join(map(str, tokens[:h])) or "0", 3)
            expected *= softmax(features[h][0, prefix] @ theta[h])[tokens[h]]
        np.testing.assert_allclose(np.exp(value), expected, rtol=1e-5)


def test_enumeration_with_an_end_token_lists_each_response_once():
    every = all_responses(3, 3, end=1)
    kept = {
        tuple(row[:size])
        for row, size in zip(
            np.asarray(every.tokens[0]), np.asarray(every.length[0]), strict=True
        )
    }
    # 1, then {0,2}1, then {0,2}^2 followed by any of 3.
    assert len(kept) == every.length.shape[1] == 1 + 2 + 4 * 3
    assert (1,) in kept and (0, 1) in kept and (2, 0, 1) in kept


def test_a_feature_array_of_the_wrong_depth_is_refused():
    good, bad = jnp.zeros((1, 1, 2, 3)), jnp.zeros((1, 4, 2, 3))
    with pytest.raises(ValueError, match=r"features\[1\]: expected \(1, 2, 2, 3\)"):
        autoregressive_softmax([good, bad])
