"""Next-token log-probabilities of many prefixes that share their beginnings.

A tree of prefixes keeps every token's keys and values once, in a pool of slots. A
prefix is the path of its tokens' slots, the prompt's last token (slot of depth 0)
included: so growing one by a token costs one token fed, whatever its length and
however many prefixes share its past, and reordering prefixes moves paths only.

Shapes beyond the legends of `jsharp.policy` and `jsharp.lm.attention`: S slots,
T the longest path.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.lm import transformer
from jsharp.lm.attention import Attend, KeyValue, Prefix
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params

Pool = tuple[KeyValue, ...]  # of each layer, [B K 1 S h]


def empty(config: TransformerConfig, batch: int, slots: int) -> Pool:
    """A pool of `slots` tokens for each prompt, none of them written."""
    shape = (batch, config.num_key_value_heads, 1, slots, config.head_dim)
    zeros = lambda: jnp.zeros(shape, jnp.dtype(config.dtype))
    return tuple(KeyValue(zeros(), zeros()) for _ in range(config.num_hidden_layers))


def grown(pool: Pool, slots: int) -> Pool:
    """The same pool with room for `slots` tokens."""
    more = slots - pool[0].key.shape[3]
    pad = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more), (0, 0)))
    return jax.tree.map(pad, pool)


def expand(
    model: transformer.Transformer,
    prefix: Prefix,
    pool: Pool,
    fed: Int[Array, "B n"],
    path: Int[Array, "B n T"],
    depth: Int[Array, "B n"],
) -> tuple[Float[Array, "B n V"], Pool]:
    """log pi(. | x, prefix), float32, of each prefix; and the pool with `fed` written.

    fed is a prefix's last token, path[:depth] the slots of the tokens before it and
    path[depth] its own, which is written here; one past the pool writes nothing.
    """
    position = prefix.visible.sum(-1)[:, None] + depth
    attend = branch(prefix, pool, path, depth)
    hidden, pool = model(fed[..., None], position[..., None], attend)
    logits = model.logits(hidden[:, :, 0])
    # Rounding may lift the log-probability of a sure token above zero.
    return jnp.minimum(jax.nn.log_softmax(logits, axis=-1), 0.0), pool


@functools.partial(
    jax.jit, static_argnames=("config", "children"), donate_argnames="pool"
)
def likeliest(
    params: Params,
    prefix: Prefix,
    pool: Pool,
    fed: Int[Array, "1 n"],
    path: Int[Array, "1 n T"],
    depth: Int[Array, "1 n"],
    returned: Int[Array, "n r"],
    *,
    config: TransformerConfig,
    children: int,
) -> tuple[Float[Array, "n c"], Int[Array, "n c"], Pool]:
    """The likeliest `children` tokens after each prefix, and the next one: a bound.

    Their log-probabilities, best first and ties to the lower token; those `returned`
    before (an id past the vocabulary: none) at -inf. c is at most V. The pool given is
    donated to the one handed back. Compiled once per shape.
    """
    model = transformer.merge(config, params)
    log_prob, pool = expand(model, prefix, pool, fed, path, depth)
    row = jnp.arange(returned.shape[0])[:, None]
    left = log_prob[0].at[row, returned].set(-jnp.inf, mode="drop")
    value, token = jax.lax.top_k(left, min(children + 1, config.vocab_size))
    return value, token, pool


def branch(
    prefix: Prefix, pool: Pool, path: Int[Array, "B n T"], depth: Int[Array, "B n"]
) -> Attend:
    """Attend from one new token of each prefix to the prompt and its own path."""
    own = jnp.take_along_axis(path, depth[..., None], axis=-1)[..., 0]
    batch = jnp.arange(path.shape[0])[:, None]
    wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    start = prefix.visible.sum(-1)[:, None] + depth  # the new token's position

    def within(back: Array, window: int) -> Array:
        return (back >= 0) & ((back < window) | (window == 0))

    def attend(layer, query, key, value, window):
        put = lambda old, x: old.at[batch, :, 0, own].set(x[:, :, 0], mode="drop")
        kept = KeyValue(put(pool[layer].key, key), put(pool[layer].value, value))
        shared, query = prefix.layers[layer], query[:, :, 0]  # [B n K G h]
        take = lambda x: x.at[batch[..., None], :, 0, path].get(mode="clip")
        past = KeyValue(take(kept.key), take(kept.value))  # [B n T K h]
        before = wide("bnkgh,bkph->bnkgp", query, shared.key[:, :, 0])
        back = start[..., None] - jnp.arange(before.shape[-1])[None, None]
        seen = within(back, window) & prefix.visible[:, None]
        before = jnp.where(seen[:, :, None, None], before, -jnp.inf)
        along = wide("bnkgh,bntkh->bnkgt", query, past.key)
        back = depth[..., None] - jnp.arange(path.shape[-1])[None, None]
        seen = within(back, window)
        along = jnp.where(seen[:, :, None, None], along, -jnp.inf)
        scores = jnp.concatenate([before, along], axis=-1) * query.shape[-1] ** -0.5
        weights = jax.nn.softmax(scores, axis=-1).astype(key.dtype)
        before, along = jnp.split(weights, (before.shape[-1],), axis=-1)
        mixed = wide("bnkgp,bkph->bnkgh", before, shared.value[:, :, 0])
        mixed = mixed + wide("bnkgt,bntkh->bnkgh", along, past.value)
        return mixed.astype(key.dtype)[:, :, None], kept

    return attend
