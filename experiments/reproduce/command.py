"""`jsharp reproduce`: the paper's figures, the bridge and the failures, re-made.

config -> runs of jsharp's own commands, kept in OUTPUT_DIR
       -> REPORT_DIR/results/NAME.json -> REPORT_DIR/figures/*.png, *.svg
       -> REPORT_DIR/results.md and results.html

Figures and pages are made from the result files alone.
"""

import dataclasses
import difflib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro
from rich.console import Console

from experiments.reproduce import report, work
from experiments.reproduce.config import Config, resolve
from experiments.reproduce.experiment import Experiment, Found
from experiments.reproduce.registry import EXPERIMENTS
from experiments.style import METADATA, STYLE
from jsharp import files
from jsharp.provenance import surroundings

# What does not change what a run or a result is.
_FREE = ("names", "output_dir", "report_dir", "jobs", "quick", "report_only")


def main(args: Sequence[str] | None = None) -> int:
    """0 all made, 1 a run failed, 2 refused."""
    return reproduce(tyro.cli(Config, args=args, prog="jsharp reproduce"))


def reproduce(config: Config) -> int:
    console = Console(stderr=True)
    try:
        config = resolve(config)
        wanted = choose(config.names)
        if not config.report_only:
            runs = [run for each in wanted for run in each.runs(config)]
            # A directory may hold the runs of several configs; a name has one command.
            for run in work.in_order(runs):
                work.made(config.output_dir, run)
    except (ValueError, OSError) as error:
        print(f"jsharp reproduce: {error}", file=sys.stderr)
        return 2
    try:
        for each in wanted:
            if not config.report_only:
                console.print(f"[bold]{each.name}: {each.title}")
                measure(config, each, console)
            draw(config.report, each)
    except RuntimeError as error:
        print(f"jsharp reproduce: {error}", file=sys.stderr)
        return 1
    report.write(config.report)
    console.print(f"report: {config.report / 'results.md'}, results.html")
    return 0


def choose(names: Sequence[str]) -> list[Experiment]:
    """The experiments of these names; ValueError, with the list, at another."""
    known = {each.name: each for each in EXPERIMENTS}
    if not names or "all" in names:
        if set(names) <= {"all"} and names:
            return list(EXPERIMENTS)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; perhaps you meant {near[0]!r}" if near else ""
            raise ValueError(f"no experiment {name!r}{hint}; all are:\n{listing()}")
    if not names:
        raise ValueError(f"expected names of experiments, or `all`:\n{listing()}")
    return [known[name] for name in names]


def listing() -> str:
    width = max(len(each.name) for each in EXPERIMENTS)
    return "\n".join(f"  {each.name:{width}}  {each.title}" for each in EXPERIMENTS)


def identity(config: Config) -> dict[str, Any]:
    """All that decides what the runs are."""
    fields = dataclasses.asdict(config)
    return {k: v for k, v in fields.items() if k not in _FREE}


def measure(config: Config, experiment: Experiment, console: Console) -> None:
    """Runs, then numbers, into REPORT_DIR/results/NAME.json."""
    runs = experiment.runs(config)
    work.ensure(config.output_dir, runs, jobs=config.jobs, console=console)
    start = time.monotonic()
    found = experiment.measure(config)
    made = [work.made(config.output_dir, run) for run in work.in_order(runs)]
    content = {
        "experiment": experiment.name,
        "title": experiment.title,
        "paper": experiment.paper,
        "command": command(config, experiment.name),
        "config": identity(config),
        "runs": [each for each in made if each is not None],
        "measuring_seconds": round(time.monotonic() - start, 1),
        **surroundings(),
        "found": found,
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    files.write_text(results(config.report, experiment.name), text)


def results(directory: Path, name: str) -> Path:
    return directory / "results" / f"{name}.json"


def read(directory: Path, name: str) -> dict[str, Any] | None:
    """A results file; None where that experiment was not run."""
    path = results(directory, name)
    return files.read_json(path) if path.exists() else None


def draw(directory: Path, experiment: Experiment) -> None:
    """Every figure of the experiment, as .png and .svg, from its results file."""
    content = read(directory, experiment.name)
    if content is None:
        raise RuntimeError(f"no {results(directory, experiment.name)}; run it first")
    found: Found = content["found"]
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, figure in experiment.draw(found).items():
            for kind, metadata in METADATA.items():
                path = directory / "figures" / f"{name}.{kind}"
                figure.savefig(path, metadata=metadata)
            plt.close(figure)


def command(config: Config, name: str) -> str:
    """The command that makes this experiment again, its options spelled out."""
    words = ["jsharp", "reproduce", name]
    default = Config(names=())
    for field, value in identity(config).items():
        if value == getattr(default, field):
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{field.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)
