"""The directory of a resumable run: its config, and its metrics as they come.

config.json pins what the run is; metrics.jsonl holds one object a line. A killed run
may leave a torn last line and lines past its last checkpoint: `forget_after` removes
both, so that a resumed run writes each line once.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jsharp import files

CONFIG, METRICS = "config.json", "metrics.jsonl"


def claim(
    directory: Path,
    identity: dict[str, Any],
    *,
    resume: bool,
    allow_changes: bool | None = None,
    fixed: tuple[str, ...] = (),
) -> None:
    """Write config.json, or check that the run found here has the same.

    With `allow_changes` (None where there is no such option) another but for the
    `fixed` fields takes its place, and it stays as config.json.1, .2, ... Raises
    ValueError, naming the field, where it has another and may not, or where resume is
    False.
    """
    path = directory / CONFIG
    wanted = json.loads(json.dumps(identity))  # tuples become lists
    if not path.exists():
        files.write_json(path, wanted)
        return
    unless = "" if allow_changes is None else ", but with --allow-changes"
    if not resume:
        raise ValueError(f"output_dir: {directory} already holds a run")
    try:
        found = files.read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: expected the config of a run: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected the config of a run, found {found!r}")
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) == found.get(name):
            continue
        if name in fixed or not allow_changes:
            raise ValueError(
                f"{name}: {path} has {found.get(name)!r}, got {wanted.get(name)!r}; "
                f"a run goes on under its own config only"
                f"{'' if name in fixed else unless}"
            )
    if wanted != found:
        count = len(list(directory.glob(f"{CONFIG}.*"))) + 1
        files.write_json(directory / f"{CONFIG}.{count}", found)
        files.write_json(path, wanted)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make the directory, and hold it for this process.

    Raises BlockingIOError where another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{directory}: another process works there"
            raise BlockingIOError(message) from error
        yield
    finally:
        os.close(descriptor)  # and with it the lock


class Clock(NamedTuple):
    """Steps and tokens since a moment, for `step_time` and `tokens_per_sec`."""

    since: float
    steps: int
    tokens: int

    def tick(self, tokens: int) -> "Clock":
        return Clock(self.since, self.steps + 1, self.tokens + tokens)

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.since
        return {
            "step_time": seconds / self.steps,
            "tokens_per_sec": self.tokens / seconds,
        }


def started() -> Clock:
    """A clock that counts from now."""
    return Clock(time.perf_counter(), 0, 0)


def append(directory: Path, line: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl; it is with the system when this returns."""
    with (directory / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(directory: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    path = directory / METRICS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]


def forget_after(
    directory: Path, step: int, *, keep: Callable[[dict[str, Any]], bool] | None = None
) -> None:
    """Drop the lines past `step`, a torn last one and, at `step`, those not to keep."""
    before = [line for line in read(directory) if line["step"] <= step]
    lines = [x for x in before if x["step"] < step or keep is None or keep(x)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    files.write_text(directory / METRICS, text)


def training_seconds(directory: Path) -> float:
    """Seconds spent in training steps, over every process that worked on the run."""
    timed = [line for line in read(directory) if "step_time" in line]
    steps = [0, *(line["step"] for line in timed)]
    return sum(
        line["step_time"] * (line["step"] - before)
        for line, before in zip(timed, steps, strict=False)
    )
