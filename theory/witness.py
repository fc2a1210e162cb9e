"""A witness travels as a file: saved, reloaded, judged again (npz, never pickle)."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jsharp import files
from theory import table
from theory.claim import Claim, Instance, Verdict

PREFIX = "witness."
# Of np.load: also no file at all, and a bare array, which has no fields.
UNREADABLE = (*table.UNREADABLE, OSError, AttributeError)


class Saved(NamedTuple):
    """A witness read back from its file, with both sides as they were."""

    claim_id: str
    left: float
    right: float
    witness: Instance


def save(path: Path, claim_id: str, verdict: Verdict) -> None:
    """Write a verdict's witness and both sides at it."""
    arrays = {PREFIX + name: np.asarray(a) for name, a in verdict.witness.items()}
    arrays |= {"left": np.array(verdict.left), "right": np.array(verdict.right)}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, claim=np.array(claim_id), **arrays)
    files.write_bytes(path, content.getvalue())


def load(path: Path) -> Saved:
    """Read what `save` wrote.

    Raises ValueError, naming the file and the field, when something is missing.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            fields = {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise ValueError(f"{path}: expected a witness (npz), found {error}") from error
    for name in ("claim", "left", "right"):
        if name not in fields:
            raise ValueError(f"{path}: expected the field {name!r}, found {[*fields]}")
    arrays = {k: a for k, a in fields.items() if k.startswith(PREFIX)}
    for name, a in {**arrays, "left": fields["left"], "right": fields["right"]}.items():
        if not isinstance(a, np.ndarray) or a.dtype.kind not in "bfiu":
            raise ValueError(f"{path}: {name}: expected real numbers, found {a!r}")
        if name in ("left", "right") and a.ndim:
            raise ValueError(f"{path}: {name}: expected one number, found {a.shape}")
    return Saved(
        claim_id=str(fields["claim"]),
        left=float(fields["left"]),
        right=float(fields["right"]),
        witness={name.removeprefix(PREFIX): a for name, a in arrays.items()},
    )


def replay(claim: Claim, witness: Instance) -> tuple[float, float]:
    """Both sides of a claim at a witness.

    Raises ValueError, naming the field, when the witness is not one of this claim.
    """
    batch = {name: np.asarray(a)[None] for name, a in witness.items()}
    try:
        sides = claim.sides(batch)
    except KeyError as error:
        raise ValueError(
            f"{claim.id}: expected the witness field {error}, found {[*witness]}"
        ) from error
    except (TypeError, ValueError, IndexError) as error:
        shapes = {name: a.shape for name, a in witness.items()}
        raise ValueError(
            f"{claim.id}: no instance of this claim has the shapes {shapes}: {error}"
        ) from error
    return float(sides.left[0]), float(sides.right[0])
