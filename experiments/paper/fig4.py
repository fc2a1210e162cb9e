"""Figure 4 (5b): mean log-likelihood of the response that best-of-N selects, in N."""

from typing import Any

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
    sign,
    signs,
    spoken,
)
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import paired_gain, summarise

LOG_PROB = "logprob_base"
OTHERS = ("length-normalised", "majority")  # whose rise is not by construction
ROUNDING = 1e-9  # nats: of the float64 weights of a best of k


def measure(config: Config) -> Found:
    """Per cell: mean log pi_base of the best of k, k = 1..N, of a sample, of greedy."""
    rows = [curve(cell) for cell in inference.cells(config)]
    return {"level": LEVEL, "cells": rows}


def curve(cell: Cell) -> dict[str, Any]:
    """Mean log pi_base(y|x), in nats, of the selected response.

    over_greedy: of the best of N, paired over prompts; others_over_sample: of the best
    of N by other self-rewards. passes: the least k whose mean is greedy's.
    Raises ValueError where the best of k + 1 is less likely than that of k.
    """
    chosen = [p for p in cell.picks if p.by in ("greedy", "sample", REWARD)]
    found = summarise(chosen, level=LEVEL, seed=SEED)
    by = {(row.by, row.k): row.mean[LOG_PROB] for row in found}
    best = [row for row in found if row.by == REWARD]
    n, greedy = best[-1].k, by["greedy", 1].estimate
    value = lambda by, k: cell.pick(by, k).value[LOG_PROB]
    over = lambda before, after: numbers(
        paired_gain(before, after, level=LEVEL, seed=SEED)
    )
    sample, last = value("sample", 1), value(REWARD, n)
    steps = np.diff([value(REWARD, k) for k in range(1, n + 1)], axis=0)
    if (steps < -ROUNDING).any():
        raise ValueError(
            f"{cell.model}, {cell.task}: a best of k + 1 is less likely than that of "
            f"k, by {-steps.min()} nats"
        )
    passing = [row.k for row in best if row.mean[LOG_PROB].estimate >= greedy]
    return {
        "model": cell.model,
        "task": cell.task,
        "greedy": numbers(by["greedy", 1]),
        "sample": numbers(by["sample", 1]),
        "k": [row.k for row in best],
        "log_prob": [numbers(row.mean[LOG_PROB]) for row in best],
        "over_greedy": over(value("greedy", 1), last),
        "passes": passing[0] if passing else None,
        "others_over_sample": {
            other: over(sample, value(other, n)) for other in OTHERS
        },
    }


def draw(found: Found) -> dict[str, Figure]:
    cells = found["cells"]
    figure, axes = plots.panels(plots.tasks_of(cells))
    for axis, task in zip(axes[0], plots.tasks_of(cells), strict=False):
        panel(axis, [cell for cell in cells if cell["task"] == task], cells)
    axes[0, 0].set_ylabel(
        "mean log-likelihood of the\nbest of N, nats (dotted: greedy)"
    )
    return {"fig4": figure}


def panel(axis: Any, some: list[Any], cells: list[Any]) -> None:
    """The curves of some cells, in the colours that models have among `cells`."""
    plots.curves(
        axis,
        some,
        lambda cell: cell["log_prob"],
        all_cells=cells,
        level=lambda cell: cell["greedy"],
    )


def tell(found: Found) -> str:
    rows = []
    for cell in found["cells"]:
        others = cell["others_over_sample"]
        rows.append(
            {
                "model": cell["model"],
                "task": cell["task"],
                "one sample, nats": (cell["sample"], 1),
                "greedy": (cell["greedy"], 1),
                f"best of {cell['k'][-1]}": (cell["log_prob"][-1], 1),
                "over greedy": (cell["over_greedy"], 1),
                "above greedy": spoken(sign(cell["over_greedy"])),
                "from N": cell["passes"] or "no N",
                **{f"rise, {name}": (x, 1) for name, x in others.items()},
            }
        )
    return (
        f"{markdown(rows)}\n\nThat the curve does not fall holds by construction: the "
        "likeliest of k + 1 responses is at least as likely as that of any k of them. "
        "How far it rises, and whether it passes greedy, is measured; so is the rise "
        "over one sample of what other self-rewards select, which nothing guarantees."
    )


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    above = signs([cell["over_greedy"] for cell in cells])
    return [
        Check(
            "the log-likelihood of the selected response rises with N, past greedy's, "
            "everywhere",
            everywhere(above),
            "that it rises holds by construction, so it is its end that is judged: in "
            "every cell the best of N minus greedy, paired over prompts, is above 0; "
            "in one below: the contrary; " + WIDENED,
            counted(cells, above),
        )
    ]


EXPERIMENT = Experiment(
    name="fig4",
    title="log-likelihood of the selected response in N",
    paper="Figures 4 and 5b",
    runs=inference.evaluations,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
