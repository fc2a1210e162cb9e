"""Which self-reward fails how: one line for each, from all cells and all failures."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.failures import failure_length, failure_modes
from experiments.failures.cases import (
    REWARD,
    Searched,
    chosen,
    interval,
    searched,
)
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import LEVEL, mostly, sign, signs
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.commands.results import SEED, numbers
from jsharp.evaluate import ACCURACY
from theory.signals import auc

PER_CELL = ("longer", "than_greedy", "than_log_probability")
COLUMNS = {
    "over_form_of_sample": "accuracy - that in the form\nof one sample, points",
    "mode_wrong": "accuracy - one sample's\nwhere y* is wrong, points",
    "mode_right": "accuracy - one sample's\nwhere y* is right, points",
    "coin": "right and wrong draws share\nits best score, % of prompts",
}


def runs(config: Config) -> list[Run]:
    """Those of the length bias and of the wrong modes."""
    return [*failure_length.runs(config), *failure_modes.runs(config)]


def findings(config: Config) -> Found:
    """Per self-reward what each failure costs it; null where none was measured."""
    found = failure_length.findings(config)
    cells, two, cases = found["lengths"], found["forms"], searched(config)
    return {
        "level": LEVEL,
        "cells": [{key: one[key] for key in ("model", "task", "n")} for one in cells],
        "rewards": {
            by: {
                **{name: [c["rewards"][by][name] for c in cells] for name in PER_CELL},
                "over_form_of_sample": two["lost"][by]["over_form_of_sample"]
                if two
                else None,
                **on_modes(by, cases),
            }
            for by in cells[0]["rewards"]
        },
    }


def on_modes(by: str, cases: Sequence[Searched]) -> dict[str, Any]:
    """Over the prompts of all cells with modes; the first two, those with y* proved.

    mode_wrong, mode_right: accuracy of the best of N minus one sample's, by whether y*
    is right. coin: draws that are right and draws that are wrong share the best score.
    auc: P[a right draw of a prompt scores above a wrong one of it], ties one half.
    """
    gains, coins, ranks, right = [], [], [], []
    for case in cases:
        score = case.measured.score[by]
        marks = np.asarray(case.measured.sampled[ACCURACY], float)
        best = chosen(score, marks)
        gains.append(best - marks.mean(1))
        top = score == score.max(1, keepdims=True)
        coins.append((top & (marks > 0)).any(1) & (top & (marks == 0)).any(1))
        within = auc(score, marks > 0, level=LEVEL, seed=SEED).within
        ranks.append(None if within is None else numbers(within))
        right.append(case.right)
    gain, sides = np.concatenate(gains), np.concatenate(right)
    return {
        "mode_wrong": interval(gain[sides == 0]),
        "mode_right": interval(gain[sides == 1]),
        "coin": interval(np.concatenate(coins)),
        "auc": ranks,
    }


def fails(each: dict[str, Any]) -> list[str]:
    """In words, each by intervals; empty where nothing was shown."""
    longer = mostly(signs(each["longer"]))
    greedy, ranked = signs(each["than_greedy"]), signs(each["auc"], 0.5)
    found = {
        "picks the short": longer is False,
        "picks the long": longer is True,
        "picks the wrong form": sign(each["over_form_of_sample"]) is False,
        "is drawn to wrong modes": sign(each["mode_wrong"]) is False,
        "ranks wrong above right": False in ranked,
        "is worse than greedy": False in greedy,
    }
    return [words for words, holds in found.items() if holds]


def draw(found: Found) -> dict[str, Figure]:
    rewards = found["rewards"]
    columns = {
        name: label
        for name, label in COLUMNS.items()
        if any(each[name] is not None for each in rewards.values())
    }
    figure, axes = plt.subplots(
        1, len(columns), figsize=(3.1 * len(columns) + 1.6, 3.0), sharey=True
    )
    for axis, (name, label) in zip(np.atleast_1d(axes), columns.items(), strict=True):
        values = 100 * np.array([each[name] for each in rewards.values()], float)
        ends = np.abs(values[:, 1:] - values[:, :1]).T
        places = range(len(rewards))
        axis.errorbar(values[:, 0], places, xerr=ends, fmt="o", color=PALETTE[0])
        axis.axvline(0, color=THEORY, lw=1)
        axis.set_xlabel(label)
        axis.set_yticks(places, list(rewards))
    np.atleast_1d(axes)[0].invert_yaxis()
    return {"failure_summary": figure}


def tell(found: Found) -> str:
    rows = [
        {
            "self-reward": by,
            "tokens over one sample, by cell": _range(each["longer"], 1),
            "AUC, by cell": _range(each["auc"], 1),
            **{
                label.replace("\n", " "): (each[name], 100)
                for name, label in COLUMNS.items()
            },
            "cells above / below greedy": _tally(each["than_greedy"]),
            f"above / below {REWARD}": _tally(each["than_log_probability"]),
            "it": "; ".join(fails(each)) or "nothing shown",
        }
        for by, each in found["rewards"].items()
    ]
    where = ", ".join(f"{cell['model']} {cell['task']}" for cell in found["cells"])
    return (
        f"Best of N = {found['cells'][0]['n']}, over the cells {where}; wrong modes, "
        "coins and AUC over those whose modes were searched. Words in the last column "
        "are intervals that exclude 0 (or 1/2): `picks the short` in more cells than "
        "the long; `is worse than greedy` and `ranks wrong above right` in some cell. "
        "Where cells are counted, their intervals are widened for the number of cells."
        "\n\n" + markdown(rows)
    )


def _range(values: Sequence[Any], scale: float) -> str:
    """The least and the largest estimate."""
    known = [scale * value[0] for value in values if value is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else ""


def _tally(values: Sequence[Any]) -> str:
    outcomes = signs(values)
    return f"{outcomes.count(True)} / {outcomes.count(False)}"


def judge(found: Found) -> list[Check]:
    wrong = {by: sign(each["mode_wrong"]) for by, each in found["rewards"].items()}
    escape = [by for by, above in wrong.items() if above]
    drawn = [by for by, above in wrong.items() if above is False]
    return [
        Check(
            "where the most likely response is wrong, counting answers still helps and "
            "likelihood does not",
            _both(wrong["majority"], wrong[REWARD]),
            "over the prompts whose y* is wrong, the majority is more often right than "
            f"one sample and the best by {REWARD} less often, both paired intervals",
            f"better than one sample there: {', '.join(escape) or 'none'}; worse: "
            f"{', '.join(drawn) or 'none'}",
        )
    ]


def _both(above: bool | None, below: bool | None) -> bool | None:
    if above is False or below is True:
        return False
    return None if above is None or below is None else True


EXPERIMENT = Experiment(
    name="failure_summary",
    title="which self-reward fails how",
    paper="",
    runs=runs,
    measure=findings,
    draw=draw,
    tell=tell,
    judge=judge,
)
