"""Figure 7: accuracy of a model that SFT-Sharpening trains, in percent over greedy."""

from matplotlib.figure import Figure

from experiments.reproduce import trained
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import LEVEL, counted, everywhere
from experiments.reproduce.work import Run
from jsharp.evaluate import ACCURACY


def runs(config: Config) -> list[Run]:
    return trained.runs(config, config.trained, [config.generations])


def measure(config: Config) -> Found:
    """Per cell and step: accuracy of one sample and its percent lift over greedy."""
    courses = [
        trained.course(config, *cell, config.generations)
        for cell in config.settings(config.trained)
    ]
    cells = [trained.record(course, [ACCURACY]) for course in courses]
    return {"level": LEVEL, "cells": cells}


def draw(found: Found) -> dict[str, Figure]:
    label = "accuracy of one sample of the model\nin training, percent lift over greedy"
    return {"fig7": trained.draw(found["cells"], ACCURACY, "percent_lift", label)}


def tell(found: Found) -> str:
    rows = []
    for cell in found["cells"]:
        values = cell[ACCURACY]
        seeds = values["percent_lift_of_seeds"] or []
        rows.append(
            {
                "model": cell["model"],
                "task": cell["task"],
                "greedy, %": (values["greedy"], 100),
                "one sample before, %": (values["mean"][0], 100),
                "after, %": (values["mean"][-1], 100),
                "after - before, points": (values["rise"], 100),
                "percent lift over greedy": (values["percent_lift"][-1], 1),
                "its seeds": ", ".join(f"{lift[-1]:.1f}" for lift in seeds),
                f"best of {cell['n']} at inference": (
                    values["best"]["percent_lift"],
                    1,
                ),
            }
        )
    return f"{markdown(rows)}\n\n{trained.SEEDS_VARY}"


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    outcomes = [
        trained.outcome(
            cell[ACCURACY]["rise"], cell[ACCURACY]["rise_of_seeds"], len(cells)
        )
        for cell in cells
    ]
    return [
        Check(
            "SFT-Sharpening makes one sample of the model right more often",
            everywhere(outcomes),
            f"accuracy at the last step minus that of the base: {trained.RULE}",
            counted(cells, outcomes),
        )
    ]


EXPERIMENT = Experiment(
    name="fig7",
    title="accuracy while SFT-Sharpening trains",
    paper="Figure 7",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
