"""Attention of a whole sequence to itself and to the prompt before it.

An `Attend` is handed each layer's rotated queries, keys and values and returns what the
queries gathered, and whatever is to be kept of the layer: so the decoder knows nothing
of caches, and prefill, scoring and decoding differ only in the function they pass.

Shapes beyond the legend of `jsharp.policy`: T tokens fed, S keys seen, D hidden size,
K kv heads, G query heads per kv head, h head size.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from jsharp.lm.blocks import in_blocks

# (layer, query [B n T K G h], key [B n T K h], value [B n T K h], window)
#     -> (gathered [B n T K G h], kept)
Attend = Callable[[int, Array, Array, Array, int], tuple[Array, Any]]

# Queries are taken in segments, each with the keys that any of them sees: of T segments
# (T - 1) / 2T of the scores need no computing, and each is one more piece of program.
_SEGMENT, _SEGMENTS = 96, 8

# What a backward pass needs of a forward one, beside the queries, keys and values.
_KEPT = jax.checkpoint_policies.save_only_these_names("mixed", "log_total")


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
        gather = jax.checkpoint(gather, policy=_KEPT)

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
    # Positions before groups, so that a block's rows are the rows of one product.
    query = query.transpose(0, 3, 1, 2, 4, 5)  # [B K n T G h]
    own = KeyValue(key.transpose(0, 3, 1, 2, 4), value.transpose(0, 3, 1, 2, 4))
    *rows, size, group, _ = query.shape
    segment = max(_SEGMENT, -(-size // _SEGMENTS))
    mixed = []
    for start in range(0, size, segment):
        stop = min(start + segment, size)
        first = max(0, start + 1 - window) if window else 0
        near = KeyValue(*(array[..., first:stop, :] for array in own))
        block = lambda query, time, near=near, first=first: _softmax(
            first, window, query, time, near, shared
        )
        keys = stop - first + (0 if shared is None else shared.key.shape[2])
        most = limit // (math.prod(rows) * group * keys)
        if most < stop - start:
            block = jax.checkpoint(block, policy=_KEPT)
        time = jnp.arange(start, stop).reshape(1, 1, 1, -1, 1, 1)
        mixed.append(in_blocks(block, most, 3, query[:, :, :, start:stop], time))
    return jnp.concatenate(mixed, axis=3).transpose(0, 2, 3, 1, 4, 5)


class _Side(NamedTuple):
    """Keys that the queries are compared with: the own ones, or the shared."""

    axes: str  # before h, as an einsum names them
    key: Array
    value: Array
    seen: Bool[Array, "#B 1 1 #T 1 S"]


def _sides(
    first: int,
    window: int,
    time: Int[Array, "1 1 1 T 1 1"],
    own: KeyValue,
    shared: _Shared | None,
) -> Iterator[_Side]:
    """Own keys from time `first` on; then those of the prefix, if there is one."""
    spread = lambda a: a.reshape(1, 1, 1, 1, 1, -1)
    back = time - spread(first + jnp.arange(own.key.shape[-2]))
    seen = (back >= 0) & (back < window) if window else back >= 0
    yield _Side("bkns", *own, seen)
    if shared is not None:
        seen = shared.visible[:, None, None, None, None]
        if window:
            start = shared.visible.sum(-1).reshape(-1, 1, 1, 1, 1, 1)
            seen &= start + time - spread(jnp.arange(seen.shape[-1])) < window
        yield _Side("bks", shared.key, shared.value, seen)


_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _scores(query: Array, side: _Side) -> Float[Array, "B K n T G S"]:
    scores = _wide(f"bkntgh,{side.axes}h->bkntgs", query, side.key)
    return jnp.where(side.seen, scores * query.shape[-1] ** -0.5, -jnp.inf)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _softmax(
    first: int,
    window: int,
    query: Float[Array, "B K n T G h"],
    time: Int[Array, "1 1 1 T 1 1"],
    own: KeyValue,
    shared: _Shared | None,
) -> Float[Array, "B K n T G h"]:
    """Queries at these times over own keys from time `first` on and shared ones."""
    return _forward(first, window, query, time, own, shared)[0]


def _forward(first, window, query, time, own, shared):
    sides = [*_sides(first, window, time, own, shared)]
    scores = [_scores(query, side) for side in sides]
    # Each token sees itself, so the maximum is finite even if no prefix is seen.
    top = functools.reduce(jnp.maximum, [s.max(-1, keepdims=True) for s in scores])
    total, mixed = jnp.zeros_like(top), jnp.zeros(query.shape, jnp.float32)
    for side, score in zip(sides, scores, strict=True):
        weight = jnp.exp(score - top)
        total += weight.sum(-1, keepdims=True)
        weight = weight.astype(side.value.dtype)
        mixed += _wide(f"bkntgs,{side.axes}h->bkntgh", weight, side.value)
    mixed = checkpoint_name((mixed / total).astype(query.dtype), "mixed")
    log_total = checkpoint_name(top + jnp.log(total), "log_total")
    return mixed, (query, time, own, shared, mixed, log_total)


def _backward(first, window, kept, slope):
    """With p = exp(score - log_total): d score = p (slope . value - slope . mixed)."""
    query, time, own, shared, mixed, log_total = kept
    wide = lambda a: a.astype(jnp.float32)
    along = (wide(slope) * wide(mixed)).sum(-1, keepdims=True)
    d_query, d_keys = jnp.zeros(query.shape, jnp.float32), []
    for side in _sides(first, window, time, own, shared):
        p = jnp.exp(_scores(query, side) - log_total)
        d_p = _wide(f"bkntgh,{side.axes}h->bkntgs", slope, side.value)
        d_score = (p * (d_p - along) * query.shape[-1] ** -0.5).astype(query.dtype)
        d_query += _wide(f"bkntgs,{side.axes}h->bkntgh", d_score, side.key)
        back = functools.partial(_wide, f"bkntgs,bkntgh->{side.axes}h")
        d_key, d_value = back(d_score, query), back(p.astype(slope.dtype), slope)
        d_keys += [d_key.astype(side.key.dtype), d_value.astype(side.value.dtype)]
    d_shared = (
        None
        if shared is None
        else shared._replace(key=d_keys[2], value=d_keys[3], visible=None)
    )
    return d_query.astype(query.dtype), None, KeyValue(*d_keys[:2]), d_shared


_softmax.defvjp(_forward, _backward)
