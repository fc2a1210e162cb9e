"""Beam search: the most likely responses that a beam of fixed width finds.

At each step the `width` open prefixes have width * V children. Those among the `width`
best that end a response join the finished ones, of which the `width` best are kept; the
`width` best that do not end are the next open prefixes. Width 1 is greedy decoding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.lm import expand, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params, Prompts, Response


class _Open(NamedTuple):
    tokens: Int[Array, "B n H"]
    log_prob: Float[Array, "B n"]  # -inf: no such prefix
    path: Int[Array, "B n H"]
    fed: Int[Array, "B n"]


class _Finished(NamedTuple):
    response: Response  # length 0: none yet
    score: Float[Array, "B n"]  # best first


class _State(NamedTuple):
    step: Int[Array, ""]
    open: _Open
    finished: _Finished
    pool: expand.Pool


def beam(
    params: Params,
    prompts: Prompts,
    width: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    length_penalty: float = 0.0,
) -> Response:
    """The `width` best responses found to each prompt, best first, as n = width.

        score(y) = log pi(y|x) / |y|^length_penalty

    At 0 (total log-probability; transformers' default is 1) no prefix's score rises as
    it grows. The search of a prompt stops when no open prefix can reach a score above
    the worst that is kept. Ties go to the earlier beam, then to the lower token. Where
    fewer than `width` responses were found, the last have length 0 and log-probability
    -inf. Memory: keys and values of width * horizon tokens for each prompt.
    """
    model = transformer.merge(config, params)
    prefix = transformer.prefill(model, *prompts)
    ends = jnp.asarray(end, jnp.int32)
    score = lambda log_prob, size: log_prob / size**length_penalty

    def unfinished(state: _State) -> Array:
        longest = horizon if length_penalty > 0 else state.step + 1
        hope = score(state.open.log_prob.max(-1), longest)
        return (state.step < horizon) & (hope > state.finished.score[:, -1]).any()

    def advance(state: _State) -> _State:
        step, old = state.step, state.open
        depth = jnp.broadcast_to(step, old.fed.shape)
        log_prob, pool = expand.expand(
            model, prefix, state.pool, old.fed, old.path, depth
        )
        total, parent, token = _children(old.log_prob, log_prob, 1 + len(end))
        tokens = jnp.take_along_axis(old.tokens, parent[..., None], axis=1)
        tokens = jax.lax.dynamic_update_index_in_dim(tokens, token, step, axis=2)
        over = jnp.isin(token, ends) | (step + 1 == horizon)
        best = over[:, :width] & (total[:, :width] > -jnp.inf)
        done = Response(
            tokens[:, :width],
            jnp.where(best, step + 1, 0),
            jnp.where(best, total[:, :width], -jnp.inf),
        )
        news = _Finished(done, score(done.sampler_log_prob, step + 1))
        live, pick = jax.lax.top_k(jnp.where(over, -jnp.inf, total), width)
        picked = lambda x: _take(x, pick)
        path = jnp.take_along_axis(old.path, picked(parent)[..., None], axis=1)
        slot = jnp.broadcast_to((step + 1) * width + jnp.arange(width), live.shape)
        path = jax.lax.dynamic_update_index_in_dim(path, slot, step + 1, axis=2)
        return _State(
            step + 1,
            _Open(picked(tokens), live, path, picked(token)),
            _best(state.finished, news, pad),
            pool,
        )

    return jax.lax.while_loop(
        unfinished, advance, _start(prompts, width, config, horizon, pad)
    ).finished.response


def _start(
    prompts: Prompts, width: int, config: TransformerConfig, horizon: int, pad: int
) -> _State:
    """One empty prefix, in the first beam."""
    batch = prompts.tokens.shape[0]
    shape = (batch, width)
    nothing = jnp.full(shape, -jnp.inf)
    blank = jnp.full((*shape, horizon), pad, jnp.int32)
    slot = jnp.broadcast_to(jnp.arange(width)[None, :, None], blank.shape)
    first = transformer.opening(*prompts).astype(jnp.int32)
    fed = jnp.broadcast_to(first, shape)
    none = Response(blank, jnp.zeros(shape, jnp.int32), nothing)
    return _State(
        jnp.zeros((), jnp.int32),
        _Open(blank, nothing.at[:, 0].set(0.0), slot.astype(jnp.int32), fed),
        _Finished(none, nothing),
        expand.empty(config, batch, width * horizon),
    )


def _children(
    log_prob: Float[Array, "B n"], following: Float[Array, "B n V"], share: int
) -> tuple[Float[Array, "B m"], Int[Array, "B m"], Int[Array, "B m"]]:
    """The best children: log-probability, parent beam and token, best first.

    `share` times the width of them: as each parent has share - 1 end tokens, at least
    the width of them are open wherever there are so many.
    """
    batch, width, vocabulary = following.shape
    total = (log_prob[..., None] + following).reshape(batch, -1)
    total, index = jax.lax.top_k(total, min(share * width, total.shape[-1]))
    return total, index // vocabulary, (index % vocabulary).astype(jnp.int32)


def _best(old: _Finished, new: _Finished, pad: int) -> _Finished:
    """The best of both, as many as of old; earlier responses win ties."""
    join = lambda a, b: jnp.concatenate([a, b], axis=1)
    both = jax.tree.map(join, old, new)
    score, pick = jax.lax.top_k(both.score, old.score.shape[1])
    best = jax.tree.map(lambda x: _take(x, pick), both)
    empty = (best.response.length == 0)[..., None]
    tokens = jnp.where(empty, pad, best.response.tokens)
    return _Finished(best.response._replace(tokens=tokens), score)


def _take(x: Array, pick: Int[Array, "B n"]) -> Array:
    index = pick.reshape(*pick.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1)
