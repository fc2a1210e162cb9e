"""An experiment's folder: pinned to one config, filled stage by stage, resumable."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from experiments import files
from jsharp.provenance import surroundings


def claim_directory(directory: Path, config: Any) -> None:
    """Write config.json with commit, versions and device, or check the one found.

    Raises ValueError where the folder holds a run of another config.
    """
    path = directory / "config.json"
    wanted = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    del wanted["output_dir"]  # a folder may move
    if not path.exists():
        files.write_json(path, {"config": wanted, **surroundings()})
        return
    found = files.read_json(path)["config"]
    for name in wanted.keys() | found.keys():
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{name}: {path} has {found.get(name)!r}, got {wanted.get(name)!r}; "
                "choose another folder"
            )


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
