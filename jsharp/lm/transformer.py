"""The decoder: RMSNorm, rotary grouped-query attention, SwiGLU.

    hidden = embed[tokens]
    hidden = hidden + attention(norm(hidden));  hidden = hidden + mlp(norm(hidden))
    logits = norm(hidden) @ head

One forward serves three uses. Tokens [B n T] attend to a shared prefix of their prompt
(if given) and to their own past: causally within T (prefill and teacher forcing), or
through a suffix buffer written at its step (decoding).

Shapes beyond the legend of `jsharp.policy`: T tokens fed, S keys seen, D hidden size,
N query heads, K kv heads, G = N / K query heads per kv head, h head size.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jsharp.lm.cache import KeyValue, Prefix, Suffix, write
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale, in float32."""

    def __init__(self, config: TransformerConfig):
        dtype = jnp.dtype(config.dtype)
        self.eps = config.rms_norm_eps
        self.scale = nnx.Param(jnp.ones((config.hidden_size,), dtype))

    def __call__(self, x: Float[Array, "B n T D"]) -> Float[Array, "B n T D"]:
        wide = x.astype(jnp.float32)
        square = jnp.mean(wide * wide, axis=-1, keepdims=True)
        normed = (wide * jax.lax.rsqrt(square + self.eps)).astype(x.dtype)
        return normed * self.scale[None, None, None]


class Linear(nnx.Module):
    """x @ kernel; a `residual` writer starts smaller: each layer has two."""

    def __init__(
        self,
        config: TransformerConfig,
        inner: int,
        outer: int,
        *,
        rngs: nnx.Rngs,
        residual: bool = False,
    ):
        writers = 2 * config.num_hidden_layers if residual else 1
        normal = nnx.initializers.normal(config.initializer_range / writers**0.5)
        kernel = normal(rngs.params(), (inner, outer), jnp.dtype(config.dtype))
        self.kernel = nnx.Param(kernel)

    def __call__(self, x: Float[Array, "B n T i"]) -> Float[Array, "B n T o"]:
        # One matrix of rows: XLA's CPU backend is slow at the weight gradient of more.
        rows = x.reshape(-1, x.shape[-1]) @ self.kernel[...]
        return rows.reshape(*x.shape[:-1], -1)


def rotate(
    x: Float[Array, "B n T M h"], position: Int[Array, "B T"], theta: float
) -> Float[Array, "B n T M h"]:
    """RoPE: turn the pair (x_i, x_{i+h/2}) by the angle position * theta^(-2i/h)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = position.astype(jnp.float32)[..., None] * frequency[None, None]
    angle = angle[:, None, :, None]  # [B 1 T 1 h/2]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [left * cos - right * sin, right * cos + left * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def attend(
    query: Float[Array, "B K n G T h"],
    own: KeyValue,
    step: Int[Array, ""] | int,
    prefix: tuple[KeyValue, Array] | None,
) -> Float[Array, "B K n G T h"]:
    """softmax(q k^T / sqrt(h)) v over the prefix and the own keys up to step + t."""
    size = query.shape[-1]
    wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    time = jnp.arange(query.shape[-2])[:, None] + step
    past = jnp.arange(own.key.shape[-2])[None, :] <= time  # [T S]
    scores = wide("bkngth,bknsh->bkngts", query, own.key) * size**-0.5
    scores = jnp.where(past[None, None, None, None], scores, -jnp.inf)
    if prefix is None:
        weights = jax.nn.softmax(scores, axis=-1).astype(own.value.dtype)
        return jnp.einsum("bkngts,bknsh->bkngth", weights, own.value)
    shared, visible = prefix
    key, value = shared.key[:, :, 0], shared.value[:, :, 0]
    before = wide("bkngth,bkph->bkngtp", query, key) * size**-0.5
    before = jnp.where(visible[:, None, None, None, None], before, -jnp.inf)
    # Each token sees itself, so the joint maximum is finite even if no prefix is seen.
    top = jnp.maximum(scores.max(-1), before.max(-1))[..., None]
    top = jax.lax.stop_gradient(top)
    scores, before = jnp.exp(scores - top), jnp.exp(before - top)
    total = (scores.sum(-1) + before.sum(-1))[..., None]
    out = wide("bkngts,bknsh->bkngth", scores.astype(value.dtype), own.value)
    out = out + wide("bkngtp,bkph->bkngth", before.astype(value.dtype), value)
    return (out / total).astype(value.dtype)


class Attention(nnx.Module):
    """Grouped-query attention with fused query, key and value projections."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        heads = config.num_attention_heads + 2 * config.num_key_value_heads
        width = config.num_attention_heads * config.head_dim
        outer = config.hidden_size
        self.qkv = Linear(config, outer, heads * config.head_dim, rngs=rngs)
        self.out = Linear(config, width, outer, rngs=rngs, residual=True)

    def __call__(
        self,
        x: Float[Array, "B n T D"],
        position: Int[Array, "B T"],
        prefix: tuple[KeyValue, Array] | None,
        buffer: KeyValue | None,
        step: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B n T D"], KeyValue]:
        config = self.config
        batch, n, time, _ = x.shape
        groups = config.num_attention_heads // config.num_key_value_heads
        heads = self.qkv(x).reshape(batch, n, time, -1, config.head_dim)
        count = config.num_attention_heads, config.num_key_value_heads
        query, key, value = jnp.split(heads, (count[0], sum(count)), axis=3)
        query = rotate(query, position, config.rope_theta)
        key = rotate(key, position, config.rope_theta)
        query = query.reshape(batch, n, time, -1, groups, config.head_dim)
        query = query.transpose(0, 3, 1, 4, 2, 5)  # [B K n G T h]
        own = KeyValue(key.transpose(0, 3, 1, 2, 4), value.transpose(0, 3, 1, 2, 4))
        if buffer is not None:
            own = write(buffer, own, jnp.asarray(step))
        mixed = attend(query, own, step, prefix).transpose(0, 2, 4, 1, 3, 5)
        return self.out(mixed.reshape(batch, n, time, -1)), own


class MLP(nnx.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)), gate and up fused."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        inner, outer = config.intermediate_size, config.hidden_size
        self.gate_up = Linear(config, outer, 2 * inner, rngs=rngs)
        self.down = Linear(config, inner, outer, rngs=rngs, residual=True)

    def __call__(self, x: Float[Array, "B n T D"]) -> Float[Array, "B n T D"]:
        gate, up = jnp.split(self.gate_up(x), 2, axis=-1)
        return self.down(jax.nn.silu(gate) * up)


class Layer(nnx.Module):
    """Attention, then the MLP, each normed before and added to the residual stream."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = RMSNorm(config)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B n T D"],
        position: Int[Array, "B T"],
        prefix: tuple[KeyValue, Array] | None,
        buffer: KeyValue | None,
        step: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B n T D"], KeyValue]:
        mixed, own = self.attention(
            self.attention_norm(x), position, prefix, buffer, step
        )
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), own


class Transformer(nnx.Module):
    """The decoder; call it for final hidden states, then `logits` for their scores."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        shape = config.vocab_size, config.hidden_size
        normal = nnx.initializers.normal(config.initializer_range)
        table = normal(rngs.params(), shape, jnp.dtype(config.dtype))
        self.embedding = nnx.Param(table)
        self.layers = nnx.List(
            [Layer(config, rngs=rngs) for _ in range(config.num_hidden_layers)]
        )
        self.norm = RMSNorm(config)
        if not config.tie_word_embeddings:
            self.head = Linear(config, *reversed(shape), rngs=rngs)
        self.tied = config.tie_word_embeddings

    def __call__(
        self,
        tokens: Int[Array, "B n T"],
        position: Int[Array, "B T"],
        *,
        prefix: Prefix | None = None,
        suffix: Suffix | None = None,
    ) -> tuple[Float[Array, "B n T D"], tuple[KeyValue, ...]]:
        """Hidden states after the last norm, and each layer's own keys and values."""
        x = jnp.take(self.embedding[...], tokens, axis=0)
        step = 0 if suffix is None else suffix.step
        written = []
        for i, layer in enumerate(self.layers):
            shared = None if prefix is None else (prefix.layers[i], prefix.visible)
            buffer = None if suffix is None else suffix.layers[i]
            x, own = layer(x, position, shared, buffer, step)
            written.append(own)
        return self.norm(x), tuple(written)

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Unnormalised next-token log-probabilities, float32."""
        wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        if self.tied:
            return wide("...d,vd->...v", hidden, self.embedding[...])
        return wide("...d,dv->...v", hidden, self.head.kernel[...])


def init(key: Key[Array, ""], config: TransformerConfig) -> Params:
    """Random weights, normal(0, initializer_range), as a plain nested dict."""
    state = nnx.state(Transformer(config, rngs=nnx.Rngs(key)))
    return nnx.to_pure_dict(state)


@functools.cache
def _skeleton(config: TransformerConfig):
    build = lambda: Transformer(config, rngs=nnx.Rngs(0))
    return nnx.split(nnx.eval_shape(build))


def merge(config: TransformerConfig, params: Params) -> Transformer:
    """The module that holds these weights."""
    graph, shapes = _skeleton(config)
    state = jax.tree.map(lambda leaf: leaf, shapes)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def prefill(
    model: Transformer, tokens: Int[Array, "B P"], length: Int[Array, " B"]
) -> Prefix:
    """Keys and values of each prompt but for its last token, which opens the response.

    A prompt's last token is fed again at the head of each response (see `opening`), so
    that the h-th token fed always predicts the h-th token of the response.
    """
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    _, layers = model(tokens[:, None], position)
    return Prefix(layers, position < length[:, None] - 1)


def opening(tokens: Int[Array, "B P"], length: Int[Array, " B"]) -> Int[Array, "B 1"]:
    """The last real token of each prompt."""
    return jnp.take_along_axis(tokens, length[:, None] - 1, axis=1)
