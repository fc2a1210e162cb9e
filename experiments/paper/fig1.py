"""Figure 1: lift of best-of-N over greedy, with the curve and histograms of a cell."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.paper import fig3, fig6
from experiments.reproduce import inference, plots
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import (
    LEVEL,
    WIDENED,
    counted,
    mostly,
    sign,
    signs,
    spoken,
)
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import summarise


def measure(config: Config) -> Found:
    """Percent lift and gain in accuracy at N of each cell; curve and laws of one."""
    cells = inference.cells(config)
    rows: list[dict[str, Any]] = []
    for cell in cells:
        n = len(cell.sampled.samples[0])
        picks = [cell.pick("greedy", 1), cell.pick(fig3.REWARD, n)]
        best = summarise(picks, level=LEVEL, seed=SEED)[1]
        rows.append(
            {
                "model": cell.model,
                "task": cell.task,
                "n": n,
                "percent_lift": numbers(best.lift),
                "gain": numbers(best.gain),
            }
        )
    shown = cells[example(rows)]
    return {
        "level": LEVEL,
        "cells": rows,
        "curve": fig3.curve(shown),
        "laws": fig6.laws(shown),
    }


def example(rows: list[dict[str, Any]]) -> int:
    """Which cell panels b and c show: that whose gain in accuracy has the largest low
    end, so that neither a greedy that is hardly ever right nor chance makes it; of
    those where a lift is defined, if there is one."""
    surest = lambda i: (rows[i]["percent_lift"] is not None, rows[i]["gain"][1])
    return max(range(len(rows)), key=surest)


def draw(found: Found) -> dict[str, Figure]:
    cells, curve, laws = found["cells"], found["curve"], found["laws"]
    width = 2.0 + 1.0 * len(plots.models_of(cells))
    figure, axes = plt.subplots(
        1, 3, figsize=(width + 7.4, 3.4), width_ratios=(width, 3.6, 3.8)
    )
    title = f"best of {cells[0]['n']}: lift over greedy, %"
    plots.lift_map(axes[0], cells, lambda cell: cell["percent_lift"], title)
    named = f"{curve['model']}, {curve['task']}"
    plots.curves(axes[1], [curve], lambda cell: cell["percent_lift"], all_cells=cells)
    axes[1].axhline(0, color="black", lw=0.8)
    axes[1].set(title=named, ylabel="lift over greedy, %")
    plots.histograms(axes[2], laws["edges"], laws["counts"])
    axes[2].set(
        title=named, xlabel="log-probability, nats", ylabel="share of responses, %"
    )
    return {"fig1": figure}


def tell(found: Found) -> str:
    rows = [
        {
            "model": cell["model"],
            "task": cell["task"],
            f"percent lift of the best of {cell['n']}": (cell["percent_lift"], 1),
            "gain, points": (cell["gain"], 100),
            "more accurate than greedy": spoken(sign(cell["gain"])),
        }
        for cell in found["cells"]
    ]
    curve = found["curve"]
    return (
        f"{markdown(rows)}\n\nPanels b and c show {curve['model']} on {curve['task']}: "
        "of the cells where greedy is ever right, the one whose gain in accuracy has "
        "the largest lower end."
    )


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    lifts = signs([cell["gain"] for cell in cells])
    return [
        Check(
            "best-of-N by log-probability is more accurate than greedy",
            mostly(lifts),
            "the paired gain at the largest N is above 0 in more cells than below; "
            + WIDENED,
            counted(cells, lifts),
        )
    ]


EXPERIMENT = Experiment(
    name="fig1",
    title="lift of best-of-N over greedy",
    paper="Figure 1",
    runs=inference.evaluations,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
