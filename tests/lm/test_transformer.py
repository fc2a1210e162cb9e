"""The decoder against numpy, and against itself by another road."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from tiny_llama import CONFIG, PARAMS, PROMPTS, logits

from jsharp.lm import transformer
from jsharp.lm.attention import causal


def test_no_logit_depends_on_a_later_token():
    """Each position has a token of its own, so embedding rows stand for positions."""
    time = 8
    rows = lambda table: logits({**PARAMS, "embedding": table}, range(time))
    grads = jax.jacobian(rows)(PARAMS["embedding"])  # [T V] by [V D]
    size = np.abs(np.asarray(grads)).sum((1, 3))[:, :time]
    later = np.arange(time)[None] > np.arange(time)[:, None]
    assert (size[later] == 0).all() and (size[~later] > 0).all()


def test_norm_is_x_over_its_root_mean_square(key):
    x = np.asarray(3 * jax.random.normal(key, (2, 1, 3, 16)))
    norm = transformer.RMSNorm(CONFIG, 16)
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
        position = jnp.broadcast_to(jnp.arange(cut, len(tokens)), rest.shape)
        hidden, _ = model(rest, position, causal(prefix))
        return model.logits(hidden)[0]

    wanted = logits(PARAMS, tokens)[cut:]
    for row in continued(PARAMS):
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_opening_is_the_last_real_token():
    np.testing.assert_array_equal(transformer.opening(*PROMPTS), [[3], [7], [5]])


def test_init_is_a_plain_tree_and_follows_its_key():
    again = transformer.init(jax.random.key(0), CONFIG)
    other = transformer.init(jax.random.key(1), CONFIG)
    jax.tree.map(np.testing.assert_array_equal, again, PARAMS)
    assert not np.array_equal(other["embedding"], PARAMS["embedding"])
    kernel = PARAMS["layers"][1]["attention"]["qkv"]["kernel"]
    assert isinstance(kernel, jax.Array) and kernel.shape == (16, (4 + 2 + 2) * 6)


SWITCHES = dataclasses.replace(
    CONFIG, qkv_bias=True, out_bias=True, mlp_bias=True, qk_norm=True, windows=(0, 3)
)


def test_every_switch_changes_what_is_computed():
    """Each bias, each norm of a head and the window, from one set of params."""
    params = transformer.init(jax.random.key(3), SWITCHES)
    shift = lambda path, leaf: leaf + 0.3 if leaf.ndim == 1 else leaf
    params = jax.tree_util.tree_map_with_path(shift, params)
    tokens = [2, 7, 5, 3, 8, 6]
    full = logits(params, tokens, SWITCHES)
    names = ("query_norm", "key_norm", "bias")
    for name in names:
        keep = lambda path, leaf, name=name: (
            leaf * 0.5 if name in jax.tree_util.keystr(path) else leaf
        )
        other = logits(jax.tree_util.tree_map_with_path(keep, params), tokens, SWITCHES)
        assert np.abs(other - full).max() > 1e-3, name
    unwindowed = dataclasses.replace(SWITCHES, windows=())
    other = logits(params, tokens, unwindowed)
    np.testing.assert_allclose(other[:3], full[:3], atol=1e-5)
    assert (np.abs(other[3:] - full[3:]).max(-1) > 1e-3).all()
