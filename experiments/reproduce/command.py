"""`jsharp reproduce`: the paper's figures, the bridge and the failures, re-made.

config -> runs of jsharp's own commands, kept in OUTPUT_DIR
       -> REPORT_DIR/results/NAME.json -> REPORT_DIR/figures/*.png, *.svg
       -> REPORT_DIR/results.md and results.html

Figures and pages are made from the result files alone. A run that fails costs the
experiments that need it, and no other.
"""

import contextlib
import dataclasses
import difflib
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console

from experiments.reproduce import bases, report, store, work
from experiments.reproduce.config import Config, parse, quick_config, resolve
from experiments.reproduce.experiment import Experiment
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.work import Pool, Run
from experiments.style import STYLE
from jsharp import files, run_directory
from jsharp.lm import embedded
from jsharp.provenance import surroundings

# What does not change what a run or a result is.
_FREE = ("names", "output_dir", "report_dir", "jobs", "report_only")


class Terminated(BaseException):
    """SIGTERM came."""


def main(args: Sequence[str] | None = None) -> int:
    """0 all made, 1 something failed, 2 refused, 130 and 143 stopped by a signal."""
    config = parse(sys.argv[1:] if args is None else args)
    # The runs' processes need the accelerator; this one only counts.
    jax.config.update("jax_platforms", "cpu")
    try:
        with _terminable():
            return reproduce(config)
    except (KeyboardInterrupt, Terminated) as stop:
        _say("stopped; the same command goes on")
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def reproduce(config: Config) -> int:
    """The exit status, as of `main`."""
    with contextlib.ExitStack() as held:
        try:
            config = resolve(config)
            wanted = choose(config.names)
            if config.report_only:
                wanted = _found(config, wanted)
            else:
                _check(config, wanted)
                held.enter_context(run_directory.alone(config.output_dir))
            config.report.mkdir(parents=True, exist_ok=True)
            if not config.report_only:
                for prepare in dict.fromkeys(each.prepare for each in wanted):
                    prepare(config)
                # It may have written another input than that of a finished run.
                _check(config, wanted)
        except (ValueError, OSError) as error:
            _say(error)
            return 2
        failures = (
            _draw_all(config, wanted)
            if config.report_only
            else _make_all(config, wanted)
        )
        try:
            failures += report.write(config.report)
        except OSError as error:
            failures.append(str(error))
    for failure in dict.fromkeys(failures):  # what cannot be drawn cannot be told
        _say(failure)
    if not failures:
        _say(f"report: {config.report / 'results.md'}, results.html")
    return 1 if failures else 0


def _check(config: Config, wanted: list[Experiment]) -> None:
    """Refuse finished runs of other commands or inputs: a name has one of each."""
    for run in work.in_order(run for each in wanted for run in each.runs(config)):
        work.made(config.output_dir, run)


def _found(config: Config, wanted: list[Experiment]) -> list[Experiment]:
    """Those with a results file; ValueError where one asked for by name has none."""
    path = lambda each: store.results(config.report, each.name)
    missing = [str(path(each)) for each in wanted if not path(each).exists()]
    if missing and ("all" not in config.names or len(missing) == len(wanted)):
        raise ValueError(f"--report-only: no {', '.join(missing)}; run it first")
    return [each for each in wanted if path(each).exists()]


def _draw_all(config: Config, wanted: list[Experiment]) -> list[str]:
    """What failed."""
    failures = []
    for each in wanted:
        with _noting(each, failures):
            draw(config.report, each)
    return failures


def _make_all(config: Config, wanted: list[Experiment]) -> list[str]:
    """Every experiment as soon as its runs are finished; what failed."""
    console = Console(stderr=True)
    lost: dict[str, str] = {}
    failures: list[str] = []
    runs = {each.name: each.runs(config) for each in wanted}
    every = [run for some in runs.values() for run in some]
    with Pool(config.output_dir, every, jobs=config.jobs, console=console) as pool:
        for each in wanted:
            failed = pool.wait(runs[each.name])
            lost |= failed
            if failed:
                failures.append(f"{each.name}: not made: {', '.join(failed)} failed")
                continue
            with _noting(each, failures):
                measure(config, each, runs[each.name])
                draw(config.report, each)
                line = f"{each.name}: {each.title}"
                console.print(line, markup=False, highlight=False)
    return [*lost.values(), *failures]


@contextlib.contextmanager
def _noting(experiment: Experiment, failures: list[str]) -> Iterator[None]:
    """Whatever goes wrong in here costs this experiment, and no other."""
    try:
        yield
    except (ValueError, OSError) as error:
        failures.append(f"{experiment.name}: {error}")
    except Exception as error:
        failures.append(f"{experiment.name}: {type(error).__name__}: {error}")


def choose(names: Sequence[str]) -> list[Experiment]:
    """The experiments of these names, each once, `all` for every one.

    Raises ValueError, with the list, at another name and at none.
    """
    known = {each.name: each for each in EXPERIMENTS}
    for name in names:
        if name not in known and name != "all":
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; perhaps you meant {near[0]!r}" if near else ""
            raise ValueError(f"no experiment {name!r}{hint}; all are:\n{listing()}")
    if not names:
        raise ValueError(f"expected names of experiments, or `all`:\n{listing()}")
    return [known[name] for name in (known if "all" in names else dict.fromkeys(names))]


def listing() -> str:
    width = max(len(each.name) for each in EXPERIMENTS)
    return "\n".join(f"  {each.name:{width}}  {each.title}" for each in EXPERIMENTS)


def identity(config: Config) -> dict[str, Any]:
    """All that decides what the runs are."""
    fields = dataclasses.asdict(config)
    return {k: v for k, v in fields.items() if k not in _FREE}


def measure(config: Config, experiment: Experiment, runs: Sequence[Run]) -> None:
    """Numbers from the files of finished runs, into REPORT_DIR/results."""
    start = time.monotonic()
    content = {
        "experiment": experiment.name,
        "title": experiment.title,
        "paper": experiment.paper,
        "command": command(config, experiment.name),
        "config": identity(config),
        "found": experiment.measure(config),
    }
    every = work.in_order(runs)
    made = {
        "runs": [work.made(config.output_dir, run) for run in every],
        "bases": recipes(config, every),
        "measuring_seconds": round(time.monotonic() - start, 1),
        **surroundings(),
    }
    names = [each.name for each in EXPERIMENTS]
    store.write(config.report, experiment.name, content, made, names)


def recipes(config: Config, runs: Sequence[Run]) -> dict[str, Any]:
    """recipe.json of the base models that these runs make or begin with, by name.

    A checkpoint that `jsharp pretrain` did not make has none.
    """
    given = dict(map(bases.named, config.models))
    words = {word for run in runs for word in run.words}
    found = {name: Path(path) for name, path in given.items() if path in words}
    for run in runs:
        if run.words[0] == "pretrain":
            found[Path(run.name).name] = config.output_dir / run.name / "hf"
    if "embedded" in words:
        found["embedded"] = embedded.directory()
    paths = {name: path / "recipe.json" for name, path in found.items()}
    return {n: files.read_json(path) for n, path in paths.items() if path.is_file()}


def draw(directory: Path, experiment: Experiment) -> None:
    """Every figure of the experiment, as .png and .svg, from its results file."""
    content = store.read(directory, experiment.name)
    if content is None:
        raise ValueError(f"no {store.results(directory, experiment.name)}")
    with plt.rc_context(STYLE):
        try:
            pictures = store.applied(
                directory, experiment.name, experiment.draw, content["found"]
            )
            names = [each.name for each in EXPERIMENTS]
            store.save(directory, experiment.name, pictures, names)
        finally:
            plt.close("all")


def command(config: Config, name: str) -> str:
    """The command that makes this experiment again, its options spelled out."""
    words = ["jsharp", "reproduce", name, *(["--quick"] if config.quick else [])]
    default = quick_config() if config.quick else Config(names=())
    for field, value in identity(config).items():
        if value == getattr(default, field):
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{field.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises Terminated in here, so that no child is left behind."""

    def handle(number: int, frame: Any) -> None:
        del number, frame
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: Any) -> None:
    print(f"jsharp reproduce: {message}", file=sys.stderr)
