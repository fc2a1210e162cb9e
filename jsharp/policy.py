"""A policy samples responses and evaluates their log-probability (Def 3.2).

    prompts [B P] -> policy.sample -> response [B n H] -> policy.log_prob -> [B n]

Dimension legend, used in every shape of this project:
    B    prompts in a batch          n  responses per prompt (the paper's N; a pair: 2)
    P    padded prompt length        H  padded response length (horizon)
    X Y  rows and columns of a table V  vocabulary
    K    members of a finite class   d  features

A table is the case P = H = 1; no file but a policy's own asks which kind it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

Params = Any  # a pytree of arrays


class Prompts(NamedTuple):
    """A batch of prompts, padded on the right; `length` counts the real tokens."""

    tokens: Int[Array, "B P"]
    length: Int[Array, " B"]


class Response(NamedTuple):
    """n responses to each prompt, padded on the right.

    `length` counts tokens up to and including the first end token, or H where none was
    drawn. Lengths are explicit, so the pad and the end token may share one id.
    `sampler_log_prob` is what the sampler saw while drawing, kept only to measure its
    drift from `Policy.log_prob`, the one evaluation path for every score.
    """

    tokens: Int[Array, "B n H"]
    length: Int[Array, "B n"]
    sampler_log_prob: Float[Array, "B n"]


class Policy(NamedTuple):
    """A record of pure functions; dispatch means passing another record.

    init(key) -> params
    sample(key, params, prompts, n) -> Response; `key` is one key, or one per prompt
        (shape [B]), and response i of a prompt depends only on that prompt's key and i.
    log_prob(params, prompts, response) -> Float[B n]: the sum over the response's
        tokens, end token included, of log pi(y_h | x, y_<h) at temperature 1.
    """

    init: Callable[..., Params]
    sample: Callable[..., Response]
    log_prob: Callable[..., Array]


class FrozenPolicy(NamedTuple):
    """A policy with its parameters closed over.

    sample(key, prompts, n) -> Response; log_prob(prompts, response) -> Float[B n].
    """

    sample: Callable[..., Response]
    log_prob: Callable[..., Array]


def freeze(policy: Policy, params: Params) -> FrozenPolicy:
    """Fix the parameters, so that a base policy cannot be trained by accident."""
    params = jax.lax.stop_gradient(params)
    return FrozenPolicy(
        sample=lambda key, prompts, n: policy.sample(key, params, prompts, n),
        log_prob=lambda prompts, response: policy.log_prob(params, prompts, response),
    )


def mask(response: Response) -> Bool[Array, "B n H"]:
    """True on the tokens that count: up to and including the first end token."""
    horizon = response.tokens.shape[-1]
    return jnp.arange(horizon)[None, None] < response.length[..., None]


def lengths(tokens: Int[Array, "*b H"], end: tuple[int, ...]) -> Int[Array, "*b"]:
    """Tokens up to and including the first that is in `end`; H where there is none."""
    ended = jnp.isin(tokens, jnp.asarray(end, tokens.dtype))
    before = jnp.cumprod(1 - ended.astype(jnp.int32), axis=-1)
    return jnp.minimum(before.sum(-1) + 1, tokens.shape[-1]).astype(jnp.int32)


def select(response: Response, index: Int[Array, "B k"]) -> Response:
    """Keep k responses of each prompt, by position on the candidate axis."""
    return Response(
        tokens=jnp.take_along_axis(response.tokens, index[..., None], axis=1),
        length=jnp.take_along_axis(response.length, index, axis=1),
        sampler_log_prob=jnp.take_along_axis(response.sampler_log_prob, index, axis=1),
    )


def uniforms(
    key: Key[Array, ""] | Key[Array, " B"], batch: int, n: int, horizon: int
) -> Float[Array, "B n H"]:
    """The randomness of a batch of responses: one uniform in [0, 1) per token.

    Row (b, i) depends only on prompt b's key and on i, so a response does not change
    when its batch, its neighbours or n do.
    """
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    keys = fold(key, jnp.arange(batch)) if key.ndim == 0 else key
    keys = jax.vmap(fold, in_axes=(0, None))(keys, jnp.arange(n))
    draw = lambda k: jax.random.uniform(k, (horizon,), jnp.float32)
    return jax.vmap(jax.vmap(draw))(keys)


def inverse_cdf(
    u: Float[Array, "*b"], logits: Float[Array, "*b V"]
) -> Int[Array, "*b"]:
    """Draw from softmax(logits): the first token whose cumulative mass exceeds u.

    Exact in law up to float rounding, and never a token of zero probability.
    """
    mass = jax.nn.softmax(logits, axis=-1)
    # Rounding may raise the sum over tokens of zero mass: they are no part of it.
    cumulative = jnp.where(mass > 0, jnp.cumsum(mass, axis=-1), 0.0)
    total = cumulative.max(-1, keepdims=True)
    return jnp.argmax(cumulative > u[..., None] * total, axis=-1).astype(jnp.int32)
