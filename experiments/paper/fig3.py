"""Figure 3 (1b, 5a): accuracy of best-of-N by log-probability, in N, over greedy."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.reproduce import inference, plots
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.inference import Cell
from experiments.reproduce.tables import interval, markdown
from experiments.reproduce.verdicts import LEVEL, counted, mostly, over_prompts, sign
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import ACCURACY, paired_gain, summarise
from jsharp.stats import Interval

REWARD = "log-probability"
SATURATED = 0.9  # of the gain from N = 1 to the largest N
SOON = 20  # the N by which the paper sees it


def measure(config: Config) -> Found:
    """Per cell: accuracy of the best of k, k = 1..N, and percent lift over greedy."""
    rows = [curve(cell) for cell in inference.cells(config)]
    return {"level": LEVEL, "cells": rows}


def curve(cell: Cell) -> dict[str, Any]:
    """The accuracy of greedy, of one sample and of the best of k, with its lift.

    gain, over_sample: of the best of N over greedy and over one sample, paired.
    saturation: the least k with nine tenths of the gain over one sample.
    later: gain of the best of N over the best of SOON, paired; None where N <= SOON.
    """
    chosen = [p for p in cell.picks if p.by in ("greedy", "sample", REWARD)]
    found = summarise(chosen, level=LEVEL, seed=SEED)
    by = {(row.by, row.k): row for row in found}
    best = [row for row in found if row.by == REWARD]
    n = best[-1].k
    accuracy = lambda by, k: cell.pick(by, k).value[ACCURACY]
    over_sample = paired_gain(
        accuracy("sample", 1), accuracy(REWARD, n), level=LEVEL, seed=SEED
    )
    values = np.stack([accuracy(REWARD, k) for k in range(1, n + 1)], 1)
    return {
        "model": cell.model,
        "task": cell.task,
        "prompts": len(cell.sampled.greedy),
        "greedy": numbers(by["greedy", 1].mean[ACCURACY]),
        "sample": numbers(by["sample", 1].mean[ACCURACY]),
        "k": [row.k for row in best],
        "accuracy": [numbers(row.mean[ACCURACY]) for row in best],
        "percent_lift": [numbers(row.lift) for row in best],
        "gain": numbers(best[-1].gain),
        "over_sample": numbers(over_sample),
        "saturation": saturation(values) if sign(over_sample) else None,
        "later": numbers(
            paired_gain(values[:, SOON - 1], values[:, -1], level=LEVEL, seed=SEED)
        )
        if n > SOON
        else None,
    }


def saturation(values: np.ndarray) -> list[float | None]:
    """The least k with nine tenths of the gain from k = 1 to N; its interval.

    values [B N]: expected accuracy of the best of k at each prompt. In a resample of
    the prompts where nothing is gained no k is enough: that one is infinite.
    """

    def least(weights: np.ndarray) -> np.ndarray:
        mean = weights @ values
        gain = mean[:, -1] - mean[:, 0]
        reached = mean >= (mean[:, 0] + SATURATED * gain)[:, None]
        return np.where(gain > 0, 1.0 + reached.argmax(1), np.inf)

    with np.errstate(invalid="ignore"):  # a quantile between two infinite ones
        middle, low, high = over_prompts(least, len(values))
        # It is a whole number, and a quantile between two of them is none.
        return numbers(Interval(middle, np.floor(low), np.ceil(high))) or []


def draw(found: Found) -> dict[str, Figure]:
    cells = found["cells"]
    figure, axes = plots.panels(plots.tasks_of(cells), rows=2)
    for column, task in zip(axes.T, plots.tasks_of(cells), strict=False):
        some = [cell for cell in cells if cell["task"] == task]
        plots.curves(
            column[0],
            some,
            lambda cell: cell["accuracy"],
            all_cells=cells,
            scale=100,
            level=lambda cell: cell["greedy"],
        )
        plots.curves(
            column[1], some, lambda cell: cell["percent_lift"], all_cells=cells
        )
        column[1].axhline(0, color="black", lw=0.8)
    axes[0, 0].set_ylabel("accuracy of the best of N, %\n(dotted: greedy)")
    axes[1, 0].set_ylabel("lift over greedy, %")
    return {"fig3": figure}


def tell(found: Found) -> str:
    rows = []
    for cell in found["cells"]:
        at = cell["saturation"]
        rows.append(
            {
                "model": cell["model"],
                "task": cell["task"],
                "greedy, %": (cell["greedy"], 100),
                "one sample, %": (cell["sample"], 100),
                f"best of {cell['k'][-1]}, %": (cell["accuracy"][-1], 100),
                "percent lift over greedy": (cell["percent_lift"][-1], 1),
                "gain over one sample, points": (cell["over_sample"], 100),
                "N of 9/10 of that gain": "no gain shown" if at is None else (at, 1),
                f"gain from N = {SOON} on, points": (cell["later"], 100)
                if cell["later"]
                else None,
            }
        )
    return markdown(rows)


def judge(found: Found) -> list[Check]:
    gained = [cell for cell in found["cells"] if cell["saturation"] is not None]
    early = [_by(cell["saturation"]) for cell in gained]
    at = ", ".join(interval(cell["saturation"]) for cell in gained)
    enough = bool(gained) and gained[0]["k"][-1] > SOON
    return [
        Check(
            f"accuracy has saturated by N = {SOON}",
            mostly(early) if enough else None,
            "the N with nine tenths of the gain over one sample: its interval ends at "
            f"{SOON} or below (yes) or begins above (the contrary); more cells yes. "
            "Saturated is of the gain at the largest N, and 95% intervals are of each "
            "cell. "
            "Only cells with a gain over one sample, and only where the largest N is "
            f"above {SOON}",
            f"{len(gained)} of {len(found['cells'])} cells gain; "
            f"{counted(gained, early)}; N: {at or 'none'}",
        )
    ]


def _by(least: list[float | None]) -> bool | None:
    low, high = least[1:]
    if high is not None and high <= SOON:
        return True
    return False if low is None or low > SOON else None


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
