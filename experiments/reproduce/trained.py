"""Sharpened models while they train: what figures 7 to 9 and table 1 are read from.

eval/<step>.jsonl of every seed -> measures [steps seeds prompts samples]
  -> lift over the base's greedy response, with intervals -> JSON

Intervals are paired bootstraps over prompts of per-prompt means over samples and seeds;
so they are of these seeds, and the spread of these is shown beside them.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.reproduce import amortised, inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Found, folder
from experiments.reproduce.verdicts import LEVEL, mean_of, sign, widened
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp import files, run_directory
from jsharp.commands.results import RESPONSES, SEED, gather, numbers
from jsharp.evaluate import ACCURACY, paired_gain
from jsharp.selection import best_of_k
from jsharp.stats import bootstrap

LOG_PROB = "logprob_base"
TOKENS = "num_tokens"
FIELDS = {ACCURACY: "correct", LOG_PROB: LOG_PROB, TOKENS: TOKENS}
SEEDS_VARY = (
    "A seed decides the draws from the base that the examples are chosen from, the "
    "first weights of the adapters, the order of the examples and the uniforms of the "
    "held-out samples; the prompts are the same. Intervals are 95%, paired over "
    "prompts, of the mean of these seeds."
)


class Evaluated(NamedTuple):
    """Responses to B prompts by measure: one greedy [B], and n samples [B n]."""

    ids: tuple[str, ...]
    greedy: Mapping[str, Float[np.ndarray, " B"]]
    sampled: Mapping[str, Float[np.ndarray, "B n"]]


class Course(NamedTuple):
    """SFT-Sharpening of one (model, task) with one N, by K seeds.

    `sampled` [S K B n]: of the model at each of S steps, the first of which is the base
    and the last the end; n samples at temperature 1 to each of B held-out prompts.
    `greedy` [B]: of the base. `best` [B']: the base's best of N by log-probability at
    inference, on those of the prompts that were asked there, and `best_greedy` [B'].
    All are by measure.
    """

    model: str
    task: str
    n: int
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    sampled: Mapping[str, Float[np.ndarray, "S K B n"]]
    greedy: Mapping[str, Float[np.ndarray, " B"]]
    best: Mapping[str, Float[np.ndarray, " Bi"]]
    best_greedy: Mapping[str, Float[np.ndarray, " Bi"]]


@functools.cache  # four experiments read the same files
def evaluated(path: Path) -> Evaluated:
    """Of a file of responses: of `jsharp evaluate`, or of an evaluation in training."""
    found = gather(path)
    field = lambda records, name: [float(record[name]) for record in records]
    by = {
        measure: (
            np.array(field(found.greedy, name)),
            np.array([field(group, name) for group in found.samples]),
        )
        for measure, name in FIELDS.items()
    }
    return Evaluated(
        tuple(record["id"] for record in found.greedy),
        {measure: greedy for measure, (greedy, _) in by.items()},
        {measure: sampled for measure, (_, sampled) in by.items()},
    )


def runs(config: Config, only: tuple[str, ...], sizes: Sequence[int]) -> list[Run]:
    """Of each cell of these models: the base at inference; each N, with every seed.

    Raises ValueError where there is no cell.
    """
    if not config.settings(only):
        raise ValueError(
            f"expected a task of --tasks {' '.join(config.tasks)} that one of the "
            f"models {' '.join(only) or '(none given)'} knows"
        )
    base = [inference.evaluation(config, *cell) for cell in config.settings(only)]
    trainings = (amortised.trainings(config, only, n) for n in sizes)
    return [*base, *(run for some in trainings for run in some)]


def course(config: Config, model: str, task: str, n: int) -> Course:
    """Of the runs of all seeds.

    Raises ValueError where these were evaluated at different steps or prompts, or where
    the base was asked none of the prompts at inference.
    """
    trainings = [
        folder(config, amortised.training(config, model, task, n, seed))
        for seed in config.seeds
    ]
    steps = _steps(trainings)
    grid = [[evaluated(run / f"eval/{s}.jsonl") for run in trainings] for s in steps]
    ids = grid[0][0].ids
    if any(each.ids != ids for row in grid for each in row):
        raise ValueError(f"{trainings[0].parent}: evaluations of different prompts")
    inferred = folder(config, inference.evaluation(config, model, task)) / RESPONSES
    base = evaluated(inferred)
    shared = np.isin(base.ids, ids)
    if not shared.any():
        raise ValueError(f"{inferred}: none of the prompts of {trainings[0]}")
    score = base.sampled[LOG_PROB][shared]
    best = lambda value: best_of_k(score, value[shared], n)
    passes = files.read_json(trainings[0] / run_directory.CONFIG)["num_train_epochs"]
    return Course(
        model,
        task,
        n,
        config.seeds,
        steps,
        epochs=tuple(passes * step / steps[-1] for step in steps),
        sampled={
            m: np.array([[x.sampled[m] for x in r] for r in grid]) for m in FIELDS
        },
        greedy={m: np.mean([x.greedy[m] for x in grid[0]], axis=0) for m in FIELDS},
        best={m: best(base.sampled[m]) for m in FIELDS},
        best_greedy={m: base.greedy[m][shared] for m in FIELDS},
    )


def _steps(trainings: Sequence[Path]) -> tuple[int, ...]:
    """Those of the evaluations, the same in every run."""
    steps = lambda run: sorted(int(path.stem) for path in run.glob("eval/*.jsonl"))
    every = {run.name: steps(run) for run in trainings}
    first = next(iter(every.values()))
    alike = all(some == first for some in every.values())
    if not alike or len(first) < 2 or first[0] != 0:
        raise ValueError(
            f"{trainings[0].parent}: expected evaluations of every run at the same "
            f"steps, 0 first, found them at {every}"
        )
    return tuple(first)


def record(course: Course, measures: Sequence[str]) -> Found:
    """The course in JSON: what it is, and `lifts` by each of the measures."""
    shape = course.sampled[ACCURACY].shape
    return {
        "model": course.model,
        "task": course.task,
        "n": course.n,
        "seeds": list(course.seeds),
        "prompts": shape[2],
        "samples": shape[3],
        "steps": list(course.steps),
        "epochs": list(course.epochs),
        **{measure: lifts(course, measure) for measure in measures},
    }


def lifts(course: Course, measure: str) -> Found:
    """One sample of the sharpened model against the base's greedy response, by step.

    gain: mean(sample) - mean(greedy), in the measure's unit (accuracy; nats).
    percent_lift: 100 gain / |mean(greedy)|; None where that is zero.
    rise: mean at the last step - mean at the first, which is the base's one sample.
    Each also of every seed alone, and `best`, of the base's best of N at inference.
    """
    greedy = course.greedy[measure]
    each = course.sampled[measure].mean(-1)  # [S K B]
    values, seeds = each.mean(1), each.mean(-1).T - greedy.mean()  # [S B], [K S]
    percent = 100 * seeds / (abs(greedy.mean()) or 1.0)
    best, best_greedy = course.best[measure], course.best_greedy[measure]
    return {
        "greedy": mean_of(greedy),
        "mean": [mean_of(value) for value in values],
        "gain": [gain(greedy, value) for value in values],
        "percent_lift": [percent_lift(greedy, value) for value in values],
        "rise": gain(values[0], values[-1]),
        "gain_of_seeds": seeds.tolist(),
        "percent_lift_of_seeds": percent.tolist() if greedy.mean() else None,
        "rise_of_seeds": (seeds[:, -1] - seeds[:, 0]).tolist(),
        "best": {
            "prompts": len(best),
            "mean": mean_of(best),
            "gain": gain(best_greedy, best),
            "percent_lift": percent_lift(best_greedy, best),
        },
    }


def gain(
    before: Float[np.ndarray, " B"], after: Float[np.ndarray, " B"]
) -> list[float | None] | None:
    """Mean of after - before."""
    return numbers(paired_gain(before, after, level=LEVEL, seed=SEED))


def percent_lift(
    before: Float[np.ndarray, " B"], after: Float[np.ndarray, " B"]
) -> list[float | None] | None:
    """100 (mean(after) - mean(before)) / |mean(before)|: also of negative means.

    None where mean(before) is zero; an end is None where a resample may well have that.
    """
    if before.mean() == 0:
        return None

    def percent(pairs: np.ndarray) -> np.ndarray:
        old, new = np.moveaxis(pairs.mean(1), -1, 0)
        return np.where(new == old, 0.0, 100 * (new - old) / abs(old))

    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = np.stack([before, after], 1)
        found = bootstrap(pairs, percent, level=LEVEL, seed=SEED)
    return numbers(found)


def standard_error(seeds: Sequence[float] | None) -> float | None:
    """Of the mean over seeds: s / sqrt(K), s with K - 1; None for one seed."""
    if seeds is None or len(seeds) < 2:
        return None
    return float(np.std(seeds, ddof=1) / np.sqrt(len(seeds)))


def outcome(
    interval: Sequence[float | None], seeds: Sequence[float], cells: int = 1
) -> bool | None:
    """Above 0 (True) or below: the interval over prompts and every seed alone agree.

    Of one of several cells, the interval is widened for their number.
    """
    way = sign(widened(interval, cells))
    if way is None or any((seed > 0) != way or seed == 0 for seed in seeds):
        return None
    return way


RULE = (
    "in each cell the interval, widened for the number of cells, and every seed alone "
    "are above 0: yes; in some cell all are below 0: no; otherwise it cannot be told"
)


def plot(
    axis: Axes, cell: Found, measure: str, name: str, *, color: str, label: str
) -> None:
    """A cell's mean of seeds with its interval, each seed thin, the base's best of N.

    `name`: gain or percent_lift. Nothing where there is none, as greedy's mean is 0.
    """
    steps, found = cell["steps"], cell[measure]
    if found[name][0] is None:
        axis.plot([], [], color=color, label=f"{label}: none, greedy is 0")
        return
    middle, low, high = np.array(found[name], float).T
    axis.plot(steps, middle, color=color, marker="o", ms=3, label=label)
    axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
    for seed in found[f"{name}_of_seeds"]:
        axis.plot(steps, seed, color=color, lw=0.6, alpha=0.6)
    if found["best"][name] is not None:
        axis.axhline(found["best"][name][0], color=color, ls="--", lw=1)


def finish(axis: Axes, cell: Found) -> None:
    """Greedy's line, and the axes in steps, below, and epochs, above."""
    axis.axhline(0, color=THEORY, ls=":", lw=1)
    axis.set_xlabel("step")
    scale = cell["epochs"][-1] / cell["steps"][-1]
    both = lambda step: step * scale, lambda epoch: epoch / scale
    axis.secondary_xaxis("top", functions=both).set_xlabel("epoch")
    axis.legend(fontsize=8)


def key(figure: Figure, best: str) -> None:
    """What the kinds of line are; below the panels."""
    kinds = {
        "mean of the seeds, 95% interval over prompts": {"marker": "o", "ms": 3},
        "one seed": {"lw": 0.6},
        best: {"ls": "--", "lw": 1},
        "greedy of the base": {"ls": ":", "lw": 1},
    }
    lines = [Line2D([], [], color=THEORY, **kind) for kind in kinds.values()]
    figure.legend(lines, list(kinds), loc="outside lower center", ncols=2, fontsize=8)


def draw(cells: Sequence[Found], measure: str, name: str, label: str) -> Figure:
    """A panel for each task, a line for each model, against the training step."""
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    figure, axes = plt.subplots(
        1,
        len(tasks),
        figsize=(max(5.6, 3.6 * len(tasks)), 4.2),
        squeeze=False,
        layout="constrained",
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        some = [cell for cell in cells if cell["task"] == task]
        for cell in some:
            color = PALETTE[models.index(cell["model"]) % len(PALETTE)]
            plot(axis, cell, measure, name, color=color, label=cell["model"])
        finish(axis, some[0])
        axis.set_title(task)
    axes[0, 0].set_ylabel(label)
    key(figure, f"base, best of {cells[0]['n']} at inference")
    return figure
