"""An experiment's folder: pinned to one config, filled stage by stage, resumable."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from jsharp import files, run_directory
from jsharp.provenance import surroundings


def claim_directory(directory: Path, identity: dict[str, Any]) -> None:
    """Pin the folder to what the run is, with commit, versions and device beside it.

    Raises ValueError where the folder holds something else: a run of another config, or
    files of no run. Another commit or device may go on with a run; that is recorded.
    """
    pinned = (directory / run_directory.CONFIG).exists()
    if directory.is_dir() and any(directory.iterdir()) and not pinned:
        raise ValueError(
            f"output_dir: {directory} holds files of no run; choose another"
        )
    run_directory.claim(directory, identity, resume=True)
    made = directory / "surroundings.json"
    before, now = files.read_json(made) if made.exists() else [], surroundings()
    if now not in before:
        files.write_json(made, [*before, now])


class Stages:
    """Runs what has not been run, and says what it does and how long it took."""

    def __init__(self, directory: Path, console: Console):
        self.directory, self.console = directory, console

    def run(self, name: str, title: str, make: Callable[[Path], None]) -> Path:
        """Have `make(path)` write the file or folder `name`, unless it is there."""
        path = self.directory / name
        if path.exists():
            self.console.print(f"[dim]{title}: kept from an earlier run ({name})")
            return path
        self.console.print(f"[bold]{title}")
        start = time.monotonic()
        make(path)
        self.console.print(f"[dim]  {time.monotonic() - start:.1f} s -> {name}")
        return path

    def track(self, title: str, total: int) -> Progress:
        progress = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        progress.add_task(title, total=total)
        return progress
