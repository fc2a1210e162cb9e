"""Where each of our leaves lies in the files of a family.

A file holds torch's (out, in) matrices, one per projection, or several fused by rows
(Phi-3); the params pytree holds (in, out) kernels, with query, key and value fused by
kv head, and gate and up fused. Either way, runs of rows of a file's tensor are runs of
columns of our leaf.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jsharp.lm.config import TransformerConfig

Path = tuple[str | int, ...]  # of a leaf in the params pytree


class Run(NamedTuple):
    """`size` rows of a file's tensor from `row` on, at `column` of our axis."""

    tensor: str
    row: int
    column: int
    size: int


class Leaf(NamedTuple):
    """One leaf of params, and the runs that make it up.

    The axis of the runs is the last one of a kernel, which is transposed in the files,
    and the first one of any other leaf.
    """

    path: Path
    shape: tuple[int, ...]
    transposed: bool
    runs: tuple[Run, ...]


class Projection(NamedTuple):
    """The columns of our kernel [inner, ...] at `path` that are one linear map."""

    path: Path
    inner: int
    columns: Int[np.ndarray, " out"]


def leaves(config: TransformerConfig) -> Iterator[Leaf]:
    """Every leaf of the params pytree of this config, from the input on."""
    table = (config.vocab_size, config.hidden_size)
    yield _whole(("embedding",), table, "model.embed_tokens.weight")
    for i in range(config.num_hidden_layers):
        yield from _layer(config, i)
    yield _whole(("norm", "scale"), table[1:], "model.norm.weight")
    if not config.tie_word_embeddings:
        yield _whole(("head",), table, "lm_head.weight")


def tensors(leaf: Leaf) -> dict[str, tuple[int, ...]]:
    """The files' tensors that make up a leaf, and no other leaf, and their shapes."""
    rows: dict[str, int] = {}
    for run in leaf.runs:
        rows[run.tensor] = rows.get(run.tensor, 0) + run.size
    rest = leaf.shape[:-1] if leaf.transposed else leaf.shape[1:]
    return {name: (count, *rest) for name, count in rows.items()}


def projections(config: TransformerConfig) -> dict[str, Projection]:
    """The linear maps inside the layers, by the module names of transformers.

    The columns are in the order of the files' rows.
    """
    found = {}
    for leaf in leaves(config):
        for name in tensors(leaf) if leaf.transposed else ():
            runs = sorted(run for run in leaf.runs if run.tensor == name)
            spans = [np.arange(run.column, run.column + run.size) for run in runs]
            module = name.removesuffix(".weight")
            columns = np.concatenate(spans)
            found[module] = Projection(leaf.path, leaf.shape[0], columns)
    return found


def _whole(path: Path, shape: tuple[int, ...], tensor: str) -> Leaf:
    return Leaf(path, shape, False, (Run(tensor, 0, 0, shape[0]),))


def _layer(config: TransformerConfig, i: int) -> Iterator[Leaf]:
    at, path = f"model.layers.{i}", ("layers", i)
    width, inner = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_dim
    norm = lambda name, size, tensor: _whole(
        (*path, *name, "scale"), (size,), f"{at}.{tensor}.weight"
    )
    yield norm(("attention_norm",), width, "input_layernorm")
    attention = (*path, "attention")
    yield from _linear((*attention, "qkv"), width, _qkv(config, at), config.qkv_bias)
    out = [Run(f"{at}.self_attn.o_proj", 0, 0, width)]
    yield from _linear((*attention, "out"), heads, out, config.out_bias)
    if config.qk_norm:
        size = config.head_dim
        yield norm(("attention", "query_norm"), size, "self_attn.q_norm")
        yield norm(("attention", "key_norm"), size, "self_attn.k_norm")
    yield norm(("mlp_norm",), width, "post_attention_layernorm")
    mlp = (*path, "mlp")
    gate_up = _gate_up(config, at)
    yield from _linear((*mlp, "gate_up"), width, gate_up, config.mlp_bias)
    down = [Run(f"{at}.mlp.down_proj", 0, 0, width)]
    yield from _linear((*mlp, "down"), inner, down, config.mlp_bias)


def _linear(path: Path, inner: int, runs: list[Run], bias: bool) -> Iterator[Leaf]:
    outer = sum(run.size for run in runs)
    of = lambda kind: tuple(run._replace(tensor=f"{run.tensor}.{kind}") for run in runs)
    yield Leaf((*path, "kernel"), (inner, outer), True, of("weight"))
    if bias:
        yield Leaf((*path, "bias"), (outer,), False, of("bias"))


def _qkv(config: TransformerConfig, at: str) -> list[Run]:
    """Each kv head's queries, then its key, then its value."""
    groups, size = config.num_key_value_heads, config.head_dim
    sizes = config.num_attention_heads // groups * size, size, size
    names, firsts = ("q_proj", "k_proj", "v_proj"), (0, 0, 0)
    if config.model_type == "phi3":
        names = ("qkv_proj",) * 3
        firsts = (0, *itertools.accumulate(groups * size for size in sizes[:2]))
    starts = (0, *itertools.accumulate(sizes[:2]))
    return [
        Run(f"{at}.self_attn.{name}", first + k * n, k * sum(sizes) + start, n)
        for k in range(groups)
        for name, first, start, n in zip(names, firsts, starts, sizes, strict=True)
    ]


def _gate_up(config: TransformerConfig, at: str) -> list[Run]:
    inner = config.intermediate_size
    if config.model_type == "phi3":
        return [Run(f"{at}.mlp.gate_up_proj", 0, 0, 2 * inner)]
    gate = Run(f"{at}.mlp.gate_proj", 0, 0, inner)
    return [gate, Run(f"{at}.mlp.up_proj", 0, inner, inner)]
