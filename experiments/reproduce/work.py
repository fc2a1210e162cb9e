"""Runs of jsharp's own commands, each once: kept, resumed, timed.

A run is a command line; it works in OUTPUT_DIR, so that its paths are short and can be
typed again there. OUTPUT_DIR/made/NAME.json says that it is finished: the command, the
seconds of the process which finished it, whether an earlier one had begun it, digests
of its inputs, commit, versions and device. What it said is in OUTPUT_DIR/made/NAME.log.
Who deletes the folder OUTPUT_DIR/NAME has that run done anew.
"""

import functools
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from jsharp import files
from jsharp.commands import model

_OUTPUT = {"mode": "--output", "sample": "--output", "score": "--output"}
OUTPUT_FILE = "output.jsonl"  # of the commands that write a file, inside their folder
GRACE = 60.0  # seconds in which a child that is told to stop may save its work
_SAID = 2000  # characters: the end of what a failed run said


class Run(NamedTuple):
    """`jsharp WORDS` into the folder OUTPUT_DIR/NAME, behind the runs that it needs."""

    name: str
    words: tuple[str, ...]
    needs: tuple["Run", ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """All words, with where the output goes."""
        option = _OUTPUT.get(self.words[0], "--output-dir")
        to = f"{self.name}/{OUTPUT_FILE}" if option == "--output" else self.name
        return (*self.words, option, to)

    @property
    def text(self) -> str:
        return shlex.join(("jsharp", *self.command))


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Each run once, behind what it needs.

    Raises ValueError where two runs of different commands have one name.
    """
    found: dict[str, Run] = {}

    def add(run: Run) -> None:
        for need in run.needs:
            add(need)
        if (other := found.setdefault(run.name, run)).words != run.words:
            raise ValueError(
                f"run {run.name}: two commands:\n  {other.text}\n  {run.text}"
            )

    for run in runs:
        add(run)
    return list(found.values())


def made(directory: Path, run: Run) -> dict[str, Any] | None:
    """What the finished run says of itself; None where it is not finished.

    Raises ValueError where a finished run of this name had another command, or inputs
    of another content.
    """
    path, folder = _about(directory, run, "json"), directory / run.name
    if not path.exists() or not folder.exists():
        return None
    found = files.read_json(path)
    remedy = f"choose another --output-dir, or delete {folder}"
    if found["command"] != run.text:
        raise ValueError(
            f"{path}: expected a run of\n  {run.text}\nfound one of\n"
            f"  {found['command']}\n{remedy}"
        )
    # A run that does not say what it read is of an earlier version.
    before, now = found.get("inputs", {}), inputs(directory, run)
    for name in before | now:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"run {run.name}: its input {name} is another now: expected "
                f"{before.get(name, 'none')} as in {path}, found "
                f"{now.get(name, 'none')}; {remedy}"
            )
    return found


def inputs(directory: Path, run: Run) -> dict[str, str]:
    """The digests of the files and checkpoints that its words name, file by file."""
    found = {}
    for word in run.words:
        path = directory / word
        if path.is_file():
            found[word] = _digests(path, _state([path]))[path.name]
        elif (path / "config.json").is_file():
            digests = _digests(path, _state(sorted(path.iterdir())))
            found |= {f"{word}/{name}": digest for name, digest in digests.items()}
    return found


def _state(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does, without reading it."""
    stats = ((path.name, path.stat()) for path in paths)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@functools.cache
def _digests(path: Path, state: object) -> dict[str, str]:
    """By name, of a file or of those of a checkpoint; read once for each `state`."""
    del state
    if path.is_file():
        return {path.name: model.digest(path)}
    return {Path(name).name: each for name, each in model.fingerprint(path).items()}


class Pool:
    """Carries out runs, at most `jobs` at a time, while its `with` block goes on.

    A run that fails keeps those from beginning that need it, and no other. Leaving the
    block ends what is still at work: each process is told to stop, and killed where it
    has not after GRACE seconds.
    """

    def __init__(
        self, directory: Path, runs: Iterable[Run], *, jobs: int, console: Console
    ):
        self.directory, self.console = directory, console
        every = in_order(runs)
        self._finished = {run.name for run in every if made(directory, run) is not None}
        self._failed: dict[str, str] = {}  # and what it said
        self._waiting = [run for run in every if run.name not in self._finished]
        self._total, self._start = len(self._waiting), time.monotonic()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopping = False
        self._changed = threading.Condition()  # guards all of the above
        self._progress = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._row = self._progress.add_task("runs", total=self._total)
        cores = _cores() if jobs > 1 else [None]
        self._threads = [
            threading.Thread(
                target=self._work, args=(cores[job % len(cores)],), daemon=True
            )
            for job in range(min(jobs, self._total))
        ]

    def __enter__(self) -> "Pool":
        if self._threads:
            self._progress.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            for child in self._children:
                child.terminate()
        try:
            until = time.monotonic() + GRACE
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
        finally:  # who cannot wait presses Ctrl-C again
            with self._changed:
                for child in self._children:
                    child.kill()
            for thread in self._threads:
                thread.join()
            if self._threads:
                self._progress.stop()

    def wait(self, runs: Iterable[Run]) -> dict[str, str]:
        """Until all of these are finished or failed: name -> why, of the failed."""
        names = [run.name for run in in_order(runs)]
        with self._changed:
            while not all(n in self._finished or n in self._failed for n in names):
                self._changed.wait()
            return {n: self._failed[n] for n in names if n in self._failed}

    def _work(self, core: int | None) -> None:
        while (run := self._next()) is not None:
            try:
                failure = self._carry_out(run, core)
            except Exception as error:  # else who waits for the run waits for ever
                failure = f"{run.text}\n{type(error).__name__}: {error}"
            with self._changed:
                if failure is None:
                    self._finished.add(run.name)
                else:
                    self._fail(run, failure)
                self._report()
                self._changed.notify_all()

    def _next(self) -> Run | None:
        """The first run that can begin, once there is one; None where none is left."""
        with self._changed:
            while self._waiting and not self._stopping:
                for run in self._waiting:
                    if all(need.name in self._finished for need in run.needs):
                        self._waiting.remove(run)
                        return run
                self._changed.wait()
            return None

    def _fail(self, run: Run, failure: str) -> None:
        """Note it, for those that need the run too."""
        self._failed[run.name] = failure
        if not self._stopping:
            self._say(failure, style="red")
        for other in list(self._waiting):  # in order: what needs it, what needs those
            lost = [need.name for need in other.needs if need.name in self._failed]
            if lost:
                self._waiting.remove(other)
                self._failed[other.name] = f"{other.text}\nnot begun: {lost[0]} failed"

    def _carry_out(self, run: Run, core: int | None) -> str | None:
        """None where the run is finished, else why it is not."""
        folder, log = self.directory / run.name, _about(self.directory, run, "log")
        resumed = log.exists() and folder.exists()
        # That of a folder which was deleted.
        _about(self.directory, run, "json").unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        words = process(self.directory, run, resumed=resumed)
        with log.open("wb") as said:
            with self._changed:
                if self._stopping:
                    return "stopped"
                self._say(run.text, style="dim")
                child = subprocess.Popen(
                    words,
                    cwd=self.directory,
                    env=_environment(self.directory),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
                self._children.add(child)
            try:
                if core is not None:
                    _pin(child.pid, core)
                status = child.wait()
            finally:
                with self._changed:
                    self._children.remove(child)
        if made(self.directory, run) is not None:
            return None
        end = log.read_text(encoding="utf-8", errors="replace")[-_SAID:]
        return f"{run.text}\n(in {self.directory}) ended with {status}:\n{end}"

    def _report(self) -> None:
        """How far the runs are, and how long the others will take at that pace."""
        if self._stopping:
            return
        done = self._total - len(self._waiting) - len(self._children)
        self._progress.update(self._row, completed=done)
        seconds = time.monotonic() - self._start
        left = seconds / done * (self._total - done) if done else 0.0
        self._say(
            f"{done} of {self._total} runs after {seconds:.0f} s"
            + (f", about {left:.0f} s to go" if left else ""),
            style="dim",
        )

    def _say(self, text: str, style: str) -> None:
        self._progress.console.print(
            text, style=style, markup=False, highlight=False, soft_wrap=True
        )


def process(directory: Path, run: Run, *, resumed: bool) -> list[str]:
    """The words of the process that carries out the run (`child.main`)."""
    marker = _about(directory, run, "json").resolve()
    return [
        *(sys.executable, "-P", "-m", "experiments.reproduce.child"),
        *(str(os.getpid()), str(marker), str(int(resumed))),
        *(json.dumps(inputs(directory, run)), *run.command),
    ]


def _environment(directory: Path) -> dict[str, str]:
    """This process's, with the same modules to import and one cache of compilations."""
    path = [str(Path(entry).resolve()) for entry in sys.path]
    cache = str((directory / "compiled").resolve())
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "JAX_COMPILATION_CACHE_DIR": cache,
    }


def _about(directory: Path, run: Run, ending: str) -> Path:
    return directory / "made" / f"{run.name}.{ending}"


def _cores() -> list[int | None]:
    """The CPU cores that this process may use; [None] where the system cannot tell."""
    if sys.platform != "linux":
        return [None]
    return [*sorted(os.sched_getaffinity(0))]


def _pin(process: int, core: int) -> None:
    """Keep a process, and all threads that it will begin, on one core."""
    if sys.platform == "linux":
        try:
            os.sched_setaffinity(process, {core})
        except ProcessLookupError:
            pass  # it has ended
