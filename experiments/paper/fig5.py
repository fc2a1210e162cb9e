"""Figure 5: GameOf24 alone: percent lift and log-likelihood of best-of-N, in N."""

import dataclasses

from matplotlib.figure import Figure

from experiments.paper import fig3, fig4
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
from experiments.reproduce.work import Run

TASK = "game24"


def runs(config: Config) -> list[Run]:
    """Those of every model that knows the task."""
    return [
        inference.evaluation(config, *cell)
        for cell in config.settings()
        if cell[1] == TASK
    ]


def measure(config: Config) -> Found:
    """Figure 3's and figure 4's numbers of each model; no cell where none knows it."""
    if TASK not in config.tasks:
        return {"level": LEVEL, "accuracy": [], "log_prob": []}
    cells = inference.cells(dataclasses.replace(config, tasks=(TASK,)))
    return {
        "level": LEVEL,
        "accuracy": [fig3.curve(cell) for cell in cells],
        "log_prob": [fig4.curve(cell) for cell in cells],
    }


def draw(found: Found) -> dict[str, Figure]:
    """No figure where no model knows the task."""
    accuracy, log_prob = found["accuracy"], found["log_prob"]
    if not accuracy:
        return {}
    figure, axes = plots.panels(["percent lift", "log-likelihood"])
    left, right = axes[0]
    plots.curves(left, accuracy, lambda cell: cell["percent_lift"], all_cells=accuracy)
    left.axhline(0, color="black", lw=0.8)
    left.set_ylabel("lift over greedy, %")
    fig4.panel(right, log_prob, log_prob)
    right.set_ylabel("mean log-likelihood of the\nbest of N, nats (dotted: greedy)")
    return {"fig5": figure}


def tell(found: Found) -> str:
    if not found["accuracy"]:
        return f"No model and no task of this run is of {TASK}."
    pairs = zip(found["accuracy"], found["log_prob"], strict=True)
    return markdown(
        [
            {
                "model": cell["model"],
                "greedy, %": (cell["greedy"], 100),
                f"best of {cell['k'][-1]}, %": (cell["accuracy"][-1], 100),
                "percent lift over greedy": (cell["percent_lift"][-1], 1),
                "lifts": spoken(sign(cell["gain"])),
                "log-likelihood over greedy, nats": (other["over_greedy"], 1),
            }
            for cell, other in pairs
        ]
    )


def judge(found: Found) -> list[Check]:
    cells = found["accuracy"]
    lifts = signs([cell["gain"] for cell in cells])
    return [
        Check(
            "on GameOf24 best-of-N by log-probability is more accurate than greedy",
            mostly(lifts),
            "the paired gain over greedy at the largest N is above 0 for more models "
            "than it is below; " + WIDENED,
            counted(cells, lifts),
        ),
    ]


EXPERIMENT = Experiment(
    name="fig5",
    title="GameOf24: lift and log-likelihood of best-of-N in N",
    paper="Figure 5",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
