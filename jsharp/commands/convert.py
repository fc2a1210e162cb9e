"""`jsharp convert`: a checkpoint in another type, in other shards, adapter merged."""

import dataclasses
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from jsharp import files
from jsharp.commands import model
from jsharp.commands.settings import Kind
from jsharp.lm import huggingface, lora, peft, tokenizer_files
from jsharp.lm.huggingface import Checkpoint

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Rewrite a checkpoint: its type, its shards, a LoRA adapter merged into it.

    SOURCE and TARGET are directories in the Hugging Face layout; the tokenizer and the
    chat template travel along byte for byte. TARGET must not exist, and appears whole:
    a killed call leaves at most a directory .TARGET.*.partial, which may be deleted.

    Example: jsharp convert ./Qwen3-8B ./Qwen3-8B-bf16 --dtype bfloat16
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A checkpoint directory, or `embedded`: the model that ships with jsharp."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """The directory to make."""
    dtype: Kind = "auto"
    """Type of the weights; auto: as config.json says."""
    max_shard_size: str = "5GB"
    """Most bytes of weights in one file, such as 500MB; one tensor may exceed it."""
    adapter: Path | None = None
    """A PEFT directory (adapter_config.json, adapter_model.safetensors) to merge."""


def main(args: Sequence[str]) -> int:
    """`jsharp convert` on these arguments: 0, or 2 with the reason on stderr."""
    config = tyro.cli(Config, args=args, prog="jsharp convert")
    try:
        print(convert(config), file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"jsharp convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jsharp convert: interrupted; nothing was made", file=sys.stderr)
        return 130
    return 0


def convert(config: Config) -> str:
    """Make the target; what it is, in a line.

    Raises ValueError or OSError, naming what is wrong, and leaves no target then.
    """
    limit = shard_bytes(config.max_shard_size)
    source, target = model.directory(config.source), config.target
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"target: {target} exists; choose another")
    dtype = None if config.dtype == "auto" else config.dtype
    if config.adapter is None:
        found = huggingface.load(source, dtype=dtype)
    else:
        found = _merged(source, config.adapter, dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(".partial", f".{target.name}.", target.parent))
    whole = partial / target.name
    try:
        _write(found, source, whole, limit)
        whole.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    count = sum(leaf.size for leaf in jax.tree.leaves(found.params))
    shards = len(list(target.glob("*.safetensors")))
    return f"{target}: {count:,} parameters, {found.config.dtype}, files: {shards}"


def shard_bytes(text: str) -> int:
    """The number of bytes that "500MB" stands for; ValueError on other spellings."""
    found = re.fullmatch(r"(\d+)\s*([KMGT]B|)", text.upper())
    if not found or not int(found[1]):
        raise ValueError(
            f"--max-shard-size must be a size such as 500MB or 5GB, found {text!r}"
        )
    return int(found[1]) * _UNITS[found[2]]


def _merged(source: Path, adapter: Path, dtype: str | None) -> Checkpoint:
    """The checkpoint with the adapter's change added in float32, and rounded once."""
    dtype = dtype or huggingface.read_config(source).dtype
    wide = huggingface.load(source, dtype="float32")
    adapters, alpha = peft.load(adapter, wide.config)
    params = lora.merge(wide.config, wide.params, adapters, alpha=alpha)
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    config = dataclasses.replace(wide.config, dtype=dtype)
    return wide._replace(config=config, params=narrow)


def _write(found: Checkpoint, source: Path, target: Path, limit: int) -> None:
    huggingface.save(
        target,
        found.config,
        found.params,
        end=found.end,
        pad=found.pad,
        max_shard_bytes=limit,
    )
    tokenizer_files.copy(source, target)
    # Defaults of generation, such as a temperature, are none of ours: they stay.
    name = huggingface.GENERATION
    kept = files.read_json(source / name) if (source / name).exists() else {}
    files.write_json(target / name, {**kept, **files.read_json(target / name)})
