"""Whether two runs left the same: file by file, byte by byte, array by array."""

import json
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

CHECKPOINTS, SPEED = "checkpoints", "speed.jsonl"

# What `differences` does, in words.
COMPARED = """\
Every file of a run is compared byte by byte with that of the run without a break; none
may be missing, none be there besides. Three are compared otherwise. In JSON files with
a field `made` (versions, device): all but that field. Of checkpoints, which Orbax
writes under names of chance with the time: which steps are kept, and every restored
array, bit by bit. (A run told to stop saves where it stops, and so may keep another
step before the last: there, the steps that both keep.) `speed.jsonl` holds the times
and is not compared; it tells how many steps were computed twice."""


def differences(one: Path, other: Path, *, more_steps: bool = False) -> list[str]:
    """What differs between two runs' directories, a line each; [] where nothing.

    `more_steps`: they may keep different checkpoints, besides the last.
    """
    return [*_files(one, other), *_checkpoints(one, other, more_steps)]


def _files(one: Path, other: Path) -> list[str]:
    left, right = _names(one), _names(other)
    lines = [f"{name}: missing" for name in sorted(left - right)]
    lines += [f"{name}: unexpected" for name in sorted(right - left)]
    for name in sorted(left & right):
        a, b = _content(one / name), _content(other / name)
        if a != b:
            pairs = zip(a, b, strict=False)
            at = next((i for i, (x, y) in enumerate(pairs) if x != y), None)
            at = min(len(a), len(b)) if at is None else at
            lines.append(f"{name}: differs at byte {at} of {len(a)}")
    return lines


def _names(directory: Path) -> set[str]:
    paths = (path.relative_to(directory) for path in directory.rglob("*"))
    return {
        path.as_posix()
        for path in paths
        if path.parts[0] != CHECKPOINTS
        and path.as_posix() != SPEED
        and (directory / path).is_file()
    }


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    found = json.loads(content)
    if "made" not in found:
        return content
    return json.dumps({k: v for k, v in found.items() if k != "made"}).encode()


def _checkpoints(one: Path, other: Path, more_steps: bool) -> list[str]:
    left, right = _steps(one), _steps(other)
    if left[-1:] != right[-1:] or (left != right and not more_steps):
        return [f"{CHECKPOINTS}: steps {right}, expected {left}"]
    both = [step for step in left if step in right]
    return [line for step in both for line in _arrays(one, other, step)]


def _steps(directory: Path) -> list[int]:
    if not (directory / CHECKPOINTS).is_dir():
        return []
    with ocp.training.Checkpointer(_checkpoint(directory)) as checkpointer:
        return sorted(found.step for found in checkpointer.checkpoints)


def _arrays(one: Path, other: Path, step: int) -> list[str]:
    left, right = _restored(one, step), _restored(other, step)
    names = sorted(left.keys() | right.keys())
    same = lambda a, b: (
        a is not None
        and b is not None
        and (a.dtype, a.shape) == (b.dtype, b.shape)
        and a.tobytes() == b.tobytes()
    )
    return [
        f"{CHECKPOINTS}/{step}: {name} differs"
        for name in names
        if not same(left.get(name), right.get(name))
    ]


def _restored(directory: Path, step: int) -> dict[str, np.ndarray]:
    with ocp.training.Checkpointer(_checkpoint(directory)) as checkpointer:
        found = checkpointer.load_checkpointables(step)
    leaves = jax.tree.leaves_with_path(found)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _checkpoint(directory: Path) -> str:
    return str((directory / CHECKPOINTS).absolute())  # Orbax refuses relative paths
