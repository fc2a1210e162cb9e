"""Draw tokens from logits: the inverse CDF in two levels, one uniform a token.

    token = first v with  sum_{w <= v} p_w > u sum_w p_w,    p = exp(logits - max)

The vocabulary is cut in blocks of about sqrt(V) tokens: the cumulative sum runs over
the blocks' masses, then inside the chosen block. Exact in law up to float rounding;
the masses it sums also give log softmax(logits)[token].
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the base law is changed before a token is drawn, in the order of the fields.

    temperature  softmax(logits / temperature); 0 stands for the likeliest token
    top_k        only tokens no less likely than the k-th likeliest; 0 for all
    top_p        only the likeliest tokens whose mass first reaches top_p, at least one

    The meaning is that of the logits processors of transformers: top_k keeps every
    token that ties with the k-th; of tokens that tie, top_p keeps as many as it takes,
    here those of the highest ids (there, any).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature: expected a number >= 0, got {self.temperature!r}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k: expected an integer >= 0, got {self.top_k!r}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a number in (0, 1], got {self.top_p!r}")


BASE = Sampling()  # the model's own law


class Draw(NamedTuple):
    """One token a row; its log-probability at temperature 1, and in the law drawn."""

    token: Int[Array, "*b"]
    base_log_prob: Float[Array, "*b"]
    sampler_log_prob: Float[Array, "*b"]


def draw(
    u: Float[Array, "*b"], logits: Float[Array, "*b V"], sampling: Sampling = BASE
) -> Draw:
    """The token at `u` of [0, 1) in the law of `sampling`; float32 log-probabilities.

    Never a token of zero probability, whatever the rounding.
    """
    if sampling.temperature == 0:
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        base = _at(logits, token) - jax.nn.logsumexp(logits, axis=-1)
        return Draw(token, base, jnp.zeros_like(base))
    if sampling == BASE:
        token, log_prob = _inverse_cdf(u, logits)
        return Draw(token, log_prob, log_prob)
    token, log_prob = _inverse_cdf(u, truncated(logits, sampling))
    return Draw(token, _at(logits, token) - jax.nn.logsumexp(logits, axis=-1), log_prob)


def truncated(logits: Float[Array, "*b V"], sampling: Sampling) -> Float[Array, "*b V"]:
    """logits / temperature where `sampling` keeps the token, -inf elsewhere."""
    logits = logits / sampling.temperature
    logits = jnp.where(logits == 0, 0.0, logits)  # so that -0 and 0 tie
    order = _order(logits)
    if 0 < sampling.top_k < logits.shape[-1]:
        ones = jnp.ones_like(logits)
        least = _largest(
            order, ones, jnp.full(logits.shape[:-1], float(sampling.top_k))
        )
        logits = jnp.where(order >= least[..., None], logits, -jnp.inf)
    if sampling.top_p < 1:
        logits = jnp.where(_nucleus(logits, order, sampling.top_p), logits, -jnp.inf)
    return logits


def _nucleus(
    logits: Float[Array, "*b V"], order: UInt32[Array, "*b V"], top_p: float
) -> Bool[Array, "*b V"]:
    """The likeliest tokens up to the first at which their mass reaches top_p."""
    mass = jax.nn.softmax(logits, axis=-1)
    least = _largest(order, mass, jnp.full(logits.shape[:-1], top_p))[..., None]
    above, tied = order > least, order == least
    before = jnp.where(above, mass, 0.0).sum(-1)
    each = jnp.where(tied, mass, 0.0).max(-1)
    # Of equal tokens the higher ids are kept, as many as it takes to reach top_p.
    wanted = jnp.maximum(jnp.ceil((top_p - before) / each), 1.0)
    ids = jnp.arange(logits.shape[-1], dtype=jnp.uint32)
    ids = jnp.broadcast_to(ids[(None,) * (logits.ndim - 1)], logits.shape)
    first = _largest(ids, tied.astype(jnp.float32), wanted)[..., None]
    return above | (tied & (ids >= first))


def _order(x: Float[Array, "*b V"]) -> UInt32[Array, "*b V"]:
    """Integers in the order of the floats."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    top = jnp.uint32(1 << 31)
    return jnp.where(bits >= top, ~bits, bits | top)


def _largest(
    order: UInt32[Array, "*b V"], weight: Float[Array, "*b V"], target: Array
) -> UInt32[Array, "*b"]:
    """The largest t with  sum of weight where order >= t  at least `target`, else 0.

    Bit by bit from the top: 32 passes over the vocabulary cost a tenth of one sort.
    """

    def refine(i: Array, found: Array) -> Array:
        tried = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        reached = jnp.where(order >= tried[..., None], weight, 0.0).sum(-1)
        return jnp.where(reached >= target, tried, found)

    start = jnp.zeros(order.shape[:-1], jnp.uint32)
    return jax.lax.fori_loop(0, 32, refine, start)


def _inverse_cdf(
    u: Float[Array, "*b"], logits: Float[Array, "*b V"]
) -> tuple[Int[Array, "*b"], Float[Array, "*b"]]:
    """The token at u, and its log-probability."""
    block = 1 << (logits.shape[-1].bit_length() // 2)
    spare = -logits.shape[-1] % block
    if spare:
        widths = [(0, 0)] * (logits.ndim - 1) + [(0, spare)]
        logits = jnp.pad(logits, widths, constant_values=-jnp.inf)
    top = logits.max(-1)
    blocks = logits.reshape(*logits.shape[:-1], -1, block)
    sums = jnp.exp(blocks - top[..., None, None]).sum(-1)
    cumulative = _cumulative(sums)
    total = cumulative.max(-1)
    target = u * total
    chosen = jnp.argmax(cumulative > target[..., None], axis=-1)
    target = jnp.maximum(target - (_at(cumulative, chosen) - _at(sums, chosen)), 0.0)
    inside = jnp.take_along_axis(blocks, chosen[..., None, None], axis=-2)[..., 0, :]
    mass = _cumulative(jnp.exp(inside - top[..., None]))
    # The block's sum, in another order, may pass the last cumulative one by a rounding.
    target = jnp.minimum(target, jnp.nextafter(mass.max(-1), 0.0))
    token = jnp.argmax(mass > target[..., None], axis=-1)
    log_prob = _at(inside, token) - top - jnp.log(total)
    return (chosen * block + token).astype(jnp.int32), log_prob


def _cumulative(mass: Float[Array, "*b m"]) -> Float[Array, "*b m"]:
    """Cumulative sums; 0 where the mass is 0, though rounding may raise them there."""
    return jnp.where(mass > 0, jnp.cumsum(mass, axis=-1), 0.0)


def _at(x: Float[Array, "*b m"], index: Int[Array, "*b"]) -> Float[Array, "*b"]:
    return jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]
