"""Keys and values kept between calls, laid out for one matrix product per kv head.

K kv heads come before n so that a prompt's prefix, shared by its n responses, is
attended to by one [n T, h] x [h, P] product per prompt and kv head, and never
copied n times.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.lm.config import TransformerConfig


class KeyValue(NamedTuple):
    """One layer's keys (after RoPE) and values."""

    key: Float[Array, "B K n S h"]
    value: Float[Array, "B K n S h"]


class Prefix(NamedTuple):
    """What a prompt's n responses share: each layer with n = 1, and what counts."""

    layers: tuple[KeyValue, ...]
    visible: Bool[Array, "B P"]


class Suffix(NamedTuple):
    """What each response has written so far: positions [0, step) of each layer."""

    layers: tuple[KeyValue, ...]
    step: Int[Array, ""]


def empty(
    config: TransformerConfig, batch: int, n: int, horizon: int, dtype: jnp.dtype
) -> Suffix:
    """A suffix with room for `horizon` tokens and none written."""
    shape = (batch, config.num_key_value_heads, n, horizon, config.head_dim)
    zeros = lambda: jnp.zeros(shape, dtype)
    layers = tuple(KeyValue(zeros(), zeros()) for _ in range(config.num_hidden_layers))
    return Suffix(layers, jnp.zeros((), jnp.int32))


def write(buffer: KeyValue, new: KeyValue, step: Int[Array, ""]) -> KeyValue:
    """Put the T new positions of `new` at step .. step + T - 1 of the buffer."""
    put = lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, step, axis=3)
    return KeyValue(put(buffer.key, new.key), put(buffer.value, new.value))
