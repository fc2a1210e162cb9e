"""Figure 8: log pi_base of a model's samples while SFT-Sharpening trains it.

The lift over the base's greedy response is a difference in nats. Log-likelihoods are
negative: 100 times it over the absolute value of greedy's is the percent lift.
"""

from matplotlib.figure import Figure

from experiments.paper import fig7
from experiments.reproduce import trained
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.trained import LOG_PROB, TOKENS
from experiments.reproduce.verdicts import LEVEL, counted, everywhere


def measure(config: Config) -> Found:
    """Per cell and step: log pi_base and tokens of one sample, lifts over greedy."""
    courses = [
        trained.course(config, *cell, config.generations)
        for cell in config.settings(config.trained)
    ]
    cells = [trained.record(course, [LOG_PROB, TOKENS]) for course in courses]
    return {"level": LEVEL, "cells": cells}


def draw(found: Found) -> dict[str, Figure]:
    label = "log pi_base of one sample of the model\nin training, over greedy's, nats"
    return {"fig8": trained.draw(found["cells"], LOG_PROB, "gain", label)}


def tell(found: Found) -> str:
    rows = []
    for cell in found["cells"]:
        values, tokens = cell[LOG_PROB], cell[TOKENS]
        rows.append(
            {
                "model": cell["model"],
                "task": cell["task"],
                "greedy, nats": (values["greedy"], 1),
                "one sample before": (values["mean"][0], 1),
                "after": (values["mean"][-1], 1),
                "after - before": (values["rise"], 1),
                "after - greedy": (values["gain"][-1], 1),
                "its seeds": ", ".join(f"{s[-1]:.2f}" for s in values["gain_of_seeds"]),
                "percent of abs(greedy)": (values["percent_lift"][-1], 1),
                f"best of {cell['n']} - greedy": (values["best"]["gain"], 1),
                "tokens, after - before": (tokens["rise"], 1),
            }
        )
    return f"{markdown(rows)}\n\n{trained.SEEDS_VARY}"


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    outcomes = [
        trained.outcome(
            cell[LOG_PROB]["rise"], cell[LOG_PROB]["rise_of_seeds"], len(cells)
        )
        for cell in cells
    ]
    return [
        Check(
            "training raises the log-likelihood, under the base, of what is sampled",
            everywhere(outcomes),
            "log pi_base of one sample at the last step minus that of one of the base: "
            f"{trained.RULE}",
            counted(cells, outcomes),
        )
    ]


EXPERIMENT = Experiment(
    name="fig8",
    title="log-likelihood under the base while SFT-Sharpening trains",
    paper="Figure 8",
    runs=fig7.runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
