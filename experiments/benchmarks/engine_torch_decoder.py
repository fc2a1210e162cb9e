"""A decoder written by hand in torch, as fast as eager torch was found to go.

Query, key and value are one projection, gate and up another; keys and values of all
positions have their place from the start; each prompt is read once and its keys and
values copied to its n rows. Greedy tokens equal those of transformers' generate.
"""

# PyTorch is only here where a peer is wanted: no dependency of this project.
# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Draw = Callable[[Tensor], Tensor]  # probabilities [R V] -> tokens [R 1]


class Layer(nn.Module):
    """One layer of a transformers Llama, its projections joined."""

    def __init__(self, layer: Any, config: Any):
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        join = lambda *parts: nn.Parameter(torch.cat([p.weight for p in parts]))
        self.qkv = join(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = join(attention.o_proj)
        self.gate_up = join(mlp.gate_proj, mlp.up_proj)
        self.down = join(mlp.down_proj)
        self.before_attention = join(layer.input_layernorm)
        self.before_mlp = join(layer.post_attention_layernorm)
        self.heads = config.num_attention_heads, config.num_key_value_heads
        self.eps = config.rms_norm_eps

    def normed(self, x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, scale.shape, scale, self.eps)

    def project(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Query [R N T h], key and value [R K T h], turned by their positions."""
        query, kv = self.heads
        x = F.linear(self.normed(x, self.before_attention), self.qkv)
        x = x.unflatten(-1, (query + 2 * kv, -1)).transpose(1, 2)
        turned = rotate(x[:, : query + kv], turn)
        return turned[:, :query], turned[:, query:], x[:, query + kv :]

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Attention's output [R N T h] and the MLP, added to the residual stream."""
        x = x + F.linear(mixed.transpose(1, 2).flatten(2), self.out)
        both = F.linear(self.normed(x, self.before_mlp), self.gate_up)
        gate, up = both.chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Decoder(nn.Module):
    """The weights of a transformers Llama, which is left without them."""

    def __init__(self, model: Any):
        super().__init__()
        config = model.config
        self.embedding = model.model.embed_tokens.weight
        self.head = model.lm_head.weight
        self.scale = model.model.norm.weight
        self.eps = config.rms_norm_eps
        layers = []
        while len(model.model.layers):
            layers.append(Layer(model.model.layers[0], config))
            del model.model.layers[0]
        self.layers: Any = nn.ModuleList(layers)
        self.frequency = model.model.rotary_emb.inv_freq.float()

    def turns(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        time = torch.arange(first, last, device=self.frequency.device)
        angle = time[:, None] * self.frequency
        dtype = self.head.dtype
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(self, tokens: Tensor, keep: list | None = None) -> Tensor:
        """Hidden states [R T D] after the last norm; keys and values into `keep`."""
        x = F.embedding(tokens, self.embedding)
        turn = self.turns(0, tokens.shape[1])
        for layer in self.layers:
            query, key, value = layer.project(x, turn)
            mixed = F.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True
            )
            x = layer.finish(x, mixed)
            if keep is not None:
                keep.append((key, value))
        return F.rms_norm(x, self.scale.shape, self.scale, self.eps)

    def step(self, token: Tensor, at: int, turn: Any, cache: list) -> Tensor:
        """Logits [R V] after one more token [R 1] at position `at`."""
        x = F.embedding(token, self.embedding)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            query, key, value = layer.project(x, turn)
            keys[:, :, at : at + 1] = key
            values[:, :, at : at + 1] = value
            seen = keys[:, :, : at + 1], values[:, :, : at + 1]
            x = layer.finish(x, attend(query, *seen))
        x = F.rms_norm(x[:, 0], self.scale.shape, self.scale, self.eps)
        return F.linear(x, self.head)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One query [R N 1 h] to all keys [R K S h], as two batched products."""
    rows, heads, _, size = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, size)
    scores = torch.matmul(grouped * size**-0.5, key.transpose(2, 3))
    mixed = torch.matmul(scores.softmax(-1), value)
    return mixed.reshape(rows, heads, 1, size)


def multinomial(p: Tensor) -> Tensor:
    return torch.multinomial(p, 1)


def inverse_cdf(p: Tensor) -> Tensor:
    """The first token whose cumulative mass exceeds a uniform share of the whole."""
    mass = p.float().cumsum(-1)
    u = torch.rand(len(p), 1, device=p.device) * mass[:, -1:]
    return torch.searchsorted(mass, u, right=True).clamp_(max=p.shape[1] - 1)


def greedy(p: Tensor) -> Tensor:
    return p.argmax(-1, keepdim=True)


@torch.inference_mode()
def sample(
    model: Decoder, prompts: Tensor, n: int, horizon: int, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probs [R H] of n responses to each prompt [B P]."""
    length = prompts.shape[1]
    kept: list[tuple[Tensor, Tensor]] = []
    logits = F.linear(model(prompts, keep=kept)[:, -1], model.head)
    cache = [tuple(_expanded(x, n, length + horizon) for x in pair) for pair in kept]
    del kept
    cos, sin = model.turns(0, length + horizon)
    logits = logits.repeat_interleave(n, 0)
    tokens, log_probs = [], []
    for at in range(length, length + horizon):
        if at > length:
            turn = cos[at - 1 : at], sin[at - 1 : at]
            logits = model.step(tokens[-1], at - 1, turn, cache)
        p = logits.float().softmax(-1)
        tokens.append(draw(p))
        log_probs.append(p.gather(-1, tokens[-1]).log_())
    return torch.cat(tokens, -1), torch.cat(log_probs, -1)


def _expanded(x: Tensor, n: int, room: int) -> Tensor:
    """A prompt's keys [B K P h] copied to its n rows, with `room` positions."""
    rows, heads, length, size = x.shape
    whole = x.new_empty(rows * n, heads, room, size)
    whole[:, :, :length] = x.repeat_interleave(n, 0)
    return whole
