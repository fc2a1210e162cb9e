"""Runs of jsharp's own commands, each once: kept, resumed, timed.

A run is a command line; it works in OUTPUT_DIR, so that its paths are short and can be
typed again there. OUTPUT_DIR/made/NAME.json says that it is finished: the command, the
seconds that the process which finished it took, commit, versions and device.
"""

import concurrent.futures
import os
import queue
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from jsharp import files
from jsharp.provenance import surroundings

_OUTPUT = {"mode": "--output", "sample": "--output", "score": "--output"}
OUTPUT_FILE = "output.jsonl"  # of the commands that write a file, inside their folder


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
        if found.setdefault(run.name, run).words != run.words:
            raise ValueError(f"run {run.name}: two commands:\n{found[run.name]}\n{run}")

    for run in runs:
        add(run)
    return list(found.values())


def made(directory: Path, run: Run) -> dict[str, Any] | None:
    """What the finished run says of itself; None where it is not finished.

    Raises ValueError where a finished run of this name had another command.
    """
    path = directory / "made" / f"{run.name}.json"
    if not path.exists():
        return None
    found = files.read_json(path)
    if found["command"] != run.text:
        raise ValueError(
            f"{path}: expected a run of\n  {run.text}\nfound one of\n"
            f"  {found['command']}\nchoose another --output-dir, or delete that run"
        )
    return found


def ensure(
    directory: Path, runs: Iterable[Run], *, jobs: int, console: Console
) -> None:
    """Have every run finished, at most `jobs` at a time.

    Raises RuntimeError, with the end of what it said, where a command fails; the others
    at work finish first, and no new one begins.
    """
    wanted = [run for run in in_order(runs) if made(directory, run) is None]
    if not wanted:
        return
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in range(jobs):
        cores.put(core)
    progress = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with progress, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        row = progress.add_task("runs", total=len(wanted))
        done: dict[str, concurrent.futures.Future[None]] = {}

        def work(run: Run) -> None:
            for need in run.needs:
                if need.name in done:
                    done[need.name].result()
            core = cores.get()
            try:
                progress.console.print(f"[dim]{run.text}", soft_wrap=True)
                _run(directory, run, core if jobs > 1 else None)
            finally:
                cores.put(core)
            progress.advance(row)

        # In order: the pool begins what is needed before what needs it.
        for run in wanted:
            done[run.name] = pool.submit(work, run)
        failed = concurrent.futures.wait(
            done.values(), return_when=concurrent.futures.FIRST_EXCEPTION
        )
        for future in failed.not_done:
            future.cancel()
    for future in done.values():
        if not future.cancelled():
            future.result()


def _run(directory: Path, run: Run, core: int | None) -> None:
    (directory / run.name).mkdir(parents=True, exist_ok=True)
    marker = directory / "made" / f"{run.name}.json"
    marker.parent.mkdir(parents=True, exist_ok=True)
    cache = {"JAX_COMPILATION_CACHE_DIR": str((directory / "compiled").resolve())}
    pin = lambda: os.sched_setaffinity(0, {(core or 0) % (os.cpu_count() or 1)})
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jsharp", *run.command],
        cwd=directory,
        env=os.environ | cache | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=None if core is None else pin,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"{run.text}\n(in {directory}) ended with {done.returncode}:\n"
            f"{done.stderr[-2000:]}"
        )
    seconds = time.monotonic() - start
    files.write_json(
        marker,
        {"command": run.text, "seconds": round(seconds, 1), **surroundings()},
    )
