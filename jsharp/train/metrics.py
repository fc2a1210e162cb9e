"""Where metrics go besides metrics.jsonl: TensorBoard and Weights & Biases.

metrics.jsonl is the record and the sinks are views of it. Opened on a run that goes on,
a sink is told every line of the record first and supersedes what it held before: each
step is there once, none is lost with a killed process, and none stays that the run has
forgotten.
"""

import importlib
import importlib.util
import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsharp import files, run_directory

EXTRAS = {"tensorboard": ("tensorboardX", "tb"), "wandb": ("wandb", "wandb")}


class Sink(NamedTuple):
    """write(step, values) adds the numbers among the values of one step."""

    write: Callable[[int, dict[str, Any]], None]
    close: Callable[[], None]


def check(names: Sequence[str]) -> None:
    """ValueError where a name is no sink's, or its package is not installed."""
    for name in names:
        if name not in EXTRAS:
            raise ValueError(
                f"report_to: expected any of {', '.join(EXTRAS)}, found {name!r}"
            )
        package, extra = EXTRAS[name]
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"report_to: {name} needs the package {package}, which is not "
                f"installed: pip install 'jsharp[{extra}]'"
            )


def sinks(
    names: Sequence[str], directory: Path, config: dict[str, Any]
) -> tuple[Sink, ...]:
    """The sinks of these names for the run in `directory`, its record told to each.

    Raises ValueError as `check` does, before any is opened.
    """
    check(names)
    open_one = {"tensorboard": _tensorboard, "wandb": _wandb}
    opened = tuple(open_one[name](directory, config) for name in names)
    for line in run_directory.read(directory):
        for sink in opened:
            sink.write(line["step"], line)
    return opened


def _tensorboard(directory: Path, config: dict[str, Any]) -> Sink:
    """Event files in `directory`/tensorboard."""
    tensorboardX = importlib.import_module("tensorboardX")
    # This hides the steps of earlier files from a TensorBoard that reads all of them.
    writer = tensorboardX.SummaryWriter(
        str(directory / "tensorboard"), purge_step=0, flush_secs=10
    )
    text = json.dumps(config, indent=2)
    writer.add_text("config", "    " + text.replace("\n", "\n    "), 0)

    def write(step: int, values: dict[str, Any]) -> None:
        for name, value in _numbers(values).items():
            writer.add_scalar(name, value, step)

    return Sink(write, writer.close)


def _wandb(directory: Path, config: dict[str, Any]) -> Sink:
    """A run in `directory`/wandb, offline unless WANDB_MODE says otherwise.

    Its id stays the same, and it never resumes: what is uploaded under an id takes the
    place of what was there.
    """
    wandb = importlib.import_module("wandb")
    path = directory / "wandb" / "id"
    if not path.exists():
        files.write_text(path, uuid.uuid4().hex[:12])
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "jsharp"),
        name=os.environ.get("WANDB_NAME", directory.resolve().name),
        id=path.read_text(encoding="utf-8"),
        dir=str(directory),
        config=config,
        mode=os.environ.get("WANDB_MODE", "offline"),
        settings=wandb.Settings(silent=True, console="off"),
    )
    write = lambda step, values: run.log(_numbers(values), step=step)
    return Sink(write, run.finish)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The numbers but the step; all but eval/ under train/, as TRL shows them."""
    return {
        name if name.startswith("eval/") else f"train/{name}": value
        for name, value in values.items()
        if name != "step" and isinstance(value, int | float)
    }
