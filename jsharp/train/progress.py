"""What a run shows while it works; speed.jsonl, its times apart from its values."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from jsharp.commands.responses import Tick


class Shown:
    """Bars of the steps, and of the draws or evaluation going on."""

    def __init__(self, bars: Progress, total: int, done: int):
        self._bars = bars
        self._steps = bars.add_task("train", total=total, completed=done, note="")
        self._other = None

    def step(self, done: int, loss: float, tokens_per_second: float) -> None:
        note = f"loss {loss:.4f}, {tokens_per_second:,.0f} tokens/s"
        self._bars.update(self._steps, completed=done, note=note)

    def drawing(self, round_: int, prompts: int) -> Tick:
        return self._side(f"draws of round {round_}", prompts)

    def evaluating(self, step: int, prompts: int) -> Tick:
        return self._side(f"evaluation at step {step}", prompts)

    def evaluated(self, step: int, values: dict[str, float]) -> None:
        said = ", ".join(
            f"{name.removeprefix('eval/')} {value:.4g}"
            for name, value in sorted(values.items())
        )
        self._bars.console.print(f"step {step}: {said}", highlight=False)

    def _side(self, title: str, prompts: int) -> Tick:
        if self._other is not None:
            self._bars.remove_task(self._other)
        self._other = row = self._bars.add_task(title, total=prompts, note="")

        def tick(finished: int, tokens: int) -> None:
            del tokens
            self._bars.update(row, advance=finished)

        return tick


@contextlib.contextmanager
def shown(console: Console, total: int, done: int) -> Iterator[Shown]:
    """Bars on a terminal; elsewhere only the lines of evaluations."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        yield Shown(bars, total, done)


class Pace:
    """Seconds and tokens of the steps of one process, to speed.jsonl."""

    def __init__(self, directory: Path):
        self._path, self._seconds, self._tokens = directory / "speed.jsonl", 0.0, 0.0
        self.last: dict[str, float] = {}

    def tick(self, step: int, tokens: float, seconds: float) -> None:
        self._seconds, self._tokens = self._seconds + seconds, self._tokens + tokens
        self.last = {"step_time": seconds, "tokens_per_sec": tokens / seconds}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **self.last}) + "\n")

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / max(self._seconds, 1e-9)
