"""Attention of a whole sequence to itself and to the prompt before it.

An `Attend` is handed each layer's rotated queries, keys and values and returns what the
queries gathered, and whatever is to be kept of the layer: so the decoder knows nothing
of caches, and prefill, scoring and decoding differ only in the function they pass.

Shapes beyond the legend of `jsharp.policy`: T tokens fed, S keys seen, D hidden size,
K kv heads, G query heads per kv head, h head size.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.lm.blocks import in_blocks

# (layer, query [B n T K G h], key [B n T K h], value [B n T K h], window)
#     -> (gathered [B n T K G h], kept)
Attend = Callable[[int, Array, Array, Array, int], tuple[Array, Any]]

# Queries are taken in segments, each with the keys that any of them sees: of T segments
# (T - 1) / 2T of the scores need no computing, and each is one more piece of program.
_SEGMENT, _SEGMENTS = 96, 8


class KeyValue(NamedTuple):
    """One layer's keys (after RoPE) and values, kv heads before sequences.

    A prompt's n responses then attend to it by one [n T, h] x [h, P] product per prompt
    and kv head, and it is never copied n times.
    """

    key: Float[Array, "B K n S h"]
    value: Float[Array, "B K n S h"]


class Prefix(NamedTuple):
    """What a prompt's n responses share: each layer with n = 1, and what counts.

    Position p of the prefix is token p of the prompt; the response's tokens follow
    position `visible.sum()`.
    """

    layers: tuple[KeyValue, ...]
    visible: Bool[Array, "B P"]


class _Shared(NamedTuple):
    """One layer of a prefix without its axis n."""

    key: Float[Array, "B K P h"]
    value: Float[Array, "B K P h"]
    visible: Bool[Array, "B P"]


def causal(
    prefix: Prefix | None = None, *, scores_at_once: int | None = None
) -> Attend:
    """softmax(q k^T / sqrt(h)) v over the prefix and the own keys up to one's own.

    Keeps each layer's own keys and values. The t-th own token stands at position
    prefix.visible.sum() + t, and a window w > 0 hides what is w or more before it.
    At most about `scores_at_once` scores exist at a time in either direction (the
    backward pass computes them again): by default 2^19 on a CPU, which its caches hold,
    and 2^26 elsewhere.
    """
    if scores_at_once is None:
        scores_at_once = 2**19 if jax.default_backend() == "cpu" else 2**26

    def attend(layer, query, key, value, window):
        own = KeyValue(key.transpose(0, 3, 1, 2, 4), value.transpose(0, 3, 1, 2, 4))
        shared = None
        if prefix is not None:
            keys, values = prefix.layers[layer]
            shared = _Shared(keys[:, :, 0], values[:, :, 0], prefix.visible)
        mixed = _attend(query, key, value, shared, window, scores_at_once)
        return mixed, own

    return attend


def _attend(
    query: Float[Array, "B n T K G h"],
    key: Float[Array, "B n T K h"],
    value: Float[Array, "B n T K h"],
    shared: _Shared | None,
    window: int,
    limit: int,
) -> Float[Array, "B n T K G h"]:
    """In groups of prompts, or of one prompt's responses, of at most `limit` scores."""
    n, time, kv_heads, group = query.shape[1:5]
    keys = time if shared is None else time + shared.key.shape[2]
    each = kv_heads * group * time * keys  # scores of one response
    gather = functools.partial(_gather, window=window, limit=limit)
    if each <= limit:  # else the blocks of its queries are checkpointed
        gather = jax.checkpoint(gather)

    def prompts(query, key, value, shared):
        one = lambda query, key, value: gather(query, key, value, shared)
        return in_blocks(one, limit // each, 1, query, key, value)

    return in_blocks(prompts, limit // (each * n), 0, query, key, value, shared)


def _gather(
    query: Float[Array, "B n T K G h"],
    key: Float[Array, "B n T K h"],
    value: Float[Array, "B n T K h"],
    shared: _Shared | None,
    *,
    window: int,
    limit: int,
) -> Float[Array, "B n T K G h"]:
    """In segments of the queries, and those in blocks of at most `limit` scores."""
    query = query.transpose(0, 3, 1, 4, 2, 5)  # [B K n G T h]
    own = KeyValue(key.transpose(0, 3, 1, 2, 4), value.transpose(0, 3, 1, 2, 4))
    *rows, size, _ = query.shape
    segment = max(_SEGMENT, -(-size // _SEGMENTS))
    mixed = []
    for start in range(0, size, segment):
        stop = min(start + segment, size)
        first = max(0, start + 1 - window) if window else 0
        near = KeyValue(*(array[..., first:stop, :] for array in own))
        block = functools.partial(
            _softmax, own=near, shared=shared, first=first, window=window
        )
        keys = stop - first + (0 if shared is None else shared.key.shape[2])
        most = limit // (math.prod(rows) * keys)
        if most < stop - start:
            block = jax.checkpoint(block)
        time = jnp.arange(start, stop).reshape(1, 1, 1, 1, -1, 1)
        mixed.append(in_blocks(block, most, 4, query[..., start:stop, :], time))
    return jnp.concatenate(mixed, axis=4).transpose(0, 2, 4, 1, 3, 5)


def _softmax(
    query: Float[Array, "B K n G T h"],
    time: Int[Array, "1 1 1 1 T 1"],
    *,
    own: KeyValue,
    shared: _Shared | None,
    first: int,
    window: int,
) -> Float[Array, "B K n G T h"]:
    """Queries at these times over own keys from time `first` on and shared ones."""
    wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    scale, dtype = query.shape[-1] ** -0.5, own.value.dtype
    spread = lambda a: a.reshape(1, 1, 1, 1, 1, -1)
    back = time - spread(first + jnp.arange(own.key.shape[-2]))
    seen = (back >= 0) & (back < window) if window else back >= 0
    scores = wide("bkngth,bknsh->bkngts", query, own.key) * scale
    scores = jnp.where(seen, scores, -jnp.inf)
    top = scores.max(-1, keepdims=True)
    if shared is not None:
        before = wide("bkngth,bkph->bkngtp", query, shared.key) * scale
        seen = shared.visible[:, None, None, None, None]
        if window:
            start = shared.visible.sum(-1).reshape(-1, 1, 1, 1, 1, 1)
            seen &= start + time - spread(jnp.arange(seen.shape[-1])) < window
        before = jnp.where(seen, before, -jnp.inf)
        # Each token sees itself, so the maximum is finite even if no prefix is seen.
        top = jnp.maximum(top, before.max(-1, keepdims=True))
    top = jax.lax.stop_gradient(top)
    scores = jnp.exp(scores - top)
    total = scores.sum(-1, keepdims=True)
    mixed = wide("bkngts,bknsh->bkngth", scores.astype(dtype), own.value)
    if shared is not None:
        before = jnp.exp(before - top)
        total += before.sum(-1, keepdims=True)
        mixed += wide("bkngtp,bkph->bkngth", before.astype(dtype), shared.value)
    return (mixed / total).astype(dtype)
