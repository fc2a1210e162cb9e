"""Exact checkpoints of a training state, by Orbax: save, then restore bit for bit.

A checkpoint appears under its step's name only when it is whole, so a process killed at
any instant leaves the last whole one; what it left half-written is removed.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

State = Any  # a pytree of arrays


def save(directory: Path, step: int, state: State, *, keep: int | None = None) -> None:
    """Write `directory`/<step> and wait for it; keep the last `keep` (None: all).

    A step that is there already stays as it is. Raises ValueError where a later step
    is, or unless keep >= 1.
    """
    if keep is not None and keep < 1:
        raise ValueError(f"expected to keep at least 1 checkpoint, got {keep}")
    policies = ocp.training.preservation_policies
    policy = policies.PreserveAll() if keep is None else policies.LatestN(keep)
    with _open(directory, preservation_policy=policy) as checkpointer:
        latest = checkpointer.latest
        if latest is not None and latest.step > step:
            raise ValueError(
                f"{directory}: holds step {latest.step}, later than {step}"
            )
        if latest is None or latest.step < step:
            checkpointer.save_checkpointables(step, {"state": _host(state)}, force=True)


def restore(
    directory: Path, like: State, *, step: int | None = None
) -> tuple[int, State] | None:
    """(step, state) of the latest step (or of `step`), None where nothing was saved.

    `like` gives structure, shapes and dtypes; it may be abstract. Raises ValueError,
    naming the checkpoint, where it is damaged or another's, and the leaf whose shape or
    dtype is another.
    """
    if not directory.is_dir():
        return None
    with _open(directory, cleanup_tmp_directories=True) as checkpointer:
        steps = {found.step for found in checkpointer.checkpoints}
        if step is None and not steps:
            return None
        chosen = max(steps) if step is None else step
        if chosen not in steps:
            raise ValueError(f"{directory}: no step {chosen}, found {sorted(steps)}")
        # Never touched, these have no memory.
        shapes = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            found = checkpointer.load_checkpointables(chosen, {"state": shapes})
        except (ValueError, KeyError, OSError) as error:
            place = directory / str(chosen)
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ValueError(
                f"{place}: expected a whole checkpoint of this run, which goes on from "
                f"the one before where this one is deleted: {reason:.200}"
            ) from error
    check = functools.partial(_check, directory / str(chosen))
    return chosen, jax.tree.map_with_path(check, like, found["state"])


def _open(directory: Path, **options) -> ocp.training.Checkpointer:
    # Orbax refuses relative paths.
    return ocp.training.Checkpointer(str(directory.absolute()), **options)


def _check(checkpoint: Path, path, like: Any, found: np.ndarray) -> jax.Array:
    """The leaf on the device; Orbax itself lets another shape through."""
    expected, got = (like.dtype, like.shape), (found.dtype, found.shape)
    if expected != got:
        raise ValueError(
            f"{checkpoint}: state{jax.tree_util.keystr(path)}: "
            f"expected {expected[0]}{expected[1]}, found {got[0]}{got[1]}"
        )
    return jnp.asarray(found)


def _host(state: State) -> State:
    return jax.tree.map(np.asarray, state)
