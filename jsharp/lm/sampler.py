"""Decode n responses to each prompt: prefill once, then token by token to the end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jsharp.lm import cache, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params, Prompts, Response, inverse_cdf, uniforms

Draw = Callable[[Array, Array], Array]  # (step, logits [B n V]) -> token [B n]


class _State(NamedTuple):
    fed: Int[Array, "B n"]
    ended: Bool[Array, "B n"]
    length: Int[Array, "B n"]
    log_prob: Float[Array, "B n"]
    tokens: Int[Array, "B n H"]
    suffix: cache.Suffix


def sample(
    key: Key[Array, "*b"],
    params: Params,
    prompts: Prompts,
    n: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
) -> Response:
    """n responses to each prompt at temperature 1, each a function of its uniforms."""
    u = uniforms(key, prompts.tokens.shape[0], n, horizon)
    draw = lambda step, logits: inverse_cdf(_at(u, step), logits)
    return _decode(
        draw, params, prompts, n, config=config, horizon=horizon, end=end, pad=pad
    )


def greedy(
    params: Params,
    prompts: Prompts,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
) -> Response:
    """The likeliest token at each step, ties to the lowest id; n = 1."""
    draw = lambda step, logits: jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return _decode(
        draw, params, prompts, 1, config=config, horizon=horizon, end=end, pad=pad
    )


def _decode(
    draw: Draw,
    params: Params,
    prompts: Prompts,
    n: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
) -> Response:
    model = transformer.merge(config, params)
    prefix = transformer.prefill(model, *prompts)
    batch = prompts.tokens.shape[0]
    ends = jnp.asarray(end, jnp.int32)

    def unfinished(state: _State) -> Array:
        return (state.suffix.step < horizon) & ~state.ended.all()

    def advance(state: _State) -> _State:
        step = state.suffix.step
        position = prompts.length[:, None] - 1 + step
        hidden, layers = model(
            state.fed[..., None], position, prefix=prefix, suffix=state.suffix
        )
        logits = model.logits(hidden[:, :, 0])
        token = draw(step, logits)
        picked = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
        seen = picked - jax.nn.logsumexp(logits, axis=-1)
        token = jnp.where(state.ended, pad, token)
        return _State(
            fed=token,
            ended=state.ended | jnp.isin(token, ends),
            length=state.length + ~state.ended,
            log_prob=state.log_prob + jnp.where(state.ended, 0.0, seen),
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, token, step, 2),
            suffix=cache.Suffix(layers, step + 1),
        )

    first = transformer.opening(*prompts).astype(jnp.int32)
    start = _State(
        fed=jnp.broadcast_to(first, (batch, n)),
        ended=jnp.zeros((batch, n), bool),
        length=jnp.zeros((batch, n), jnp.int32),
        log_prob=jnp.zeros((batch, n), jnp.float32),
        tokens=jnp.full((batch, n, horizon), pad, jnp.int32),
        suffix=cache.empty(config, batch, n, horizon, jnp.dtype(config.dtype)),
    )
    last = jax.lax.while_loop(unfinished, advance, start)
    return Response(last.tokens, last.length, last.log_prob)


def _at(u: Float[Array, "B n H"], step: Int[Array, ""]) -> Float[Array, "B n"]:
    return jax.lax.dynamic_index_in_dim(u, step, axis=2, keepdims=False)
