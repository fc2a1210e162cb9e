"""Keys and values of the responses being written: one ring per layer for all slots.

A slot is where one response is decoded; R rows (one per prompt) hold C slots each. At
every step all slots write at one place of the ring, clock mod S, so a write is one
slice update whatever the slots' ages; a slot of age a (tokens behind the one it is fed)
sees the places written in the last a + 1 steps:

    (clock - j) mod S <= a

Keys carry their own positions (they are rotated before they are written), so the place
in the ring means nothing. Keys are kept time-minor: the scores are then products along
contiguous time, [G, h] x [h, S] for each slot and kv head, with nothing transposed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.lm.attention import Attend, Prefix
from jsharp.lm.config import TransformerConfig


class Shared(NamedTuple):
    """A prefix laid out for decoding: each layer's keys [R K h P] and values [R K P h].

    A prompt's n responses attend to it by one [C G, h] x [h, P] product for each prompt
    and kv head: it is never copied n times.
    """

    layers: tuple[tuple[Array, Array], ...]
    visible: Bool[Array, "R P"]


def share(prefix: Prefix) -> Shared:
    """The prefix with its keys time-minor, once for all steps."""
    turned = [(k[:, :, 0].swapaxes(2, 3), v[:, :, 0]) for k, v in prefix.layers]
    return Shared(tuple(turned), prefix.visible)


class Ring(NamedTuple):
    """One layer's keys and values of the last S steps of every slot."""

    key: Float[Array, "R K C h S"]
    value: Float[Array, "R K C S h"]


def empty(
    config: TransformerConfig, rows: int, columns: int, size: int
) -> tuple[Ring, ...]:
    """Each layer's ring with room for `size` steps and nothing written."""
    dtype = jnp.dtype(config.dtype)
    lead = rows, config.num_key_value_heads, columns
    zeros = lambda *shape: jnp.zeros((*lead, *shape), dtype)
    ring = lambda: Ring(zeros(config.head_dim, size), zeros(size, config.head_dim))
    return tuple(ring() for _ in range(config.num_hidden_layers))


def grow(rings: tuple[Ring, ...], size: int) -> tuple[Ring, ...]:
    """The same with room for `size` steps; only before the clock first wraps around."""

    def pad(x: Array, axis: int) -> Array:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, size - x.shape[axis])
        return jnp.pad(x, widths)

    return tuple(Ring(pad(ring.key, 4), pad(ring.value, 3)) for ring in rings)


def decode(
    shared: Shared,
    rings: tuple[Ring, ...],
    clock: Int[Array, ""],
    age: Int[Array, "R C"],
) -> Attend:
    """Attend from one new token of each slot to its prompt and its own past.

    The token stands at position shared.visible.sum() + age. Keeps each layer's ring,
    the token's key and value written; a window w > 0 hides what is w or more before.
    """
    size = rings[0].key.shape[-1]
    place = clock % size
    ago = (place - jnp.arange(size)) % size  # steps since each place was written
    position = shared.visible.sum(-1)[:, None] + age
    distance = position[..., None] - jnp.arange(shared.visible.shape[-1])[None, None]

    def attend(layer, query, key, value, window):
        ring = _write(rings[layer], key, value, place)
        query = query[:, :, 0].transpose(0, 2, 1, 3, 4)  # [R K C G h]
        own = ago[None, None] <= age[..., None]  # [R C S]
        told = jnp.broadcast_to(shared.visible[:, None], distance.shape)  # [R C P]
        if window:
            own, told = own & (ago < window)[None, None], told & (distance < window)
        mixed = _attend(query, ring, shared.layers[layer], own, told)
        return mixed.transpose(0, 2, 1, 3, 4)[:, :, None], ring

    return attend


def _write(ring: Ring, key: Array, value: Array, place: Int[Array, ""]) -> Ring:
    key, value = (x[:, :, 0].transpose(0, 2, 1, 3) for x in (key, value))
    put = jax.lax.dynamic_update_index_in_dim
    return Ring(put(ring.key, key, place, 4), put(ring.value, value, place, 3))


def _attend(query, ring, shared, own, told):
    wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    scale, dtype = query.shape[-1] ** -0.5, ring.value.dtype
    hide = lambda scores, seen: jnp.where(seen[:, None, :, None], scores, -jnp.inf)
    key, value = shared
    before = hide(wide("rkcgh,rkhp->rkcgp", query, key) * scale, told)
    after = hide(wide("rkcgh,rkchs->rkcgs", query, ring.key) * scale, own)
    # A token sees itself, so the joint maximum is finite.
    top = jnp.maximum(before.max(-1), after.max(-1))[..., None]
    before, after = jnp.exp(before - top), jnp.exp(after - top)
    total = before.sum(-1) + after.sum(-1)
    mixed = wide("rkcgp,rkph->rkcgh", before.astype(dtype), value)
    mixed = mixed + wide("rkcgs,rkcsh->rkcgh", after.astype(dtype), ring.value)
    return (mixed / total[..., None]).astype(dtype)
