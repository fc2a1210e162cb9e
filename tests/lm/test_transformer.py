"""The decoder against transformers' Llama, numpy, and itself by another road."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import CONFIG, PARAMS, PROMPTS, logits

from jsharp.lm import cache, huggingface, transformer

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("name", ["grouped", "tied"])
def test_logits_equal_those_of_transformers(name):
    model = huggingface.load(FIXTURES / name)
    expected = np.load(FIXTURES / name / "expected.npz")
    for tokens, wanted in zip(expected["tokens"], expected["logits"], strict=True):
        found = logits(model.params, tokens, model.config)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_no_logit_depends_on_a_later_token():
    """Each position has a token of its own, so embedding rows stand for positions."""
    time = 8
    rows = lambda table: logits({**PARAMS, "embedding": table}, range(time))
    grads = jax.jacobian(rows)(PARAMS["embedding"])  # [T V] by [V D]
    size = np.abs(np.asarray(grads)).sum((1, 3))[:, :time]
    later = np.arange(time)[None] > np.arange(time)[:, None]
    assert (size[later] == 0).all() and (size[~later] > 0).all()


def test_rotate_is_multiplication_by_a_unit_complex_number(key):
    x = np.asarray(jax.random.normal(key, (1, 1, 4, 2, 6)), np.float64)
    position = np.asarray([[0, 1, 5, 300]])
    pairs = x[..., :3] + 1j * x[..., 3:]
    angle = position[:, None, :, None, None] * 50.0 ** (-2 * np.arange(3) / 6)
    turned = pairs * np.exp(1j * angle)
    wanted = np.concatenate([turned.real, turned.imag], axis=-1)
    found = transformer.rotate(jnp.float32(x), jnp.asarray(position), 50.0)
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # angles of 300 in float32


def test_norm_is_x_over_its_root_mean_square(key):
    x = np.asarray(3 * jax.random.normal(key, (2, 1, 3, 16)))
    norm = transformer.RMSNorm(CONFIG)
    norm.scale[...] = jnp.linspace(0.5, 2, 16)
    square = (x.astype(float) ** 2).mean(-1, keepdims=True)
    wanted = x / np.sqrt(square + CONFIG.rms_norm_eps) * np.linspace(0.5, 2, 16)
    np.testing.assert_allclose(norm(jnp.asarray(x)), wanted, rtol=1e-5)


def test_a_shared_prefix_is_as_good_as_the_whole_sequence():
    cut = 3
    tokens = jnp.asarray([2, 7, 5, 3, 8, 6, 2, 5])
    junk = jnp.full((2,), 4)
    padded = jnp.concatenate([tokens[: cut + 1], junk])[None]
    rest = jnp.broadcast_to(tokens[cut:], (1, 3, len(tokens) - cut))

    @jax.jit
    def continued(params):
        model = transformer.merge(CONFIG, params)
        prefix = transformer.prefill(model, padded, jnp.asarray([cut + 1]))
        hidden, _ = model(rest, jnp.arange(cut, len(tokens))[None], prefix=prefix)
        return model.logits(hidden)[0]

    wanted = logits(PARAMS, tokens)[cut:]
    for row in continued(PARAMS):
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_token_by_token_through_a_buffer_equals_all_at_once():
    tokens = jnp.asarray([2, 7, 5, 3, 8, 6])

    @jax.jit
    def advance(suffix, token):
        model = transformer.merge(CONFIG, PARAMS)
        position = suffix.step[None, None]
        hidden, layers = model(token[None, None, None], position, suffix=suffix)
        suffix = cache.Suffix(layers, suffix.step + 1)
        return suffix, model.logits(hidden)[0, 0, 0]

    suffix = cache.empty(CONFIG, 1, 1, len(tokens), jnp.dtype(jnp.float32))
    found = []
    for token in tokens:
        suffix, row = advance(suffix, token)
        found.append(row)
    np.testing.assert_allclose(found, logits(PARAMS, tokens), atol=1e-5)


def test_opening_is_the_last_real_token():
    np.testing.assert_array_equal(transformer.opening(*PROMPTS), [[3], [7], [5]])


def test_init_is_a_plain_tree_and_follows_its_key():
    again = transformer.init(jax.random.key(0), CONFIG)
    other = transformer.init(jax.random.key(1), CONFIG)
    jax.tree.map(np.testing.assert_array_equal, again, PARAMS)
    assert not np.array_equal(other["embedding"], PARAMS["embedding"])
    kernel = PARAMS["layers"][1]["attention"]["qkv"]["kernel"]
    assert isinstance(kernel, jax.Array) and kernel.shape == (16, (4 + 2 + 2) * 6)
