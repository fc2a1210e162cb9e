"""Attention in segments, groups and blocks against one masked softmax."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.lm import attention
from jsharp.lm.attention import KeyValue, Prefix, causal

B, N, T, K, G, H, P = 3, 2, 10, 2, 2, 4, 5
LENGTH = np.asarray([0, 3, 5])  # of the prefixes


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Two segments of the 10 queries, the last one shorter."""
    monkeypatch.setattr(attention, "_SEGMENT", 7)


@pytest.fixture(scope="module")
def arrays():
    own = (B, N, T, K, G, H), (B, N, T, K, H), (B, N, T, K, H)
    shapes = (*own, (B, K, 1, P, H), (B, K, 1, P, H), (B, N, T, K, G, H))
    keys = jax.random.split(jax.random.key(5), len(shapes))
    return [2 * jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


def seen(prefix, window):
    """[B T P + T]: keys of the prefix, then own ones, by their positions."""
    mask = np.zeros((B, T, P + T), bool)
    for b, t, k in np.ndindex(mask.shape):
        start = LENGTH[b] if prefix else 0
        query = start + t
        key = k if k < P else start + k - P
        real = prefix and k < start if k < P else True
        mask[b, t, k] = real and key <= query and (not window or query - key < window)
    return mask


def naive(mask, query, key, value, before_key, before_value):
    """softmax over prefix and own keys side by side, the prefix copied n times."""
    widen = lambda a: jnp.broadcast_to(a.transpose(0, 2, 3, 1, 4), (B, N, P, K, H))
    key = jnp.concatenate([widen(before_key), key], axis=2)
    value = jnp.concatenate([widen(before_value), value], axis=2)
    scores = jnp.einsum("bntkgh,bnskh->bnkgts", query, key) / np.sqrt(H)
    scores = jnp.where(mask[:, None, None, None], scores, -np.inf)
    return jnp.einsum("bnkgts,bnskh->bntkgh", jax.nn.softmax(scores), value)


def ours(prefix, window, limit, query, key, value, before_key, before_value):
    visible = jnp.arange(P)[None] < LENGTH[:, None]
    shared = Prefix((KeyValue(before_key, before_value),), visible)
    attend = causal(shared if prefix else None, scores_at_once=limit)
    return attend(0, query, key, value, window)[0]


EACH = K * G * T * (T + P)  # scores of one response that has a prefix


@pytest.mark.parametrize(
    ("prefix", "window", "limit"),
    [
        (False, 0, None),
        (True, 0, 4 * EACH),  # groups of two prompts and of one
        (True, 3, EACH),  # single responses
        (True, 7, 192),  # blocks of four queries, one of them padding
    ],
)
def test_value_and_gradient_equal_those_of_one_softmax(arrays, prefix, window, limit):
    *inputs, weight = arrays

    def both(function):
        def total(*inputs):
            out = function(*inputs)
            return (out * weight).sum(), out

        return jax.jit(jax.grad(total, argnums=range(5), has_aux=True))(*inputs)

    found = both(functools.partial(ours, prefix, window, limit))
    wanted = both(functools.partial(naive, jnp.asarray(seen(prefix, window))))
    # Sums of some ten float32 products of numbers up to 8.
    chex.assert_trees_all_close(found, wanted, atol=3e-5, rtol=1e-5)
    assert all(np.abs(x).max() > 0.1 for x in wanted[0][:3])


def test_no_more_scores_exist_than_asked():
    """In the trace of value and gradient, where all would be 2 x 64 x 64."""
    shapes = (1, 1, 64, 1, 2, 2), (1, 1, 64, 1, 2), (1, 1, 64, 1, 2)
    inputs = [jnp.ones(s) for s in shapes]
    largest = {}
    for limit in (600, 2**20):
        attend = causal(scores_at_once=limit)
        total = lambda *a: attend(0, *a, 0)[0].sum()  # noqa: B023
        trace = str(jax.make_jaxpr(jax.value_and_grad(total, (0, 1, 2)))(*inputs))
        shapes = re.findall(r"(?:f32|i32|bool)\[([0-9,]+)\]", trace)
        largest[limit] = max(math.prod(map(int, s.split(","))) for s in shapes)
    # 8 segments of 8 queries, the last of which sees all 64 keys.
    assert largest[600] <= 600 and largest[2**20] == 2 * 8 * 64


def test_weights_of_bfloat16_sum_in_float32(arrays):
    """Values all 1: whatever the scores, the answer is 1 up to its own rounding."""
    query, key, value, before_key, before_value, _ = arrays
    narrow = [a.astype(jnp.bfloat16) for a in (query, key, before_key)]
    ones = lambda a: jnp.ones_like(a, jnp.bfloat16)
    found = ours(True, 0, None, *narrow[:2], ones(value), narrow[2], ones(before_value))
    chex.assert_type(found, jnp.bfloat16)
    np.testing.assert_allclose(np.asarray(found, np.float32), 1, atol=2**-7)
