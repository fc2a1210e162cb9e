"""Teacher-forced log-probabilities of whole responses: the one evaluation path.

log pi(y|x) = sum_h log softmax(logits(x, y_<h))[y_h],  h up to and with the end token
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.lm import transformer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params, Prompts, Response, mask


def log_prob(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    logits_at_once: int = 2**22,
) -> Float[Array, "B n"]:
    """Sum over the response's tokens of log pi(y_h | x, y_<h), float32.

    At most about `logits_at_once` logits exist at a time, in either direction.
    """
    per_token = token_log_prob(
        params, prompts, response, config=config, logits_at_once=logits_at_once
    )
    return jnp.where(mask(response), per_token, 0.0).sum(-1)


def token_log_prob(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    logits_at_once: int = 2**22,
) -> Float[Array, "B n H"]:
    """log pi(y_h | x, y_<h) at every position, those after the end token included."""
    model = transformer.merge(config, params)
    prefix = transformer.prefill(model, *prompts)
    batch, n, horizon = response.tokens.shape
    first = transformer.opening(*prompts)[:, None]
    first = jnp.broadcast_to(first, (batch, n, 1))
    fed = jnp.concatenate([first, response.tokens[..., :-1]], axis=-1)
    position = prompts.length[:, None] - 1 + jnp.arange(horizon)[None]
    hidden, _ = model(fed, position, prefix=prefix)
    rows = hidden.reshape(-1, config.hidden_size)
    targets = response.tokens.reshape(-1)
    chosen = _chosen(model, rows, targets, max(1, logits_at_once // config.vocab_size))
    return chosen.reshape(batch, n, horizon)


def _chosen(
    model: transformer.Transformer,
    rows: Float[Array, "R D"],
    targets: Int[Array, " R"],
    chunk: int,
) -> Float[Array, " R"]:
    """log softmax(logits(row))[target], `chunk` rows at a time, recomputed backward."""
    count = rows.shape[0]
    chunks = -(-count // chunk)
    size = -(-count // chunks)
    spare = chunks * size - count
    rows = jnp.pad(rows, ((0, spare), (0, 0))).reshape(chunks, size, -1)
    targets = jnp.pad(targets, (0, spare)).reshape(chunks, size)

    @jax.checkpoint
    def score(block: tuple[Array, Array]) -> Array:
        row, target = block
        logits = model.logits(row)
        picked = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    return jax.lax.map(score, (rows, targets)).reshape(-1)[:count]
