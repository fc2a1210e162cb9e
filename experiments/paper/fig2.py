"""Figure 2: lift by length-normalised log-probability and majority; coverage; greedy.

Beside it, what explains the difference: how long the selected responses are.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.paper.fig3 import REWARD
from experiments.reproduce import inference, plots
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.inference import Cell
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import (
    LEVEL,
    WIDENED,
    counted,
    everywhere,
    mostly,
    signs,
    somewhere,
)
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import ACCURACY, paired_gain, summarise
from jsharp.stats import clopper_pearson

NORMALISED, MAJORITY = "length-normalised", "majority"
REWARDS = (REWARD, NORMALISED, MAJORITY)
NEAR_ONE = 0.9
MOST = 0.95  # of the samples: how many answers hold them
TOKENS = "num_tokens"


def measure(config: Config) -> Found:
    """Per cell, at N: lift and tokens of three selections; coverage; greedy."""
    rows = [selections(cell) for cell in inference.cells(config)]
    return {"level": LEVEL, "cells": rows}


def selections(cell: Cell) -> dict[str, Any]:
    """What the best of N by each self-reward gives; differences are paired.

    Coverage and greedy accuracy count prompts, so their intervals are exact binomial.
    answers: how many distinct answers hold `MOST` of the samples that have one.
    """
    n = len(cell.sampled.samples[0])
    chosen = [cell.pick("greedy", 1), *(cell.pick(by, n) for by in REWARDS)]
    lift = {row.by: row.lift for row in summarise(chosen, level=LEVEL, seed=SEED)}
    right = cell.field("correct")
    greedy = [record["correct"] for record in cell.sampled.greedy]
    count = lambda x: numbers(clopper_pearson(int(np.sum(x)), len(x), level=LEVEL))

    def over(name: str, before: str, after: str) -> list[float | None] | None:
        one = cell.pick(before, n if before in REWARDS else 1).value[name]
        other = cell.pick(after, n).value[name]
        return numbers(paired_gain(one, other, level=LEVEL, seed=SEED))

    return {
        "model": cell.model,
        "task": cell.task,
        "n": n,
        "percent_lift": {by: numbers(lift[by]) for by in REWARDS},
        "gain": {by: over(ACCURACY, "greedy", by) for by in REWARDS},
        "over_log_probability": {by: over(ACCURACY, REWARD, by) for by in REWARDS[1:]},
        "coverage": count(right.any(1)),
        "greedy": count(greedy),
        "tokens_of_a_sample": float(cell.pick("sample", 1).value[TOKENS].mean()),
        "tokens_over_sample": {by: over(TOKENS, "sample", by) for by in REWARDS},
        "answers": answers(cell),
    }


def answers(cell: Cell) -> int:
    """The fewest distinct answers that hold `MOST` of the samples that have one."""
    given = [r["answer"] for group in cell.sampled.samples for r in group]
    given = [answer for answer in given if answer is not None]
    _, counts = np.unique(given, return_counts=True)
    held = np.cumsum(np.sort(counts)[::-1])
    return int(np.searchsorted(held, MOST * len(given)) + 1) if given else 0


def draw(found: Found) -> dict[str, Figure]:
    cells = found["cells"]
    size = (
        1.2 + 1.35 * len(plots.models_of(cells)),
        1.0 + 0.8 * len(plots.tasks_of(cells)),
    )
    figure, axes = plt.subplots(2, 2, figsize=(2 * size[0], 2 * size[1]))
    n = cells[0]["n"] if cells else 0
    for axis, by in zip(axes[0], REWARDS[1:], strict=True):
        value = lambda cell, by=by: cell["percent_lift"][by]
        plots.lift_map(axis, cells, value, f"{by}, N = {n}:\nlift over greedy, %")
    coverage, greedy = axes[1]
    plots.share_map(coverage, cells, lambda x: x["coverage"], f"coverage at {n}, %")
    plots.share_map(greedy, cells, lambda x: x["greedy"], "greedy accuracy, %")
    return {"fig2": figure}


def tell(found: Found) -> str:
    lifts, lengths = [], []
    for cell in found["cells"]:
        head = {"model": cell["model"], "task": cell["task"]}
        difference = cell["over_log_probability"]
        lifts.append(
            {
                **head,
                "greedy, %": (cell["greedy"], 100),
                **{f"lift, {by}, %": (x, 1) for by, x in cell["percent_lift"].items()},
                **{
                    f"{by} - {REWARD}, points": (x, 100) for by, x in difference.items()
                },
                f"coverage at {cell['n']}, %": (cell["coverage"], 100),
                f"answers of {MOST:.0%} of samples": cell["answers"],
            }
        )
        tokens = cell["tokens_over_sample"]
        lengths.append(
            {
                **head,
                "tokens of a sample": cell["tokens_of_a_sample"],
                **{f"change, {by}": (x, 1) for by, x in tokens.items()},
            }
        )
    return (
        f"{markdown(lifts)}\n\nWhere two answers hold nearly all samples, guessing is "
        "right half the time, and coverage of many samples is near one whatever the "
        "model knows.\n\nTokens of the selected response, over one sample's mean:\n\n"
        f"{markdown(lengths)}"
    )


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    longer = signs([cell["tokens_over_sample"][REWARD] for cell in cells])
    shorter = [None if x is None else not x for x in longer]
    better = lambda by: signs([cell["over_log_probability"][by] for cell in cells])
    near = signs([cell["coverage"] for cell in cells], than=NEAR_ONE)
    short = [cell for cell, x in zip(cells, shorter, strict=True) if x]
    worse = signs([cell["gain"][REWARD] for cell in short])
    hurts = [None if x is None else not x for x in worse]
    helps = "the paired difference of their accuracies at the largest N is above 0 in "
    helps += "more cells than it is below; " + WIDENED
    return [
        Check(
            "best-of-N by log-probability prefers short responses",
            mostly(shorter),
            "tokens of the best of N minus those of a sample, paired over prompts: "
            "below 0 in more cells than above; " + WIDENED,
            counted(cells, shorter),
        ),
        Check(
            "which sometimes hurts",
            somewhere(hurts),
            "where it prefers short responses it is less accurate than greedy in some "
            "cell; the contrary if it is more accurate in all of them; " + WIDENED,
            counted(short, hurts),
        ),
        *(
            Check(
                f"selection by {by} helps more than by log-probability",
                mostly(better(by)),
                helps,
                counted(cells, better(by)),
            )
            for by in REWARDS[1:]
        ),
        Check(
            "coverage at the largest N is near one",
            everywhere(near),
            f"its interval lies above {NEAR_ONE} in every cell; the contrary if it "
            "lies below in one; " + WIDENED,
            counted(cells, near),
        ),
    ]


EXPERIMENT = Experiment(
    name="fig2",
    title="length-normalised and majority selection; coverage; greedy",
    paper="Figure 2",
    runs=inference.evaluations,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
