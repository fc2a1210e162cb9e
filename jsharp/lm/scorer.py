"""Teacher-forced log-probabilities of whole responses: the one evaluation path.

log pi(y|x) = sum_h log softmax(logits(x, y_<h))[y_h],  h up to and with the end token

Each prompt is computed once and shared by its n responses. What a response scores does
not depend on its padding, its neighbours or its place, but for float32 rounding.

Three sizes bound the memory, in either direction: at most `tokens_at_once` tokens pass
through the decoder at a time (but one response; by default 2^12 on a CPU, and 2^14
elsewhere), with `scores_at_once` attention scores of a layer and `logits_at_once`
logits (see `attention.causal` and `head.log_prob_of`). Where the batch has more tokens
than that, a gradient computes each group again: a third more work, for memory that
does not grow with the batch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.lm import attention, head, transformer
from jsharp.lm.blocks import in_blocks
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params, Prompts, Response, mask


def log_prob(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    tokens_at_once: int | None = None,
    scores_at_once: int | None = None,
    logits_at_once: int | None = None,
    remat: bool = False,
) -> Float[Array, "B n"]:
    """Sum over the response's tokens of log pi(y_h | x, y_<h), float32.

    With `remat` a gradient computes each layer again in place of keeping what is inside
    of it, a third more work: for batches whose layers would not fit side by side.
    """
    per_token = token_log_prob(
        params,
        prompts,
        response,
        config=config,
        tokens_at_once=tokens_at_once,
        scores_at_once=scores_at_once,
        logits_at_once=logits_at_once,
        remat=remat,
    )
    return jnp.where(mask(response), per_token, 0.0).sum(-1)


def token_log_prob(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    tokens_at_once: int | None = None,
    scores_at_once: int | None = None,
    logits_at_once: int | None = None,
    remat: bool = False,
) -> Float[Array, "B n H"]:
    """log pi(y_h | x, y_<h) at every position, those after the end token included."""
    model = transformer.merge(config, params)
    last = functools.partial(head.log_prob_of, logits_at_once=logits_at_once)
    sizes = tokens_at_once, scores_at_once
    return _score(model, prompts, response.tokens, last, *sizes, remat)


def token_statistics(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    tokens_at_once: int | None = None,
    scores_at_once: int | None = None,
    logits_at_once: int | None = None,
) -> head.Statistics:
    """What pi(. | x, y_<h) says of y_h at every position [B n H]; it has no gradient.

    Its log_prob is token_log_prob, and the rest comes with it in one pass: entropy,
    rank, logsumexp, certainty and the log-probability of the best token, for other
    self-rewards.
    """
    model = transformer.merge(config, jax.lax.stop_gradient(params))
    last = functools.partial(head.statistics, logits_at_once=logits_at_once)
    return _score(model, prompts, response.tokens, last, tokens_at_once, scores_at_once)


def _score(
    model: transformer.Transformer,
    prompts: Prompts,
    tokens: Int[Array, "B n H"],
    last: Callable[..., Any],
    tokens_at_once: int | None,
    scores_at_once: int | None,
    remat: bool = False,
) -> Any:
    """last(rows, table, targets) of every token, in groups of `tokens_at_once`."""
    if tokens_at_once is None:
        tokens_at_once = 2**12 if jax.default_backend() == "cpu" else 2**14
    batch, n, horizon = tokens.shape
    each = prompts.tokens.shape[1] + n * horizon

    def group(prompts, tokens):
        prefix = transformer.prefill(model, *prompts, remat=remat)
        attend = attention.causal(prefix, scores_at_once=scores_at_once)
        score = lambda tokens: _responses(model, prompts, tokens, attend, last, remat)
        if each > tokens_at_once:
            score = jax.checkpoint(score)
        return in_blocks(score, tokens_at_once // horizon, 1, tokens)

    if each <= tokens_at_once < batch * each:
        group = jax.checkpoint(group)
    return in_blocks(group, tokens_at_once // each, 0, prompts, tokens)


def _responses(
    model: transformer.Transformer,
    prompts: Prompts,
    tokens: Int[Array, "B n H"],
    attend: attention.Attend,
    last: Callable[..., Any],
    remat: bool,
) -> Any:
    horizon = tokens.shape[-1]
    opening = transformer.opening(*prompts)[:, None]
    opening = jnp.broadcast_to(opening, (*tokens.shape[:2], 1))
    fed = jnp.concatenate([opening, tokens[..., :-1]], axis=-1)
    position = prompts.length[:, None] - 1 + jnp.arange(horizon)[None]
    position = jnp.broadcast_to(position[:, None], fed.shape)
    hidden, _ = model(fed, position, attend, remat=remat)
    rows = hidden.reshape(-1, hidden.shape[-1])
    scored = last(rows, model.table, tokens.reshape(-1))
    return jax.tree.map(lambda leaf: leaf.reshape(tokens.shape), scored)
