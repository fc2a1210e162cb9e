"""A file of JSON lines that grows chunk by chunk, and that a killed run takes up again.

The input is cut into fixed chunks, in its order. The lines of a chunk are appended in
one write, and are on the disk before the next chunk begins, so a kill at any instant
tears at most the chunk being written: what is left of it is cut off and computed again.
Beside OUT, OUT.run.json pins what the run is and records what it ran on.
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsharp import files

Record = dict[str, Any]
Identity = dict[str, Any]

ADVICE = "; choose another output, or replace it by --overwrite"  # ends most errors


@dataclasses.dataclass(frozen=True)
class Plan:
    """The chunks: `size` input records each, and `each` output lines for a record."""

    ids: Sequence[Any]
    size: int
    each: int = 1

    @property
    def chunks(self) -> int:
        return -(-len(self.ids) // self.size)

    def records(self, chunk: int) -> range:
        """The places in the input of a chunk's records."""
        start = chunk * self.size
        return range(start, min(start + self.size, len(self.ids)))

    def lines(self, chunk: int) -> list[Any]:
        """The id that each of the chunk's lines holds."""
        return [self.ids[i] for i in self.records(chunk) for _ in range(self.each)]


class Found(NamedTuple):
    """What an earlier process left: whole chunks, and how many bytes they take."""

    chunks: int
    size: int


class Output:
    """The file while this process holds it; `found` is where the work goes on."""

    def __init__(self, descriptor: int, found: Found):
        self._descriptor, self.found = descriptor, found

    def append(self, records: Iterable[Record]) -> None:
        """Add one chunk; it is on the disk when this returns."""
        left = memoryview(b"".join(map(line, records)))
        while left:
            left = left[os.write(self._descriptor, left) :]
        os.fsync(self._descriptor)


def line(record: Record) -> bytes:
    """One line of JSON: UTF-8, keys in their order, floats by repr.

    Raises FloatingPointError, naming the record, where a number is not finite.
    """
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise FloatingPointError(
            f"id {record.get('id')!r}: a number is not finite: {record}"
        ) from error
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return json.dumps(record).encode() + b"\n"


def find(path: Path, identity: Identity, plan: Plan, *, overwrite: bool) -> Found:
    """How far the run `identity` has come; writes nothing.

    Raises ValueError where `path` holds anything else, naming what differs.
    """
    if overwrite or not path.exists() or not path.stat().st_size:
        return Found(0, 0)
    _compare(path, identity)
    with path.open("rb") as file:
        return _whole_chunks(path, file, plan)


@contextlib.contextmanager
def hold(
    path: Path,
    identity: Identity,
    plan: Plan,
    made: dict[str, Any],
    *,
    overwrite: bool,
) -> Iterator[Output]:
    """The output, cut back to its whole chunks, for this process alone.

    `made` says what this process runs on. Raises BlockingIOError where another process
    holds the file, and otherwise as `find` does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise OSError(f"{path}: expected a file to write to: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"{path}: another process is writing it") from error
        found = find(path, identity, plan, overwrite=overwrite)
        os.ftruncate(descriptor, found.size)
        _record(path, identity, made, anew=not found.size)
        yield Output(descriptor, found)
    finally:
        os.close(descriptor)  # and with it the lock


def begun_as(path: Path) -> Identity:
    """What the run that wrote this output is; ValueError where nothing says it."""
    beside = _beside(path)
    if not beside.exists():
        raise ValueError(
            f"{path} exists and no {beside.name} says which run wrote it{ADVICE}"
        )
    try:
        found = files.read_json(beside)["run"]
        found.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{beside}: expected what a run is: {error!r}") from error
    return found


def made_before(path: Path) -> list[dict[str, Any]]:
    """What the processes that worked on this output ran on, in their order."""
    beside = _beside(path)
    return files.read_json(beside)["made"] if beside.exists() else []


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".run.json")


def _record(path: Path, identity: Identity, made: dict[str, Any], *, anew: bool):
    before = [] if anew else made_before(path)
    if anew or made not in before:
        content = {"run": identity, "made": [*before, made]}
        files.write_json(_beside(path), content)


def _compare(path: Path, identity: Identity) -> None:
    found = begun_as(path)
    wanted = json.loads(json.dumps(identity))  # tuples become lists
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{name}: {path} was begun with {found.get(name)!r}, got "
                f"{wanted.get(name)!r}; a run goes on under its own settings "
                f"only{ADVICE}"
            )


def _whole_chunks(path: Path, file: Iterable[bytes], plan: Plan) -> Found:
    """The leading chunks of which every line is there.

    Raises ValueError where more than the chunk being written is not as it was left.
    """
    lines, kept = iter(file), Found(0, 0)
    for chunk in range(plan.chunks):
        wanted = plan.lines(chunk)
        rows = list(itertools.islice(lines, len(wanted)))
        torn = len(rows) < len(wanted) or not all(map(_holds, rows, wanted))
        if torn and next(lines, None) is not None:
            at = plan.records(chunk).start * plan.each + 1
            raise ValueError(
                f"{path}: lines {at} to {at + len(wanted) - 1} are not what this run "
                f"wrote{ADVICE}"
            )
        if torn:
            return kept
        kept = Found(kept.chunks + 1, kept.size + sum(map(len, rows)))
    if next(lines, None) is not None:
        count = len(plan.ids) * plan.each
        raise ValueError(f"{path}: expected {count} lines, found more")
    return kept


def _holds(row: bytes, wanted: Any) -> bool:
    """Whether this is a whole line, of the record with this id."""
    if not row.endswith(b"\n"):
        return False
    try:
        record = json.loads(row)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("id") == wanted
