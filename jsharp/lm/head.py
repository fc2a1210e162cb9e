"""The last layer, softmax(rows @ table^T), a part of the vocabulary at a time.

    logsumexp = log sum_v exp(row . table_v)
    log_prob = row . table_target - logsumexp

All rows meet one tile of the table after another, with the running maximum and sum of
an online softmax, so no [R V] array exists in either direction: the backward pass
computes each tile's logits again and keeps nothing but the logsumexp.

R rows (hidden states of tokens), D hidden size, V vocabulary, c tokens of a tile.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_LEAST = jnp.finfo(jnp.float32).min  # finite, so that 0 * (_LEAST - top) is 0
_ALIGNED = 128  # matrix products of other widths are slower


class Statistics(NamedTuple):
    """What the next token's law p = softmax(row @ table^T) says of the target, in nats.

    log_prob   log p(target)
    best       log p of the most likely token
    entropy    -sum_v p(v) log p(v)
    rank       how many tokens are more likely than the target: 0 for the mode
    logsumexp  log sum_v exp(logit_v), by which logits exceed log-probs
    certainty  KL(uniform || p) = -log V - mean_v log p(v): 0 for the uniform law
    """

    log_prob: Float[Array, "*b"]
    best: Float[Array, "*b"]
    entropy: Float[Array, "*b"]
    rank: Int[Array, "*b"]
    logsumexp: Float[Array, "*b"]
    certainty: Float[Array, "*b"]


def log_prob_of(
    rows: Float[Array, "R D"],
    table: Float[Array, "V D"],
    targets: Int[Array, " R"],
    *,
    logits_at_once: int | None = None,
) -> Float[Array, " R"]:
    """log softmax(rows @ table^T)[target] in float32, differentiable.

    At most `logits_at_once` logits (but one a row) exist at a time, in either
    direction: by default 2^20 on a CPU, which its caches hold, and 2^26 elsewhere.
    """
    return _log_prob(rows, table, targets, _tile(rows, table, logits_at_once))


def statistics(
    rows: Float[Array, "R D"],
    table: Float[Array, "V D"],
    targets: Int[Array, " R"],
    *,
    logits_at_once: int | None = None,
) -> Statistics:
    """The statistics of each row's target, float32 and without a gradient."""
    rows, table = jax.lax.stop_gradient((rows, table))
    online = _online(rows, table, targets, _tile(rows, table, logits_at_once))
    log_total = jnp.log(online.total)
    size = table.shape[0]
    return Statistics(
        log_prob=online.picked - online.top - log_total,
        best=-log_total,
        entropy=log_total - online.weighted / online.total,
        rank=online.above,
        logsumexp=online.top + log_total,
        certainty=log_total - online.below / size - math.log(size),
    )


class _Online(NamedTuple):
    """Of the tokens seen so far; logits count from `top`, their maximum."""

    top: Float[Array, " R"]
    total: Float[Array, " R"]  # sum exp(logit - top)
    weighted: Float[Array, " R"]  # sum exp(logit - top) (logit - top)
    picked: Float[Array, " R"]  # the target's logit
    above: Int[Array, " R"]  # tokens whose logit exceeds the target's
    below: Float[Array, " R"]  # sum (logit - top)


def _tile(rows: Array, table: Array, logits_at_once: int | None) -> int:
    """Tokens to a tile: tiles as equal as whole vectors of _ALIGNED allow."""
    if logits_at_once is None:
        logits_at_once = 2**20 if jax.default_backend() == "cpu" else 2**26
    size = table.shape[0]
    most = max(1, min(size, logits_at_once // rows.shape[0]))
    unit = _ALIGNED if most >= _ALIGNED else 1
    most -= most % unit
    even = -(-size // -(-size // most))
    return min(size, -(-even // unit) * unit)


def _starts(table: Array, tile: int) -> Int[Array, " c"]:
    return jnp.arange(0, table.shape[0], tile)


def _logits(
    rows: Float[Array, "R D"], table: Float[Array, "V D"], start: Array, tile: int
) -> tuple[Float[Array, "R c"], Float[Array, "c D"], Int[Array, "1 c"], Array]:
    """A tile's logits, part of the table, tokens, and which of them are its own.

    The last tile is moved back into the table: its first tokens are then not its own.
    """
    part = jax.lax.dynamic_slice_in_dim(table, start, tile)
    tokens = jnp.minimum(start, table.shape[0] - tile) + jnp.arange(tile)[None]
    logits = jnp.einsum("rd,vd->rv", rows, part, preferred_element_type=jnp.float32)
    return logits, part, tokens, tokens >= start


def _online(
    rows: Float[Array, "R D"],
    table: Float[Array, "V D"],
    targets: Int[Array, " R"],
    tile: int,
) -> _Online:
    # Compared with its rivals', never with its own logit of another rounding.
    wide = lambda a: a.astype(jnp.float32)
    aim = (wide(rows) * wide(jnp.take(table, targets, axis=0))).sum(-1)

    def step(state, start):
        logits, _, tokens, own = _logits(rows, table, start, tile)
        rival = own & (tokens != targets[:, None])
        above = (logits > aim[:, None]) & rival
        place = targets - tokens[0, 0]
        inside = (place >= 0) & (place < tile)
        place = jnp.clip(place, 0, tile - 1)[:, None]
        picked = jnp.take_along_axis(logits, place, axis=-1)[:, 0]
        logits = jnp.where(own, logits, _LEAST)
        top = jnp.maximum(state.top, logits.max(-1))
        moved = state.top - top
        kept = jnp.exp(moved)
        gap = logits - top[:, None]
        mass = jnp.exp(gap)
        weighted = (mass * gap).sum(-1)
        below = jnp.where(own, gap, 0.0).sum(-1)
        return _Online(
            top=top,
            total=state.total * kept + mass.sum(-1),
            weighted=(state.weighted + moved * state.total) * kept + weighted,
            picked=jnp.where(inside, picked, state.picked),
            above=state.above + above.sum(-1),
            below=state.below + moved * start + below,  # `start` tokens came before
        ), None

    least = jnp.full(targets.shape, _LEAST)
    zeros = jnp.zeros_like(least)
    none = jnp.zeros(targets.shape, jnp.int32)
    empty = _Online(least, zeros, zeros, least, none, zeros)
    return jax.lax.scan(step, empty, _starts(table, tile))[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _log_prob(rows, table, targets, tile):
    return _forward(rows, table, targets, tile)[0]


def _forward(rows, table, targets, tile):
    online = _online(rows, table, targets, tile)
    logsumexp = online.top + jnp.log(online.total)
    return online.picked - logsumexp, (rows, table, targets, logsumexp)


def _backward(tile, kept, slope):
    """d row = slope (table_target - sum_v p_v table_v), and so for the table."""
    rows, table, targets, logsumexp = kept

    def step(state, start):
        logits, part, tokens, own = _logits(rows, table, start, tile)
        p = jnp.exp(logits - logsumexp[:, None])
        hit = (tokens == targets[:, None]).astype(jnp.float32)
        d_logits = jnp.where(own, slope[:, None] * (hit - p), 0.0).astype(rows.dtype)
        wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        d_rows, d_table = state
        d_rows += wide("rv,vd->rd", d_logits, part)
        # In this order, and kept so by the barrier, it is a fast product on a CPU.
        new = jax.lax.optimization_barrier(wide("rd,rv->dv", rows, d_logits)).T
        new += jax.lax.dynamic_slice_in_dim(d_table, start, tile)
        return (d_rows, jax.lax.dynamic_update_slice(d_table, new, (start, 0))), None

    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.float32), (rows, table))
    d_rows, d_table = jax.lax.scan(step, zeros, _starts(table, tile))[0]
    return d_rows.astype(rows.dtype), d_table.astype(table.dtype), None


_log_prob.defvjp(_forward, _backward)
