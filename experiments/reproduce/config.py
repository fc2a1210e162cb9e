"""What to reproduce: which experiments, on which models and tasks, how large."""

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.reproduce import bases
from jsharp import tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Make the paper's figures and tables again, and those that only jsharp has.

    NAMES are fig1 ... fig9, table1, table2, names of the bridge and of the failures (an
    unknown one is answered by the list), or `all`. Every base model that is asked for
    is pretrained first, every run is kept under OUTPUT_DIR, and a command that was
    killed goes on where it was. Figures, result files and the report go to REPORT_DIR.

    Example: jsharp reproduce fig3 --quick

    On checkpoints and data of yours: jsharp reproduce fig1 fig7 --models
    phi=./Phi-3.5-mini qwen=./Qwen3-0.6B --tasks gsm8k --data
    gsm8k=train.jsonl,test.jsonl --max-completion-length 512
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Which experiments; `all` for every one."""
    output_dir: Path = Path("reproduce-out")
    """Where the runs go: models, responses, training runs."""
    report_dir: Path | None = None
    """Where results/, figures/, results.md and results.html go; by default
    OUTPUT_DIR/report."""
    models: tuple[str, ...] = ("small", "medium", "embedded", "large")
    """Bases, columns of a heat map: small, medium, large (pretrained here), embedded,
    or NAME=DIRECTORY of a checkpoint."""
    trained: tuple[str, ...] = ("medium", "embedded")
    """Those of them that are sharpened (figures 7, 8, tables 1, 2). The default is all
    of --models where it holds none of them; `--trained` without a name is none."""
    swept: tuple[str, ...] = ("embedded",)
    """Those of them that are sharpened with several N (figure 9); the default and the
    empty one as of --trained."""
    tasks: tuple[str, ...] = ("game24", "arithmetic", "prontoqa")
    """Tasks, rows of a heat map: these are generated; gsm8k, math, mmlu with --data."""
    data: tuple[str, ...] = ()
    """TASK=TRAIN,TEST: the files of a task that is read from files."""
    generations: int = 50
    """N: responses to each prompt, at inference and in training."""
    limit: int = 256
    """Held-out prompts of each task."""
    max_completion_length: int = 40
    """Tokens of a response, at most."""
    train_limit: int = 256
    """Training prompts of a sharpening run."""
    epochs: int = 10
    """Passes of a sharpening run over its examples (the paper: 30, 10 for Mistral)."""
    eval_limit: int = 128
    """Held-out prompts of the evaluations while it trains."""
    eval_generations: int = 8
    """Samples to each of them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One sharpening run for each."""
    jobs: int = 1
    """Runs at a time, each on a CPU core of its own. On an accelerator: 1."""
    quick: bool = False
    """A small version on the model inside, in minutes: whether all works. It has other
    defaults, which --quick --help shows: OUTPUT_DIR is reproduce-out-quick."""
    report_only: bool = False
    """Make figures and report anew from the result files in REPORT_DIR; run nothing."""

    @property
    def report(self) -> Path:
        return self.report_dir or self.output_dir / "report"

    def settings(self, only: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
        """(model, task) of every cell: all pairs but those a model has no tokens for.

        `only` leaves those of some models, by name. The defaults of --trained and
        --swept name bases of ours: they leave all where they hold none of the models.
        """
        names = [bases.named(model)[0] for model in self.models]
        some = [name for name in names if only is None or name in only]
        if only in (Config.trained, Config.swept):
            some = some or names
        return [(m, t) for m in some for t in self.tasks if bases.knows(m, t)]

    def files_of(self, task: str) -> tuple[str, str] | None:
        """(train, test) of a task that is read from files; None of a generated one."""
        for pair in self.data:
            name, _, paths = pair.partition("=")
            if name == task:
                train, _, test = paths.partition(",")
                return str(Path(train).resolve()), str(Path(test).resolve())
        return None

    @property
    def held_out_options(self) -> dict[str, int]:
        return {
            "limit": self.limit,
            "max-completion-length": self.max_completion_length,
        }


QUICK: dict[str, Any] = {
    # Of its own: its runs have the names of those that are not small.
    "output_dir": Path("reproduce-out-quick"),
    "models": ("embedded",),
    "tasks": ("game24", "arithmetic"),
    "generations": 8,
    "limit": 12,
    "train_limit": 8,
    "epochs": 1,
    "eval_limit": 8,
    "eval_generations": 2,
    "seeds": (0,),
}


def quick_config(**changes: Any) -> Config:
    """The config of --quick, but for what is given."""
    return Config(**{"names": (), "quick": True, **QUICK, **changes})


def parse(args: Sequence[str]) -> Config:
    """The config of these words: what they do not give is --quick's if it is there."""
    default = quick_config() if "--quick" in args else Config(names=())
    return tyro.cli(Config, args=args, prog="jsharp reproduce", default=default)


def resolve(config: Config) -> Config:
    """The config itself; ValueError names an option, or file of one, that is wrong."""
    _check_numbers(config)
    _check_models(config)
    _check_tasks(config)
    if not config.settings():
        raise ValueError(
            "--models, --tasks: expected some, found no model that knows one"
        )
    return config


def _check_numbers(config: Config) -> None:
    for name, value in dataclasses.asdict(config).items():
        if type(value) is int and value < 1:
            raise ValueError(f"--{_dashed(name)}: expected >= 1, found {value}")
    for seed in config.seeds:
        if not 0 <= seed < 2**31:
            raise ValueError(f"--seeds: expected 0 to 2^31 - 1, found {seed}")
    if not config.seeds:
        raise ValueError("--seeds: expected one at least, found none")
    _check_distinct("seeds", config.seeds)


def _check_models(config: Config) -> None:
    names = [bases.named(model)[0] for model in config.models]
    for name, model in zip(names, config.models, strict=True):
        # It becomes a folder, and is not to be taken for a base of ours.
        ours = name == "embedded" or name in bases.RECIPES
        if "=" in model and (ours or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name)):
            raise ValueError(
                f"--models: expected NAME=DIRECTORY with a NAME of letters, digits, "
                f"'-', '_' and '.' that no base has, found {model!r}"
            )
    _check_distinct("models", names)
    for model in config.models:
        bases.check(model, config.max_completion_length)
    for option in ("trained", "swept"):
        chosen = getattr(config, option)
        for name in chosen:
            if chosen != getattr(Config, option) and name not in names:
                raise ValueError(
                    f"--{option}: expected some of --models {' '.join(names)}, "
                    f"found {name!r}"
                )


def _check_tasks(config: Config) -> None:
    known = (*tasks.names(), *tasks.file_names())
    _check_distinct("tasks", config.tasks)
    for pair in config.data:
        name, _, paths = pair.partition("=")
        if name not in config.tasks or not re.fullmatch("[^,]+,[^,]+", paths):
            raise ValueError(
                f"--data: expected TASK=TRAIN,TEST with a task of --tasks "
                f"{' '.join(config.tasks)}, found {pair!r}"
            )
    _check_distinct("data", [pair.partition("=")[0] for pair in config.data])
    for task in config.tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=1)
            hint = f"; perhaps you meant {near[0]!r}" if near else ""
            raise ValueError(f"--tasks: expected some of {known}, found {task!r}{hint}")
        paths = config.files_of(task)
        if (paths is not None) != (task in tasks.file_names()):
            raise ValueError(
                f"--data: expected {task}=TRAIN,TEST for a task from files and nothing "
                f"for one that is generated, found {config.data}"
            )
        if paths is not None:
            try:
                tasks.load(task, train=Path(paths[0]), test=Path(paths[1]))
            except (ValueError, OSError) as error:
                raise ValueError(f"--data: {task}: {error}") from error


def _check_distinct(option: str, values: Sequence[str | int]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"--{option}: expected each once, found {value!r} again")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def fractions(generations: int, parts: tuple[int, ...]) -> tuple[int, ...]:
    """N and N over each of `parts`, ascending: (10, 25, 50) of 50 by parts 5, 2."""
    return tuple(sorted({math.ceil(generations / part) for part in (*parts, 1)}))
