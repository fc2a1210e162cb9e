"""What the failures are measured on: a base of two forms, and exact modes.

The base of two forms answers a sum at once or works it out (`jsharp/tasks/sums.py`);
its task marks both. The modes are those of `jsharp diagnose` on held-out prompts: the
first of those that `jsharp evaluate` answers.
"""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from experiments.reproduce import bases, inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from experiments.reproduce.inference import Cell
from experiments.reproduce.verdicts import mean_of
from experiments.reproduce.work import Run
from jsharp import files
from jsharp.commands.results import Sampled, measure
from jsharp.commands.stream import Record
from jsharp.evaluate import Measured
from jsharp.selection import best_of_k
from theory import pilot
from theory.diagnose_command import mode_marks
from theory.diagnosis import unique
from theory.pilot import Known, Pilot

PROMPTS = 96  # whose modes are searched, in each cell
BUDGET = 4096  # prefixes to expand for one of them, at most
REWARD = "log-probability"
BUILT = "on a base built to have a short form that is less often right"
_AT_ONCE = re.compile("[0-9]+")


def two_forms(config: Config) -> Config:
    """The config with the base of two forms alone; of --quick, with one that is there.

    The base inside jsharp knows one form: all that compares forms is then left out.
    """
    model, task = ("embedded", "arithmetic") if config.quick else ("shortcut", "sums")
    return dataclasses.replace(config, models=(model,), tasks=(task,))


def with_modes(config: Config) -> list[Config]:
    """Configs of the cells whose modes are searched: embedded's, and of two forms."""
    own = [name for name, _ in config.settings(("embedded",))]
    chosen = tuple(m for m in config.models if bases.named(m)[0] in own)
    found = [dataclasses.replace(config, models=chosen)]
    return found if config.quick else [*found, two_forms(config)]


def modes(config: Config, model: str, task: str) -> Run:
    """`jsharp diagnose` of the first held-out prompts: a search of every mode."""
    checkpoint = dict(map(bases.named, config.models))[model]
    data = config.files_of(task)
    options = {
        **({} if data is None else {"data": data[1]}),
        "part": "held_out",
        "limit": min(PROMPTS, config.limit),
        "num-generations": 2,
        "max-completion-length": config.max_completion_length,
        "mode-budget": BUDGET,
        "batch-size": 256,
    }
    words = [word for k, v in options.items() for word in (f"--{k}", str(v))]
    name = f"failures/modes/{model}/{task}"
    return Run(name, ("diagnose", checkpoint, task, *words), bases.made(model))


def is_short(text: str) -> bool:
    """Whether the text is an answer at once: a bare number, and no step."""
    return _AT_ONCE.fullmatch(text) is not None


def short(cell: Cell) -> Bool[np.ndarray, "B N"]:
    """Which samples answer at once."""
    return np.array(
        [[is_short(r["completion"]) for r in g] for g in cell.sampled.samples]
    )


def rewards_of(cell: Cell) -> list[str]:
    """The self-rewards that a response of a cell is picked by."""
    others = ("greedy", "sample", "coverage")
    return list(dict.fromkeys(p.by for p in cell.picks if p.by not in others))


def every_cell(config: Config) -> list[Cell]:
    """The cells of the config, then that of two forms; each once."""
    found = inference.cells(config)
    known = {(cell.model, cell.task) for cell in found}
    more = inference.cells(two_forms(config))
    return [*found, *(c for c in more if (c.model, c.task) not in known)]


def planted(config: Config) -> Cell | None:
    """The cell of the base that was built to answer in two forms; of --quick, None.

    What it is does not depend on the draws: any base may write a bare number.
    """
    if config.quick:
        return None
    (cell,) = inference.cells(two_forms(config))
    return cell


class Searched(NamedTuple):
    """The first prompts of a cell, with their exact modes where these are certain."""

    model: str
    task: str
    measured: Measured  # of the first B prompts
    draws: Pilot
    known: Known
    right: Float[np.ndarray, " B"]  # 1 where y* is right, NaN where it is not certain
    answers: tuple[tuple[str | None, ...], ...]  # [B][N], of the samples

    @property
    def sure(self) -> Bool[np.ndarray, " B"]:
        """Where y* is certain, by the search or by the draws, and nothing is tied."""
        return unique(self.known)

    @property
    def is_mode(self) -> Bool[np.ndarray, "B N"]:
        """Which samples are y*."""
        return self.known.place == 0


def searched(config: Config) -> list[Searched]:
    """Of every cell whose modes were searched."""
    return [
        _searched(cell, list(files.read_lines(_modes_file(some, cell))))
        for some in with_modes(config)
        for cell in inference.cells(some)
    ]


def _modes_file(config: Config, cell: Cell) -> Path:
    return folder(config, modes(config, cell.model, cell.task)) / "modes.jsonl"


def _searched(cell: Cell, records: list[Record]) -> Searched:
    """Raises ValueError where the modes are not of the first prompts of the cell."""
    samples = cell.sampled.samples[: len(records)]
    greedy = cell.sampled.greedy[: len(records)]
    asked = [(record["id"], record["prompt_ids"]) for record in records]
    answered = [(record["id"], record["prompt_ids"]) for record in greedy]
    if asked != answered:
        raise ValueError(
            f"{cell.model}, {cell.task}: expected modes of the first prompts, found "
            f"those of {[id for id, _ in asked][:3]}"
        )
    first = Sampled(samples, greedy)
    draws = pilot.pilot(first)
    known = pilot.known(draws, records)
    right = mode_marks(draws, known, records)
    if right is None:
        raise ValueError(f"{cell.model}, {cell.task}: expected prompts with answers")
    answers = tuple(tuple(r["answer"] for r in group) for group in samples)
    return Searched(cell.model, cell.task, measure(first), draws, known, right, answers)


def chosen(
    score: Float[np.ndarray, "B N"], value: np.ndarray, among: np.ndarray | None = None
) -> Float[np.ndarray, " B"]:
    """The value of the best of the N, or of those `among` them; 0 where there is none.

    Ties share: E over the candidates of largest score, each as likely.
    """
    if among is None:
        return best_of_k(score, value, score.shape[1])
    inside = np.where(among, score, -np.inf)
    return best_of_k(inside, np.where(among, value, 0.0), score.shape[1])


def interval(values: ArrayLike) -> list[float | None] | None:
    """[mean, low, high] over prompts; None of no prompts."""
    values = np.asarray(values, float)
    if not len(values):
        return None
    return mean_of(values)


def plain_ticks(axis: Axes, most: int) -> None:
    """Ticks 1, 2, 5, 10, ... up to `most` on a logarithmic axis of draws."""
    ticks = [d * 10**e for e in range(4) for d in (1, 2, 5) if d * 10**e <= most]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
