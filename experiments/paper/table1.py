"""Table 1: what SFT-Sharpening ends with, over the base's greedy response."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.paper import fig7
from experiments.reproduce import trained
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.trained import LOG_PROB
from experiments.reproduce.verdicts import LEVEL, counted, everywhere
from experiments.style import PALETTE, THEORY
from jsharp.evaluate import ACCURACY

# Table 1 of the paper: model, task, percent lift in accuracy and lift in log-likelihood
# over greedy, each with its +-. Published numbers; nothing here measures them.
PUBLISHED = (
    ("Phi-3.5-mini", "MATH", (19.24, 2.41), (48.33, 0.17)),
    ("Phi-3.5-mini", "GSM8K", (1.82, 0.64), (1.49, 0.55)),
    ("Phi-3.5-mini", "ProntoQA", (12.46, 1.08), (5.64, 0.01)),
    ("Mistral-7B", "MATH", (8.88, 5.55), (5.71, 3.00)),
)


def measure(config: Config) -> Found:
    """Per cell, at the last step: lifts over greedy, standard errors over seeds."""
    rows = []
    for model, task in config.settings(config.trained):
        course = trained.course(config, model, task, config.generations)
        both = trained.record(course, [ACCURACY, LOG_PROB])
        row = {name: both[name] for name in ("model", "task", "n", "seeds", "prompts")}
        for name in (ACCURACY, LOG_PROB):
            row[name] = {"greedy": both[name]["greedy"], "best": both[name]["best"]}
            for lift in ("gain", "percent_lift"):
                row[name][lift] = both[name][lift][-1]
                of_seeds = both[name][f"{lift}_of_seeds"]
                ends = None if of_seeds is None else [seed[-1] for seed in of_seeds]
                row[name][f"{lift}_of_seeds"] = ends
                row[name][f"{lift}_error"] = trained.standard_error(ends)
        rows.append(row)
    return {"level": LEVEL, "cells": rows}


def draw(found: Found) -> dict[str, Figure]:
    """Percent lifts in accuracy; below them the paper's, which are of other models."""
    cells = [c for c in found["cells"] if c[ACCURACY]["percent_lift"] is not None]
    names = [f"{cell['model']}, {cell['task']}" for cell in cells]
    names += [f"paper: {model}, {task}" for model, task, *_ in PUBLISHED]
    figure, axis = plt.subplots(
        figsize=(6.4, 1.4 + 0.36 * len(names)), layout="constrained"
    )
    for y, cell in enumerate(cells):
        middle, low, high = np.array(cell[ACCURACY]["percent_lift"], float)
        seeds = cell[ACCURACY]["percent_lift_of_seeds"]
        axis.plot([low, high], [y, y], color=PALETTE[0], lw=1.5)
        axis.plot(middle, y, "o", color=PALETTE[0])
        axis.plot(seeds, [y + 0.22] * len(seeds), ".", color=PALETTE[1], ms=4)
        best = cell[ACCURACY]["best"]["percent_lift"]
        if best is not None:
            axis.plot(best[0], y, "|", color="k", ms=12)
    for y, (*_, (lift, error), _) in enumerate(PUBLISHED, len(cells)):
        axis.errorbar(lift, y, xerr=error, fmt="s", color=THEORY, capsize=3)
    axis.axvline(0, color=THEORY, ls=":", lw=1)
    axis.axhline(len(cells) - 0.5, color=THEORY, lw=0.6)
    axis.set(yticks=range(len(names)), yticklabels=names)
    axis.invert_yaxis()
    axis.set_xlabel("accuracy of one sample, percent lift over greedy")
    axis.plot([], [], "o-", color=PALETTE[0], label="mean of seeds, 95% over prompts")
    axis.plot([], [], ".", color=PALETTE[1], label="one seed")
    axis.plot([], [], "k|", ms=12, label="base, best of N at inference")
    axis.plot([], [], "s-", color=THEORY, label="published, +- as printed")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return {"table1": figure}


def tell(found: Found) -> str:
    accuracy = [
        {
            **_cell(cell),
            "greedy, %": (cell[ACCURACY]["greedy"], 100),
            **_lift(cell[ACCURACY], "percent_lift", "percent lift in accuracy"),
            "best of N at inference": (cell[ACCURACY]["best"]["percent_lift"], 1),
        }
        for cell in found["cells"]
    ]
    log_prob = [
        {
            **_cell(cell),
            "greedy, nats": (cell[LOG_PROB]["greedy"], 1),
            **_lift(cell[LOG_PROB], "gain", "lift in log-likelihood, nats"),
            **_lift(cell[LOG_PROB], "percent_lift", "in percent of abs(greedy)"),
            "best of N at inference, nats": (cell[LOG_PROB]["best"]["gain"], 1),
        }
        for cell in found["cells"]
    ]
    published = [
        {
            "model (paper)": model,
            "task": task,
            "percent lift in accuracy": f"{accuracy[0]:.2f} +- {accuracy[1]:.2f}",
            "lift in log-likelihood": f"{log_prob[0]:.2f} +- {log_prob[1]:.2f}",
        }
        for model, task, accuracy, log_prob in PUBLISHED
    ]
    parts = [
        "Measured here; +- is the standard error of the mean over seeds, brackets are "
        "the interval over prompts.",
        markdown(accuracy),
        markdown(log_prob),
        "Published: Table 1 of the paper, on other models and tasks, nothing of it "
        "measured here. Whether its lift in log-likelihood is in nats or in percent is "
        "not known here, so it is not drawn beside ours.",
        markdown(published),
        trained.SEEDS_VARY,
    ]
    return "\n\n".join(parts)


def _cell(cell: Found) -> dict[str, object]:
    return {"model": cell["model"], "task": cell["task"]}


def _lift(values: Found, lift: str, title: str) -> dict[str, object]:
    """Two columns: with the standard error over seeds, and with the interval."""
    found, error = values[lift], values[f"{lift}_error"]
    shown = "none" if found is None else f"{found[0]:.2f}"
    if error is not None:
        shown += f" +- {error:.2f}"
    return {title: shown, f"{title}: interval": (found, 1)}


def judge(found: Found) -> list[Check]:
    checks, cells = [], found["cells"]
    for name, words in ((ACCURACY, "accuracy"), (LOG_PROB, "log-likelihood")):
        outcomes = [
            trained.outcome(cell[name]["gain"], cell[name]["gain_of_seeds"], len(cells))
            for cell in cells
        ]
        checks.append(
            Check(
                f"one sample of the sharpened model has a larger {words} than the "
                "base's greedy response",
                everywhere(outcomes),
                f"{words} of one sample at temperature 1 after training minus that of "
                f"greedy before it: {trained.RULE}",
                counted(cells, outcomes),
            )
        )
    return checks


EXPERIMENT = Experiment(
    name="table1",
    title="lifts over greedy of SFT-Sharpening",
    paper="Table 1",
    runs=fig7.runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
