"""Figure 9: SFT-Sharpening with three N: accuracy and log pi_base in training."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.reproduce import trained
from experiments.reproduce.config import Config, fractions
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.trained import LOG_PROB
from experiments.reproduce.verdicts import LEVEL, counted, everywhere
from experiments.reproduce.work import Run
from experiments.style import PALETTE
from jsharp.evaluate import ACCURACY

PARTS = (5, 2)  # N = 10, 25, 50
PANELS = (
    (ACCURACY, "percent_lift", "accuracy of one sample,\npercent lift over greedy"),
    (LOG_PROB, "gain", "log pi_base of one sample,\nover greedy's, nats"),
)


def sizes(config: Config) -> tuple[int, ...]:
    """Every N, ascending."""
    return fractions(config.generations, PARTS)


def runs(config: Config) -> list[Run]:
    """Raises ValueError where there is no cell, or one N alone."""
    if len(sizes(config)) < 2:
        raise ValueError(
            f"fig9: expected several N, found those of --generations "
            f"{config.generations}: {sizes(config)}"
        )
    return trained.runs(config, config.swept, sizes(config))


def measure(config: Config) -> Found:
    """Per cell and N: the course of training; per cell: the largest N less the least.

    `more` is that difference of log pi_base at the last step, paired over prompts, and
    of every seed.
    """
    cells, more = [], []
    for model, task in config.settings(config.swept):
        courses = [trained.course(config, model, task, n) for n in sizes(config)]
        cells += [trained.record(course, [ACCURACY, LOG_PROB]) for course in courses]
        least, most = (courses[i].sampled[LOG_PROB][-1].mean(-1) for i in (0, -1))
        more.append(
            {
                "model": model,
                "task": task,
                "difference": trained.gain(least.mean(0), most.mean(0)),
                "of_seeds": (most - least).mean(-1).tolist(),
            }
        )
    return {"level": LEVEL, "cells": cells, "more": more}


def draw(found: Found) -> dict[str, Figure]:
    columns = [(each["model"], each["task"]) for each in found["more"]]
    figure, axes = plt.subplots(
        2,
        len(columns),
        figsize=(max(5.6, 3.6 * len(columns)), 7),
        squeeze=False,
        layout="constrained",
    )
    for column, (model, task) in zip(axes.T, columns, strict=True):
        some = [c for c in found["cells"] if (c["model"], c["task"]) == (model, task)]
        for axis, (name, lift, _) in zip(column, PANELS, strict=True):
            for color, cell in zip(PALETTE, some, strict=False):
                at = {"color": color, "label": f"N = {cell['n']}"}
                trained.plot(axis, cell, name, lift, **at)
            trained.finish(axis, some[0])
        column[0].set_title(f"{model}, {task}")
    for axis, (_, _, label) in zip(axes[:, 0], PANELS, strict=True):
        axis.set_ylabel(label)
    trained.key(figure, "base, best of N at inference")
    return {"fig9": figure}


def tell(found: Found) -> str:
    rows = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "N": cell["n"],
            "percent lift in accuracy": (cell[ACCURACY]["percent_lift"][-1], 1),
            "log pi_base over greedy's, nats": (cell[LOG_PROB]["gain"][-1], 1),
            "best of N at inference: percent lift": (
                cell[ACCURACY]["best"]["percent_lift"],
                1,
            ),
            "nats": (cell[LOG_PROB]["best"]["gain"], 1),
        }
        for cell in found["cells"]
    ]
    return f"{markdown(rows)}\n\n{trained.SEEDS_VARY}"


def judge(found: Found) -> list[Check]:
    more = found["more"]
    outcomes = [
        trained.outcome(each["difference"], each["of_seeds"], len(more))
        for each in more
    ]
    least, *_, most = sorted({cell["n"] for cell in found["cells"]})
    return [
        Check(
            "a larger N ends with a larger log-likelihood under the base",
            everywhere(outcomes),
            f"log pi_base of one sample after training with N = {most} minus that with "
            f"N = {least}: {trained.RULE}",
            counted(more, outcomes),
        )
    ]


EXPERIMENT = Experiment(
    name="fig9",
    title="SFT-Sharpening with several N",
    paper="Figure 9",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
