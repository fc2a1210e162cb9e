"""Models in the Hugging Face layout: config.json, generation_config.json, safetensors.

A file holds torch's (out, in) matrices, one per projection; the params pytree holds
(in, out) kernels, with query, key and value fused, and gate and up fused.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jsharp import files
from jsharp.lm import transformer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params

CONFIG, GENERATION = "config.json", "generation_config.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"


class Checkpoint(NamedTuple):
    """A loaded model, and the tokens that end and pad its responses."""

    config: TransformerConfig
    params: Params
    end: tuple[int, ...]
    pad: int


def load(directory: str | Path) -> Checkpoint:
    """Read a model; `end` joins the end tokens of both configs, `pad` falls back on it.

    Raises FileNotFoundError or ValueError, naming the file and the key or tensor.
    """
    directory = Path(directory)
    config = _read_config(directory)
    end, pad = _end_and_pad(directory, config)
    if (directory / SHARDS).exists():
        raise ValueError(f"{directory / SHARDS}: sharded weights are not supported")
    tensors = _read_weights(directory / WEIGHTS, config)
    return Checkpoint(config, _params_from(tensors, config), end, pad)


def save(
    directory: str | Path,
    config: TransformerConfig,
    params: Params,
    *,
    end: tuple[int, ...],
    pad: int,
) -> None:
    """Write a model; each file appears whole or not at all, the weights last.

    Raises ValueError where params do not have the shapes that config calls for.
    """
    if not end:
        raise ValueError("a checkpoint needs at least one end token")
    directory = Path(directory)
    wanted = jax.eval_shape(lambda: transformer.init(jax.random.key(0), config))
    _check_params(params, wanted)
    tensors = _tensors_from(params, config)
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": end[0] if len(end) == 1 else list(end),
        "pad_token_id": pad,
    }
    weights = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    files.write_bytes(directory / CONFIG, _json({**config.to_dict(), **ids}))
    files.write_bytes(directory / GENERATION, _json(ids))
    files.write_bytes(directory / WEIGHTS, weights)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected an object, got {type(raw).__name__}")
    return raw


def _read_config(directory: Path) -> TransformerConfig:
    try:
        return TransformerConfig.from_dict(_read_json(directory / CONFIG))
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error


def _end_and_pad(
    directory: Path, config: TransformerConfig
) -> tuple[tuple[int, ...], int]:
    path = directory / GENERATION
    generation = _read_json(path) if path.exists() else {}
    found: list[int] = []
    for eos in (config.eos_token_id, generation.get("eos_token_id")):
        found += [] if eos is None else [eos] if isinstance(eos, int) else eos
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


def _layout(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The name and torch shape of every tensor in the file."""
    width, size = config.hidden_size, config.head_dim
    inner = config.intermediate_size
    queries, keys = (
        config.num_attention_heads * size,
        config.num_key_value_heads * size,
    )
    layout: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, width),
        "model.norm.weight": (width,),
    }
    for i in range(config.num_hidden_layers):
        at = f"model.layers.{i}"
        layout |= {
            f"{at}.input_layernorm.weight": (width,),
            f"{at}.self_attn.q_proj.weight": (queries, width),
            f"{at}.self_attn.k_proj.weight": (keys, width),
            f"{at}.self_attn.v_proj.weight": (keys, width),
            f"{at}.self_attn.o_proj.weight": (width, queries),
            f"{at}.post_attention_layernorm.weight": (width,),
            f"{at}.mlp.gate_proj.weight": (inner, width),
            f"{at}.mlp.up_proj.weight": (inner, width),
            f"{at}.mlp.down_proj.weight": (width, inner),
        }
    if not config.tie_word_embeddings:
        layout["lm_head.weight"] = (config.vocab_size, width)
    return layout


def _read_weights(path: Path, config: TransformerConfig) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    layout = _layout(config)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is torn or not safetensors: {error}") from error
    for problem, faulty in (
        ("lacks", layout.keys() - names),
        ("has unexpected", names - layout.keys()),
    ):
        if faulty:
            raise ValueError(f"{path} {problem} {', '.join(sorted(faulty))}")
    for name, shape in layout.items():
        if shapes[name] != shape:
            raise ValueError(
                f"{path}: {name} expected shape {shape}, got {shapes[name]}"
            )
        if dtypes[name] not in ("F32", "F16", "BF16"):
            raise ValueError(f"{path}: {name} has unsupported type {dtypes[name]}")
    return safetensors.numpy.load_file(path)


def _params_from(tensors: dict[str, np.ndarray], config: TransformerConfig) -> Params:
    dtype = jnp.dtype(config.dtype)
    vector = lambda name: jnp.asarray(tensors[f"{name}.weight"], dtype)
    fused = lambda at, *names: {
        "kernel": jnp.concatenate([vector(f"{at}.{name}").T for name in names], axis=1)
    }
    params: dict[str, Any] = {
        "embedding": vector("model.embed_tokens"),
        "norm": {"scale": vector("model.norm")},
        "layers": {},
    }
    if not config.tie_word_embeddings:
        params["head"] = {"kernel": vector("lm_head").T}
    for i in range(config.num_hidden_layers):
        at = f"model.layers.{i}"
        params["layers"][i] = {
            "attention_norm": {"scale": vector(f"{at}.input_layernorm")},
            "attention": {
                "qkv": fused(f"{at}.self_attn", "q_proj", "k_proj", "v_proj"),
                "out": fused(f"{at}.self_attn", "o_proj"),
            },
            "mlp_norm": {"scale": vector(f"{at}.post_attention_layernorm")},
            "mlp": {
                "gate_up": fused(f"{at}.mlp", "gate_proj", "up_proj"),
                "down": fused(f"{at}.mlp", "down_proj"),
            },
        }
    return params


def _tensors_from(params: Params, config: TransformerConfig) -> dict[str, np.ndarray]:
    keys = config.num_key_value_heads * config.head_dim
    queries = config.num_attention_heads * config.head_dim
    tensors = {
        "model.embed_tokens": params["embedding"],
        "model.norm": params["norm"]["scale"],
    }
    if not config.tie_word_embeddings:
        tensors["lm_head"] = params["head"]["kernel"].T
    for i, layer in params["layers"].items():
        at = f"model.layers.{i}"
        attention, mlp = layer["attention"], layer["mlp"]
        query, key, value = jnp.split(
            attention["qkv"]["kernel"], (queries, queries + keys), axis=1
        )
        gate, up = jnp.split(mlp["gate_up"]["kernel"], 2, axis=1)
        tensors |= {
            f"{at}.input_layernorm": layer["attention_norm"]["scale"],
            f"{at}.self_attn.q_proj": query.T,
            f"{at}.self_attn.k_proj": key.T,
            f"{at}.self_attn.v_proj": value.T,
            f"{at}.self_attn.o_proj": attention["out"]["kernel"].T,
            f"{at}.post_attention_layernorm": layer["mlp_norm"]["scale"],
            f"{at}.mlp.gate_proj": gate.T,
            f"{at}.mlp.up_proj": up.T,
            f"{at}.mlp.down_proj": mlp["down"]["kernel"].T,
        }
    # safetensors writes the underlying buffer: of a view it would write garbage.
    return {
        f"{name}.weight": np.ascontiguousarray(np.asarray(tensor))
        for name, tensor in tensors.items()
    }


def _check_params(params: Params, wanted: Params) -> None:
    found = dict(jax.tree_util.tree_leaves_with_path(params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = jax.tree_util.keystr(path)
        if path not in found:
            raise ValueError(f"params lack {name}")
        have = found.pop(path)
        if have.shape != leaf.shape or have.dtype != leaf.dtype:
            raise ValueError(
                f"params{name}: expected {leaf.dtype}{leaf.shape}, "
                f"got {have.dtype}{have.shape}"
            )
    if found:
        names = ", ".join(jax.tree_util.keystr(path) for path in found)
        raise ValueError(f"params have unexpected {names}")


def _json(raw: dict[str, Any]) -> bytes:
    return (json.dumps(raw, indent=2) + "\n").encode()
