"""Reading a table file: `pi` [X Y] and `mu` [X], refused unless it is exactly that.

A file is .npz (numpy, no pickles) or .json ({"pi": [[...], ...], "mu": [...]}).
Nothing is renormalised, padded or skipped: a distribution that does not sum to one is
an error that names its row.
"""

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

SUM_TOLERANCE = 1e-9
FIELDS = ("pi", "mu")
# Of np.load: no archive, a damaged one, a compression that zipfile lacks, a pickle.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
)


class TableError(ValueError):
    """A file that is not a table; the message says what was found, and where."""


class PromptTable(NamedTuple):
    """A base policy and a prompt distribution, float64, validated."""

    pi: Float[np.ndarray, "X Y"]
    mu: Float[np.ndarray, " X"]


def read_table(path: Path) -> PromptTable:
    """Read and validate a table with both fields; raises TableError."""
    fields = _read_fields(path)
    for name in FIELDS:
        if name not in fields:
            found = ", ".join(sorted(fields)) or "no field"
            raise TableError(f"{path}: field '{name}' is missing; found {found}")
    pi = _policy(path, fields["pi"])
    return PromptTable(pi, _prompt_distribution(path, fields["mu"], pi.shape[0]))


def read_policy(path: Path, base: PromptTable) -> Float[np.ndarray, "X Y"]:
    """Read a second policy over the prompts and responses of `base`.

    `mu` may be left out; if it is there it must be that of `base`. Raises TableError.
    """
    fields = _read_fields(path)
    if "pi" not in fields:
        raise TableError(f"{path}: field 'pi' is missing")
    pi = _policy(path, fields["pi"])
    if pi.shape != base.pi.shape:
        raise TableError(
            f"{path}: field 'pi' must have the base table's shape {base.pi.shape}, "
            f"found {pi.shape}"
        )
    if "mu" in fields:
        mu = _prompt_distribution(path, fields["mu"], pi.shape[0])
        if not np.array_equal(mu, base.mu):
            raise TableError(f"{path}: field 'mu' differs from the base table's mu")
    return pi


def _read_fields(path: Path) -> dict[str, np.ndarray]:
    readers = {".npz": _read_npz, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TableError(
            f"{path}: expected a .npz or .json file, found '{path.suffix}'"
        )
    try:
        fields = reader(path)
    except OSError as error:
        reason = error.strerror or error
        raise TableError(f"{path}: cannot be read: {reason}") from error
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise TableError(
            f"{path}: unknown field '{unknown[0]}'; a table has pi [X, Y] and mu [X]"
        )
    return fields


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise TableError(f"{path}: is one array, not an npz of pi and mu")
            return {name: archive[name] for name in archive.files}
    except TableError:
        raise
    except UNREADABLE as error:
        raise TableError(f"{path}: is not a readable npz archive: {error}") from error


def _read_json(path: Path) -> dict[str, np.ndarray]:
    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=_once(path))
    except json.JSONDecodeError as error:
        raise TableError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: byte {error.start}: not UTF-8 text") from error
    except TableError:
        raise
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path}: is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise TableError(
            f"{path}: expected an object with fields pi and mu, found "
            f"{type(content).__name__}"
        )
    return {
        name: _json_array(path, name, value) if name in FIELDS else np.empty(0)
        for name, value in content.items()
    }


def _once(path: Path):
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise TableError(f"{path}: field '{name}' appears twice")
        return dict(pairs)

    return collect


def _json_array(path: Path, name: str, value: Any) -> np.ndarray:
    """Lists of numbers, or one list of lists of numbers, all equally long."""
    if not isinstance(value, list):
        raise TableError(
            f"{path}: field '{name}' must be a list, found {type(value).__name__}"
        )
    if not any(isinstance(row, list) for row in value):
        return np.array([_number(path, f"{name}[{i}]", v) for i, v in enumerate(value)])
    rows = []
    for i, row in enumerate(value):
        if not isinstance(row, list):
            raise TableError(
                f"{path}: {name}[{i}] must be a list like {name}[0], found {row!r}"
            )
        if len(row) != len(value[0]):
            raise TableError(
                f"{path}: ragged field '{name}': {name}[{i}] has {len(row)} entries, "
                f"{name}[0] has {len(value[0])}"
            )
        rows.append([_number(path, f"{name}[{i}, {j}]", v) for j, v in enumerate(row)])
    return np.array(rows, float)


def _number(path: Path, where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TableError(f"{path}: {where} must be a number, found {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _real(path: Path, name: str, value: np.ndarray, shape: str, rank: int):
    if not isinstance(value, np.ndarray):  # a zip may hold anything
        raise TableError(f"{path}: field '{name}' must be an array, found {value!r}")
    if value.dtype.kind not in "fiu":
        raise TableError(
            f"{path}: field '{name}' must hold real numbers, found dtype {value.dtype}"
        )
    if value.ndim != rank:
        raise TableError(
            f"{path}: field '{name}' must have shape {shape}, found {value.shape}"
        )
    if value.size == 0:
        raise TableError(f"{path}: field '{name}' is empty, its shape is {value.shape}")
    return value.astype(np.float64)


def _policy(path: Path, value: np.ndarray) -> Float[np.ndarray, "X Y"]:
    pi = _real(path, "pi", value, "[X, Y]", 2)
    _probabilities(path, "pi", pi)
    for x, row in enumerate(pi):
        _sums_to_one(path, f"pi[{x}]", row)
    return pi


def _prompt_distribution(
    path: Path, value: np.ndarray, prompts: int
) -> Float[np.ndarray, " X"]:
    mu = _real(path, "mu", value, "[X]", 1)
    if mu.shape[0] != prompts:
        raise TableError(
            f"{path}: field 'mu' must have one entry per row of pi: expected "
            f"{prompts}, found {mu.shape[0]}"
        )
    _probabilities(path, "mu", mu)
    _sums_to_one(path, "mu", mu)
    return mu


def _probabilities(path: Path, name: str, value: np.ndarray) -> None:
    """Refuse the first entry that is not a number in {0} or [2.2e-308, inf)."""
    tiny = np.finfo(np.float64).tiny
    complaints = (
        (~np.isfinite(value), "must be finite"),
        (value < 0, "must not be negative"),
        # XLA flushes subnormal numbers to zero: such an entry would vanish unsaid.
        ((value > 0) & (value < tiny), f"must be 0 or at least {tiny:.3g}"),
    )
    for bad, expected in complaints:
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            where = ", ".join(map(str, place))
            raise TableError(f"{path}: {name}[{where}] = {value[place]} {expected}")


def _sums_to_one(path: Path, where: str, row: np.ndarray) -> None:
    total = math.fsum(row)
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise TableError(
            f"{path}: {where} must sum to 1 within {SUM_TOLERANCE:g}, its sum is "
            f"{total!r}"
        )
