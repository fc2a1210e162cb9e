"""The decoder: RMSNorm, rotary grouped-query attention, SwiGLU.

    hidden = embed[tokens]
    hidden = hidden + attention(norm(hidden));  hidden = hidden + mlp(norm(hidden))
    logits = norm(hidden) @ table^T

One decoder, one forward: the config's switches make it a Llama, Mistral, Qwen2, Qwen3
or Phi-3, and the `attend` function it is handed makes it prefill, score or decode.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jsharp.lm.attention import Attend, Prefix, causal
from jsharp.lm.config import TransformerConfig
from jsharp.lm.rope import angles, rotate
from jsharp.policy import Params

Turn = tuple[Array, Array]  # cosine and sine of each position's angles


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale, in float32."""

    def __init__(self, config: TransformerConfig, size: int):
        self.eps = config.rms_norm_eps
        self.scale = nnx.Param(jnp.ones((size,), jnp.dtype(config.dtype)))

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        wide = x.astype(jnp.float32)
        square = jnp.mean(wide * wide, axis=-1, keepdims=True)
        normed = (wide * jax.lax.rsqrt(square + self.eps)).astype(x.dtype)
        return normed * jnp.expand_dims(self.scale[...], range(x.ndim - 1))


class Linear(nnx.Module):
    """x @ kernel + bias; a `residual` writer starts smaller: each layer has two."""

    def __init__(
        self,
        config: TransformerConfig,
        inner: int,
        outer: int,
        *,
        rngs: nnx.Rngs,
        bias: bool = False,
        residual: bool = False,
    ):
        writers = 2 * config.num_hidden_layers if residual else 1
        normal = nnx.initializers.normal(config.initializer_range / writers**0.5)
        kernel = normal(rngs.params(), (inner, outer), jnp.dtype(config.dtype))
        self.kernel = nnx.Param(kernel)
        self.biased = bias
        if bias:
            self.bias = nnx.Param(jnp.zeros((outer,), jnp.dtype(config.dtype)))

    def __call__(self, x: Float[Array, "B n T i"]) -> Float[Array, "B n T o"]:
        # One matrix of rows: XLA's CPU backend is slow at the weight gradient of more.
        # Whatever rows can be multiplied with may stand for a kernel (lora.Adapted).
        rows = x.reshape(-1, x.shape[-1]) @ self.kernel.get_value()
        if self.biased:
            rows = rows + self.bias[...][None]
        return rows.reshape(*x.shape[:-1], -1)


class Attention(nnx.Module):
    """Grouped-query attention; query, key and value projections fused by kv head."""

    def __init__(self, config: TransformerConfig, window: int, *, rngs: nnx.Rngs):
        self.kv_heads, self.size = config.num_key_value_heads, config.head_dim
        self.window = window
        outer, width = config.hidden_size, config.num_attention_heads * self.size
        heads = config.num_attention_heads + 2 * self.kv_heads
        linear = functools.partial(Linear, config, rngs=rngs)
        self.qkv = linear(outer, heads * self.size, bias=config.qkv_bias)
        self.out = linear(width, outer, bias=config.out_bias, residual=True)
        self.normed = config.qk_norm
        if self.normed:
            self.query_norm = RMSNorm(config, self.size)
            self.key_norm = RMSNorm(config, self.size)

    def __call__(
        self, x: Float[Array, "B n T D"], turn: Turn, attend: Attend, layer: int
    ) -> tuple[Float[Array, "B n T D"], Any]:
        heads = self.qkv(x)
        heads = heads.reshape(*x.shape[:3], self.kv_heads, -1, self.size)
        # One split: its transpose is one array, that of three slices a sum of three.
        group = heads.shape[-2] - 2
        query, key, value = jnp.split(heads, (group, group + 1), axis=-2)
        key, value = key[..., 0, :], value[..., 0, :]
        if self.normed:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = rotate(query, turn), rotate(key, turn)
        mixed, kept = attend(layer, query, key, value, self.window)
        return self.out(mixed.reshape(*x.shape[:3], -1)), kept


class MLP(nnx.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)), gate and up fused."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        inner, outer = config.intermediate_size, config.hidden_size
        linear = functools.partial(Linear, config, bias=config.mlp_bias, rngs=rngs)
        self.gate_up = linear(outer, 2 * inner)
        self.down = linear(inner, outer, residual=True)

    def __call__(self, x: Float[Array, "B n T D"]) -> Float[Array, "B n T D"]:
        return self.down(_gated(self.gate_up(x)))


@jax.checkpoint  # cheaper to compute again than to keep for the backward pass
def _gated(both: Float[Array, "B n T two_I"]) -> Float[Array, "B n T I"]:
    gate, up = jnp.split(both, 2, axis=-1)
    return jax.nn.silu(gate) * up


class Layer(nnx.Module):
    """Attention, then the MLP, each normed before and added to the residual stream."""

    def __init__(self, config: TransformerConfig, window: int, *, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config, config.hidden_size)
        self.attention = Attention(config, window, rngs=rngs)
        self.mlp_norm = RMSNorm(config, config.hidden_size)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B n T D"], turn: Turn, attend: Attend, layer: int
    ) -> tuple[Float[Array, "B n T D"], Any]:
        mixed, kept = self.attention(self.attention_norm(x), turn, attend, layer)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), kept


def _again(run: Callable[[Array], Any], position: Array) -> Callable[[Array], Any]:
    """`run`, of which a gradient keeps nothing but the input.

    In a branch that is always taken, because XLA's CPU compiler drops the barriers of
    jax.checkpoint, finds the two runs the same and keeps the first one's results. What
    is in two branches it does not compare.
    """

    def nothing(x):
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(run, x))

    return jax.checkpoint(
        lambda x: jax.lax.cond(jnp.all(position >= 0), run, nothing, x)
    )


class Transformer(nnx.Module):
    """The decoder; call it for final hidden states, then `logits` for their scores."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        shape = config.vocab_size, config.hidden_size
        normal = nnx.initializers.normal(config.initializer_range)
        matrix = lambda: nnx.Param(
            normal(rngs.params(), shape, jnp.dtype(config.dtype))
        )
        self.rope, self.size = config.rope, config.head_dim
        self.embedding = matrix()
        self.layers = nnx.List(
            [Layer(config, window, rngs=rngs) for window in config.windows]
        )
        self.norm = RMSNorm(config, config.hidden_size)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.head = matrix()

    def __call__(
        self,
        tokens: Int[Array, "B n T"],
        position: Int[Array, "B n T"],
        attend: Attend,
        *,
        remat: bool = False,
    ) -> tuple[Float[Array, "B n T D"], tuple[Any, ...]]:
        """Hidden states after the last norm, and what `attend` kept of each layer.

        With `remat` a gradient keeps each layer's input and computes the layer again:
        a third more work for less memory. How much less is up to the order in which
        XLA runs things: on a CPU a third was measured.
        """
        x = jnp.take(self.embedding[...], tokens, axis=0)
        turn = angles(self.rope, self.size, position)
        kept = []
        for i, layer in enumerate(self.layers):
            run = lambda x, layer=layer, i=i: layer(x, turn, attend, i)
            x, own = (_again(run, position) if remat else run)(x)
            kept.append(own)
        return self.norm(x), tuple(kept)

    @property
    def table(self) -> Float[Array, "V D"]:
        """The rows that hidden states are compared with: the head, or the embedding."""
        return self.embedding[...] if self.tied else self.head[...]

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Unnormalised next-token log-probabilities, float32."""
        return jnp.einsum(
            "...d,vd->...v", hidden, self.table, preferred_element_type=jnp.float32
        )


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
    model: Transformer,
    tokens: Int[Array, "B P"],
    length: Int[Array, " B"],
    *,
    remat: bool = False,
) -> Prefix:
    """Keys and values of each prompt but for its last token, which opens the response.

    A prompt's last token is fed again at the head of each response (see `opening`), so
    that the h-th token fed always predicts the h-th token of the response.
    """
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    _, layers = model(tokens[:, None], position[:, None], causal(), remat=remat)
    return Prefix(layers, position < length[:, None] - 1)


def opening(tokens: Int[Array, "B P"], length: Int[Array, " B"]) -> Int[Array, "B 1"]:
    """The last real token of each prompt."""
    return jnp.take_along_axis(tokens, length[:, None] - 1, axis=1)
