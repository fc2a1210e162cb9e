"""Progress on stderr: what is done, tokens/s, time left; compiling is not counted."""

import contextlib
import time
from collections.abc import Iterator

import jax.monitoring
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class Meter:
    """Counts the work of one process, and draws it where stderr is a terminal."""

    def __init__(self, console: Console, title: str, *, total: int, done: int):
        self._left, self._done, self._tokens = total - done, 0, 0
        self._start, self._compiling = time.time(), list[tuple[float, float]]()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        rate = "compiling"
        self._row = self._bar.add_task(title, total=total, completed=done, rate=rate)

    def tick(self, records: int, tokens: int) -> None:
        """Count finished input records, and the tokens it took."""
        self._done += records
        self._tokens += tokens
        left = (self._left - self._done) * self.seconds / max(1, self._done)
        rate = f"{self.rate:,.0f} tokens/s" + f", {_clock(left)} left" * bool(
            self._done
        )
        self._bar.update(self._row, advance=records, rate=rate)

    @property
    def seconds(self) -> float:
        """Seconds of work so far, those of tracing and compiling left out."""
        spent = sum(stop - start for start, stop in self._compiling)
        return max(time.time() - self._start - spent, 1e-9)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._tokens / self.seconds

    @property
    def tokens(self) -> int:
        return self._tokens

    def _compiled(self, event: str, start_time: float, end_time: float, **_) -> None:
        """Keep the union of the spans; one inside another ends before it."""
        if event.startswith("/jax/core/compile/"):
            while self._compiling and self._compiling[-1][0] >= start_time:
                self._compiling.pop()
            self._compiling.append((start_time, end_time))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count, and draw, in here."""
        jax.monitoring.register_event_time_span_listener(self._compiled)
        try:
            with self._bar:
                yield
        finally:
            jax.monitoring.unregister_event_time_span_listener(self._compiled)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
