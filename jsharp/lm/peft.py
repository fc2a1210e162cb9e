"""Adapters in the layout of PEFT: adapter_config.json and adapter_model.safetensors.

A module's lora_A.weight is A^T [rank, in] and its lora_B.weight is B^T [out, rank],
under the module's name in transformers after "base_model.model.".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jsharp import files
from jsharp.lm import weights
from jsharp.lm.config import TransformerConfig
from jsharp.lm.layout import Projection
from jsharp.lm.lora import Adapters, targeted

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."

# Keys that change nothing of what a trained adapter computes, whatever they say.
_FREE = {
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",  # target_modules and the tensors say what there is
    "inference_mode",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
# The only values of others that make W + (alpha / r) A B; any other key must be unset.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),  # others change the base as well
}

_PLAIN = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "lora_dropout": 0.0,
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "modules_to_save": None,
    "inference_mode": True,
}


class Adapter(NamedTuple):
    """Adapters, and the alpha that goes with them."""

    adapters: Adapters
    alpha: float


def save(
    directory: str | Path,
    config: TransformerConfig,
    adapters: Adapters,
    *,
    alpha: float,
    base: str = "",
) -> None:
    """Write adapters that PeftModel.from_pretrained opens on the `base` model.

    Raises ValueError unless all have one rank and each adapted kind of projection is
    adapted in every layer, as PEFT's target_modules have it.
    """
    directory = Path(directory)
    ranks = {pair["a"].shape[1] for pair in adapters.values()}
    if len(ranks) != 1:
        raise ValueError(f"expected adapters of one rank, got {sorted(ranks)}")
    names = sorted({name.rsplit(".", 1)[-1] for name in adapters})
    chosen = targeted(config, tuple(names))
    _check_same(str(directory), "adapters", adapters, chosen)
    tensors = {}
    for name, pair in adapters.items():
        for key, tensor in _tensors(name).items():
            # A view would be written as the buffer under it.
            tensors[tensor] = np.ascontiguousarray(np.asarray(pair[key]).T)
    raw = {
        **_PLAIN,
        "base_model_name_or_path": base,
        "r": ranks.pop(),
        "lora_alpha": alpha,
        "target_modules": names,
    }
    content = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    files.write_json(directory / CONFIG, raw)
    files.write_bytes(directory / WEIGHTS, content)


def load(directory: str | Path, config: TransformerConfig) -> Adapter:
    """Read the adapters of a model of this config, as float32.

    Raises FileNotFoundError or ValueError, naming the file and the key or tensor, on
    anything but W + (alpha / r) A B of whole projections.
    """
    path = Path(directory) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG} in {directory}")
    try:
        raw = files.read_json(path)
        rank, alpha, targets = _read_config(raw)
        chosen = targeted(config, targets)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found = weights.header(Path(directory) / WEIGHTS)
    wanted = {tensor for name in chosen for tensor in _tensors(name).values()}
    _check_same(str(Path(directory) / WEIGHTS), "tensors", found, wanted)
    adapters = {
        name: _read_pair(name, projection, rank, found)
        for name, projection in chosen.items()
    }
    return Adapter(adapters, alpha)


def _tensors(name: str) -> dict[str, str]:
    return {key: f"{_PREFIX}{name}.lora_{key.upper()}.weight" for key in ("a", "b")}


def _check_same(where: str, what: str, found: Any, wanted: Any) -> None:
    for problem, faulty in (
        ("lacks", set(wanted) - set(found)),
        ("has unexpected", set(found) - set(wanted)),
    ):
        if faulty:
            raise ValueError(f"{where} {problem} {what} {', '.join(sorted(faulty))}")


def _read_config(raw: Any) -> tuple[int, float, tuple[str, ...]]:
    if not isinstance(raw, dict) or raw.get("peft_type") != "LORA":
        raise ValueError("peft_type: expected an object with 'LORA'")
    for key, value in raw.items():
        neutral = key in _NEUTRAL and value in _NEUTRAL[key]
        if value and key not in _FREE and not neutral:
            raise ValueError(f"{key}: not supported, got {value!r}")
    rank, alpha, targets = (
        raw.get("r"),
        raw.get("lora_alpha"),
        raw.get("target_modules"),
    )
    if type(rank) is not int or rank < 1:
        raise ValueError(f"r: expected a positive int, got {rank!r}")
    if not isinstance(alpha, int | float):
        raise ValueError(f"lora_alpha: expected a number, got {alpha!r}")
    if not isinstance(targets, list) or not targets:
        raise ValueError(f"target_modules: expected a list of names, got {targets!r}")
    return rank, float(alpha), tuple(targets)


def _read_pair(
    name: str,
    projection: Projection,
    rank: int,
    found: Mapping[str, weights.Tensor],
) -> dict[str, Any]:
    shapes = {"a": (rank, projection.inner), "b": (len(projection.columns), rank)}
    pair = {}
    for key, tensor in _tensors(name).items():
        have = found[tensor]
        if have.shape != shapes[key]:
            raise ValueError(
                f"{have.path}: {tensor} expected shape {shapes[key]}, got {have.shape}"
            )
        pair[key] = jnp.asarray(have.open().T, jnp.float32)
    return pair
