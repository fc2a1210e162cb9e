"""Models in the Hugging Face layout: config.json, generation_config.json, safetensors.

`families` says what a config.json means, `layout` which tensors make up which leaf,
`weights` how they are read and written piece by piece.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsharp import files
from jsharp.lm import layout, tokenizer_files, weights
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer_files import read_object
from jsharp.policy import Params

CONFIG, GENERATION = "config.json", "generation_config.json"


class Checkpoint(NamedTuple):
    """A loaded model, and the tokens that end and pad its responses."""

    config: TransformerConfig
    params: Params
    end: tuple[int, ...]
    pad: int


def load(
    directory: str | Path,
    *,
    dtype: str | None = None,
    long_context: bool = False,
    sharding: Any = None,
) -> Checkpoint:
    """Read a model of a supported family (see `families`), straight to its place.

    `dtype` converts the weights, as those of float16 must be; without it they have the
    type that config.json names, float32 where it names none. `long_context` chooses
    longrope's table for positions beyond original_max_position_embeddings
    (config.context_length is the limit of the choice). `sharding` is a
    jax.sharding.Sharding, or a tree of them that is a prefix of the params; each device
    then reads only its own part.

    `end` joins the end tokens of config, generation config and tokenizer, in this
    order; `pad` falls back on the first of them.

    Raises FileNotFoundError or ValueError, naming the file and the key or tensor; what
    is not supported is refused before any weight is read.
    """
    choices = {"dtype": dtype, "long_context": long_context}
    config, end, pad, found = _opened(Path(directory), **choices)
    leaves = list(layout.leaves(config))
    place = _placer(leaves, sharding)
    params: Params = {}
    # The largest first: what is held beside it is then least.
    for leaf in sorted(leaves, key=lambda leaf: -math.prod(leaf.shape)):
        _insert(params, leaf.path, place(leaf, found, jnp.dtype(config.dtype)))
    return Checkpoint(config, params, end, pad)


def check(
    directory: str | Path, *, dtype: str | None = None, long_context: bool = False
) -> TransformerConfig:
    """`read_config` that refuses all that `load` does; the weights are not read."""
    choices = {"dtype": dtype, "long_context": long_context}
    return _opened(Path(directory), **choices).config


def read_config(
    directory: str | Path, *, dtype: str | None = None, long_context: bool = False
) -> TransformerConfig:
    """The config of the model that `load` reads, with the same choices and errors."""
    directory = Path(directory)
    if not (directory / CONFIG).is_file():
        raise FileNotFoundError(f"no {CONFIG} in {directory}")
    raw = read_object(directory / CONFIG)
    try:
        config = TransformerConfig.from_dict(
            raw if dtype is None else raw | {"dtype": dtype}
        )
        if long_context and config.rope.rope_type != "longrope":
            raise ValueError(
                f"long_context: expected a longrope, got {config.rope.rope_type}"
            )
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error
    rope = dataclasses.replace(config.rope, long_context=long_context)
    return dataclasses.replace(config, rope=rope)


def save(
    directory: str | Path,
    config: TransformerConfig,
    params: Params,
    *,
    end: tuple[int, ...],
    pad: int,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a model that AutoModelForCausalLM.from_pretrained opens without a flag.

    Each file appears whole or not at all, the weights last: in shards and then their
    index where they are larger than `max_shard_bytes`.

    Raises ValueError where params do not have the shapes that config calls for, or
    where the family has no such model.
    """
    if not end:
        raise ValueError("a checkpoint needs at least one end token")
    directory = Path(directory)
    _check_params(params, config)
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": end[0] if len(end) == 1 else list(end),
        "pad_token_id": pad,
    }
    raw = {**config.to_dict(), **ids}
    files.write_json(directory / CONFIG, raw)
    files.write_json(directory / GENERATION, ids)
    fetch = {leaf: _fetcher(params, leaf.path) for leaf in layout.leaves(config)}
    weights.write(directory, fetch, config.dtype, max_shard_bytes=max_shard_bytes)


class _Opened(NamedTuple):
    """What is known of a checkpoint before its weights are read."""

    config: TransformerConfig
    end: tuple[int, ...]
    pad: int
    found: dict[str, weights.Tensor]


def _opened(directory: Path, **choices: Any) -> _Opened:
    config = read_config(directory, **choices)
    end, pad = _end_and_pad(directory, config)
    leaves = layout.leaves(config)
    wanted = {k: v for leaf in leaves for k, v in layout.tensors(leaf).items()}
    found = weights.find(directory, wanted)
    if config.tie_word_embeddings and "lm_head.weight" in found:
        _check_tied(found)
    return _Opened(config, end, pad, found)


def _end_and_pad(
    directory: Path, config: TransformerConfig
) -> tuple[tuple[int, ...], int]:
    path = directory / GENERATION
    generation = read_object(path)
    found: list[int] = []
    for eos in (config.eos_token_id, generation.get("eos_token_id")):
        found += [] if eos is None else [eos] if isinstance(eos, int) else eos
    found += _tokenizer_end(directory)
    if not found:
        raise ValueError(f"no eos_token_id in {directory / CONFIG} or {path}")
    pads = (config.pad_token_id, generation.get("pad_token_id"), found[0])
    pad = next(token for token in pads if token is not None)
    for name, token in [("pad_token_id", pad), *(("eos_token_id", i) for i in found)]:
        if type(token) is not int or not 0 <= token < config.vocab_size:
            raise ValueError(
                f"{directory}: {name} expected 0 to {config.vocab_size - 1}, "
                f"got {token!r}"
            )
    return tuple(dict.fromkeys(found)), pad


def _tokenizer_end(directory: Path) -> list[int]:
    """The id of tokenizer_config.json's eos_token, by tokenizer.json."""
    settings = directory / tokenizer_files.CONFIG
    vocabulary = directory / tokenizer_files.TOKENIZER
    if not vocabulary.is_file():
        return []
    token = read_object(settings).get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if token is None:
        return []
    raw = read_object(vocabulary)
    plain = raw.get("model", {}).get("vocab")
    ids = dict(plain) if isinstance(plain, dict) else {}
    ids |= {each["content"]: each["id"] for each in raw.get("added_tokens") or []}
    if token not in ids:
        raise ValueError(f"{vocabulary} has no {token!r}, eos_token of {settings.name}")
    return [ids[token]]


def _check_tied(found: dict[str, weights.Tensor]) -> None:
    head, table = found["lm_head.weight"], found["model.embed_tokens.weight"]
    if not weights.same(head, table):
        # transformers 4 would tie the two, transformers 5 would not.
        raise ValueError(
            f"{head.path}: lm_head.weight is not {table.name}, though "
            "tie_word_embeddings is true"
        )


def _placer(leaves: list[layout.Leaf], sharding: Any) -> Callable[..., jax.Array]:
    """place(leaf, found, dtype) -> the leaf on its devices."""
    if sharding is None:
        # Not committed to a device, so that it follows what it is used with.
        return lambda *leaf: jax.device_put(weights.read(*leaf))
    order: Params = {}
    for i, leaf in enumerate(leaves):
        _insert(order, leaf.path, i)
    placed = jax.tree.leaves(jax.tree.broadcast(sharding, order))
    numbers = jax.tree.leaves(order)
    where = {leaves[i]: each for i, each in zip(numbers, placed, strict=True)}
    return lambda leaf, found, dtype: jax.make_array_from_callback(
        leaf.shape, where[leaf], lambda at: weights.read(leaf, found, dtype, at)
    )


def _insert(params: Params, path: layout.Path, value: Any) -> None:
    *parents, last = path
    for name in parents:
        params = params.setdefault(name, {})
    params[last] = value


def _fetcher(params: Params, path: layout.Path) -> Callable[[], np.ndarray]:
    """The leaf on the host, as a copy: JAX would keep the first one for good."""

    def fetch() -> np.ndarray:
        leaf = params
        for name in path:
            leaf = leaf[name]
        if isinstance(leaf, jax.Array):
            leaf = jax.device_put(leaf, leaf.sharding, may_alias=False)
        return np.asarray(leaf)

    return fetch


def _check_params(params: Params, config: TransformerConfig) -> None:
    found = {
        tuple(step.key for step in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    spell = lambda path: "".join(f"[{name!r}]" for name in path)
    for leaf in layout.leaves(config):
        if leaf.path not in found:
            raise ValueError(f"params lack {spell(leaf.path)}")
        have = found.pop(leaf.path)
        if have.shape != leaf.shape or have.dtype != jnp.dtype(config.dtype):
            raise ValueError(
                f"params{spell(leaf.path)}: expected {config.dtype}{leaf.shape}, "
                f"got {have.dtype}{have.shape}"
            )
    if found:
        raise ValueError(f"params have unexpected {', '.join(map(spell, found))}")
