"""Tensors in safetensors files, one or several shards, read and written in pieces.

Nothing here holds more than one leaf besides what it was given or returns, so that
loading and saving take little more memory than the model itself.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from jsharp import files
from jsharp.lm.layout import Leaf, tensors

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# A buffer of old checkpoints: it follows from the config.
_HARMLESS = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_BLOCK = 128, 2048  # transposed at once: it fits the processor's cache
_SKEW = 40  # rows of a power of two bytes would all fall on the same cache lines


class Tensor(NamedTuple):
    """Where a tensor lies in a file."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def open(self) -> np.ndarray:
        """The tensor, read from the disk as it is indexed."""
        dtype = jnp.dtype(_TYPES[self.dtype])
        if not math.prod(self.shape):
            return np.empty(self.shape, dtype)
        return np.memmap(self.path, dtype, "r", self.offset, self.shape)


def find(directory: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of model.safetensors or, where it is absent, of the index's shards.

    Raises FileNotFoundError or ValueError, naming file and tensor, unless the files are
    whole and hold exactly the wanted names, shapes and a floating type; lm_head.weight
    may be there unasked (see `same`), and rotary_emb.inv_freq is passed over.
    """
    index = directory / INDEX
    if (directory / WHOLE).is_file() or not index.is_file():
        found = header(directory / WHOLE)
        _check_names(directory / WHOLE, found.keys(), wanted)
    else:
        placed = _read_index(index)
        _check_names(index, placed.keys(), wanted)
        found = _read_shards(index, placed)
    for name, tensor in found.items():
        shape = wanted.get(name, tensor.shape)
        if tensor.shape != shape:
            raise ValueError(
                f"{tensor.path}: {name} expected shape {shape}, got {tensor.shape}"
            )
    return found


def header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, but for rotary_emb.inv_freq.

    Raises FileNotFoundError, or ValueError where the file is torn or holds other types
    than F32, F16 and BF16.
    """
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in path.parent.glob("*.bin")))
        only = f", only {others}: a pickle, which is never opened" if others else ""
        raise FileNotFoundError(f"no {path.name} in {path.parent}{only}")
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass  # checks that the header is sound and covers the file exactly
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is torn or not safetensors: {error}") from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        raw = json.loads(file.read(size))
    raw.pop("__metadata__", None)
    raw = {name: each for name, each in raw.items() if not _HARMLESS.fullmatch(name)}
    for name, each in raw.items():
        if each["dtype"] not in _TYPES:
            raise ValueError(
                f"{path}: {name} expected one of {[*_TYPES]}, got {each['dtype']}"
            )
    return {
        name: Tensor(
            path,
            name,
            each["dtype"],
            tuple(each["shape"]),
            8 + size + each["data_offsets"][0],
        )
        for name, each in raw.items()
    }


def read(
    leaf: Leaf,
    found: Mapping[str, Tensor],
    dtype: np.dtype,
    index: tuple[slice, ...] | None = None,
) -> np.ndarray:
    """A leaf, or the part of it at `index`, from the rows and columns that it needs."""
    whole = tuple(slice(0, size) for size in leaf.shape)
    spans = [s.indices(n)[:2] for s, n in zip(index or whole, leaf.shape, strict=True)]
    out = _aligned(tuple(stop - start for start, stop in spans), dtype)
    axis = len(spans) - 1 if leaf.transposed else 0
    (first, last), others = spans.pop(axis), tuple(slice(*span) for span in spans)
    out = out.T if leaf.transposed else out
    sources = {name: found[name].open() for name in tensors(leaf)}
    for run in leaf.runs:
        start, stop = max(first, run.column), min(last, run.column + run.size)
        if start < stop:
            move = run.row - run.column
            source = sources[run.tensor][(slice(start + move, stop + move), *others)]
            _copy(source, out[start - first : stop - first])
    return out.T if leaf.transposed else out


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of files hold the same numbers."""
    if one.shape != other.shape:
        return False
    left, right = one.open(), other.open()
    pairs = zip(left, right, strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def write(
    directory: Path,
    leaves: Mapping[Leaf, Callable[[], np.ndarray]],
    dtype: str,
    *,
    max_shard_bytes: int,
) -> None:
    """Write the leaves' tensors: one file, or shards and then their index.

    Each file appears whole or not at all. The old index goes before the new shards
    come, so that no reader ever finds shards of two models under one index.
    """
    shards = _plan(leaves, jnp.dtype(dtype).itemsize, max_shard_bytes)
    count = len(shards)
    names = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    names = [WHOLE] if count == 1 else names
    if count > 1:
        (directory / INDEX).unlink(missing_ok=True)
    for name, shard in zip(names, shards, strict=True):
        chunks = _chunks({leaf: leaves[leaf] for leaf in shard}, dtype)
        files.write_chunks(directory / name, chunks)
    if count > 1:
        _write_index(directory / INDEX, dict(zip(names, shards, strict=True)), dtype)
    _remove_others(directory, names)


def _check_names(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    allowed = {name for name in found if _HARMLESS.fullmatch(name)}
    for problem, faulty in (
        ("lacks", wanted.keys() - found),
        ("has unexpected", found - wanted.keys() - allowed - {"lm_head.weight"}),
    ):
        if faulty:
            raise ValueError(f"{path} {problem} {', '.join(sorted(faulty))}")


def _read_index(path: Path) -> dict[str, str]:
    try:
        placed = files.read_json(path)["weight_map"]
        good = all(type(v) is str and v == Path(v).name for v in placed.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of shards: {error!r}") from error
    if not good:
        raise ValueError(f"{path}: expected weight_map to give names of files")
    return placed


def _read_shards(index: Path, placed: Mapping[str, str]) -> dict[str, Tensor]:
    found = {}
    for shard in sorted(set(placed.values())):
        path = index.parent / shard
        held = header(path)
        wanted = {
            name: None
            for name, place in placed.items()
            if place == shard and not _HARMLESS.fullmatch(name)
        }
        for problem, faulty in (
            ("lacks", wanted.keys() - held.keys()),
            ("has unexpected", held.keys() - wanted.keys()),
        ):
            if faulty:
                names = ", ".join(sorted(faulty))
                raise ValueError(f"{path} {problem} {names}, says {index.name}")
        found |= held
    return found


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised memory that XLA's CPU backend can take over without a copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _copy(source: np.ndarray, out: np.ndarray) -> None:
    """out[...] = source, `source` by rows, through a block whose rows are skewed."""
    if source.ndim == 1:
        out[...] = source.astype(out.dtype)
        return
    height, width = _BLOCK
    block = np.empty((height, width + _SKEW), out.dtype)
    steps = [range(0, n, by) for n, by in zip(source.shape, _BLOCK, strict=True)]
    for i, j in itertools.product(*steps):
        part = source[i : i + height, j : j + width].astype(out.dtype, copy=False)
        skewed = block[: part.shape[0], : part.shape[1]]
        skewed[...] = part
        out[i : i + height, j : j + width] = skewed


def _plan(leaves: Mapping[Leaf, Any], itemsize: int, limit: int) -> list[list[Leaf]]:
    shards: list[list[Leaf]] = [[]]
    filled = 0
    for leaf in leaves:
        size = math.prod(leaf.shape) * itemsize
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(leaf)
        filled += size
    return shards


def _chunks(
    leaves: Mapping[Leaf, Callable[[], np.ndarray]], dtype: str
) -> Iterator[memoryview | bytes]:
    spelled = {long: short for short, long in _TYPES.items()}[dtype]
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for leaf in leaves:
        for name, shape in tensors(leaf).items():
            stop = offset + math.prod(shape) * jnp.dtype(dtype).itemsize
            entries[name] = {
                "dtype": spelled,
                "shape": shape,
                "data_offsets": (offset, stop),
            }
            offset = stop
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little") + head
    for leaf, fetch in leaves.items():
        for array in _split(leaf, fetch()).values():
            yield array.reshape(-1).view(np.uint8).data


def _split(leaf: Leaf, ours: np.ndarray) -> dict[str, np.ndarray]:
    """The files' tensors that a leaf is made of: the inverse of `read`."""
    if len(leaf.runs) == 1 and not leaf.transposed:
        return {leaf.runs[0].tensor: np.ascontiguousarray(ours)}
    found = {name: np.empty(shape, ours.dtype) for name, shape in tensors(leaf).items()}
    for run in leaf.runs:
        rows = found[run.tensor][run.row : run.row + run.size]
        columns = slice(run.column, run.column + run.size)
        _copy(ours[..., columns], rows.T)  # of a bias, .T is itself
    return found


def _write_index(path: Path, shards: Mapping[str, list[Leaf]], dtype: str) -> None:
    items = sum(math.prod(leaf.shape) for shard in shards.values() for leaf in shard)
    placed = {
        name: shard
        for shard, leaves in shards.items()
        for leaf in leaves
        for name in tensors(leaf)
    }
    total = items * jnp.dtype(dtype).itemsize
    files.write_json(path, {"metadata": {"total_size": total}, "weight_map": placed})


def _remove_others(directory: Path, names: list[str]) -> None:
    """What an earlier save left: transformers reads model.safetensors before shards."""
    old = [directory / WHOLE, *directory.glob("model-?????-of-?????.safetensors")]
    if names == [WHOLE]:
        old.append(directory / INDEX)
    for path in old:
        if path.name not in names:
            path.unlink(missing_ok=True)
