"""Figure 3 (1b, 5a): accuracy of best-of-N by log-probability, in N, over greedy."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.reproduce import inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.style import PALETTE
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import ACCURACY, summarise

LEVEL = 0.05
REWARD = "log-probability"
SATURATED = 0.9  # of the gain from N = 1 to the largest N


def measure(config: Config) -> Found:
    """Per cell: percent lift over greedy and accuracy of the best of k, k = 1..N."""
    rows = []
    for cell in inference.cells(config):
        chosen = [p for p in cell.picks if p.by in ("greedy", "sample", REWARD)]
        found = summarise(chosen, level=LEVEL, seed=SEED)
        by = {(row.by, row.k): row for row in found}
        curve = [row for row in found if row.by == REWARD]
        rows.append(
            {
                "model": cell.model,
                "task": cell.task,
                "prompts": len(cell.sampled.greedy),
                "greedy": numbers(by["greedy", 1].mean[ACCURACY]),
                "sample": numbers(by["sample", 1].mean[ACCURACY]),
                "k": [row.k for row in curve],
                "accuracy": [numbers(row.mean[ACCURACY]) for row in curve],
                "percent_lift": [numbers(row.lift) for row in curve],
            }
        )
    return {"level": LEVEL, "cells": rows}


def saturation(cell: dict[str, Any]) -> int | None:
    """The least k with nine tenths of the gain of all N; None where nothing is gained.

    A gain that is within the interval of one sample's accuracy is none.
    """
    accuracy = np.array([value[0] for value in cell["accuracy"]])
    gain = accuracy[-1] - accuracy[0]
    if cell["accuracy"][-1][1] <= cell["sample"][2] or gain <= 0:
        return None
    reached = accuracy >= accuracy[0] + SATURATED * gain
    return int(cell["k"][int(np.argmax(reached))])


def draw(found: Found) -> dict[str, Figure]:
    tasks = list(dict.fromkeys(cell["task"] for cell in found["cells"]))
    models = list(dict.fromkeys(cell["model"] for cell in found["cells"]))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks) + 0.6, 3.4), squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        for cell in found["cells"]:
            if cell["task"] != task:
                continue
            color = PALETTE[models.index(cell["model"])]
            middle, low, high = 100 * np.array(cell["accuracy"], float).T
            axis.plot(cell["k"], middle, color=color, label=cell["model"])
            axis.fill_between(cell["k"], low, high, color=color, alpha=0.15, lw=0)
            axis.axhline(100 * cell["greedy"][0], color=color, ls=":", lw=1)
        axis.set(title=task, xlabel="N", xscale="log")
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel("accuracy of the best of N, %\n(dotted: greedy)")
    return {"fig3": figure}


def tell(found: Found) -> str:
    rows = []
    for cell in found["cells"]:
        lift = cell["percent_lift"][-1]
        rows.append(
            {
                "model": cell["model"],
                "task": cell["task"],
                "greedy, %": (cell["greedy"], 100),
                "one sample, %": (cell["sample"], 100),
                f"best of {cell['k'][-1]}, %": (cell["accuracy"][-1], 100),
                "percent lift over greedy": (lift, 1),
                "N of 9/10 of the gain": saturation(cell) or "no gain",
            }
        )
    return markdown(rows)


def judge(found: Found) -> list[Check]:
    at = [saturation(cell) for cell in found["cells"]]
    gained = [k for k in at if k is not None]
    early = sum(k <= 20 for k in gained)
    return [
        Check(
            "accuracy saturates near N = 10 to 20",
            None if not gained else early > len(gained) / 2,
            "nine tenths of the gain over one sample is reached by N = 20 in most of "
            "the cells that gain at all",
            f"{early} of {len(gained)} cells that gain (of {len(at)}); N: {at}",
        )
    ]


EXPERIMENT = Experiment(
    name="fig3",
    title="accuracy of best-of-N in N",
    paper="Figures 1b, 3 and 5a",
    runs=inference.evaluations,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
