"""Wrong modes: where the most likely response is wrong, sharpening settles on it.

y* is proved by search. The best of N by log-probability is y* as soon as it is among
the N draws, so that with p* = pi(y*|x)

    P[ the best of N is y* ] = 1 - (1 - p*)^N
    y* right:  accuracy(N) >= 1 - (1 - p*)^N -> 1
    y* wrong:  accuracy(N) <= (1 - p*)^N     -> 0

and over all prompts accuracy(N) -> P[y* is right], whatever a single draw gives.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.failures.cases import (
    LEVEL,
    REWARD,
    Searched,
    chosen,
    interval,
    modes,
    plain_ticks,
    searched,
    with_modes,
)
from experiments.reproduce import inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import counted, everywhere, sign
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.commands.results import numbers
from jsharp.evaluate import ACCURACY
from jsharp.selection import best_of_every_k
from jsharp.stats import clopper_pearson

MAJORITY = 0.5  # Prop 3.1: above it, greedy decoding returns y*
LAW_LEVEL = 0.01  # false alarm of the test of the law, in each cell
SIDES = ("right", "wrong")  # what y* is


def runs(config: Config) -> list[Run]:
    """Responses and modes of the cells whose modes are searched."""
    return [
        run
        for some in with_modes(config)
        for cell in some.settings()
        for run in (inference.evaluation(some, *cell), modes(some, *cell))
    ]


def findings(config: Config) -> Found:
    """Per cell: how often y* is wrong, and what each way to pick does there."""
    return {"level": LEVEL, "cells": [of_cell(case) for case in searched(config)]}


def of_cell(case: Searched) -> dict[str, Any]:
    """The prompts whose y* is proved and alone, split by whether it is right."""
    sure, right = case.sure, np.nan_to_num(case.right)
    top = case.known.mass[:, 0]
    marks = np.asarray(case.measured.sampled[ACCURACY], float)
    known = int(sure.sum())
    greedy_is = np.array(
        [g == y for g, y in zip(case.draws.greedy, case.known.maximiser, strict=True)]
    )
    above = sure & (top > MAJORITY)
    limit = clopper_pearson(int(right[sure].sum()), known, level=LEVEL)
    by_side = {"right": sure & (right == 1), "wrong": sure & (right == 0)}
    return {
        "model": case.model,
        "task": case.task,
        "n": marks.shape[1],
        "prompts": len(sure),
        "proved": known,
        "mode_right": numbers(limit),
        "greedy_right": interval(case.measured.greedy[ACCURACY][sure]),
        "greedy_is_mode": interval(greedy_is[sure]),
        "above_half": int(above.sum()),
        "above_half_and_greedy": int((above & greedy_is).sum()),
        "sample": interval(marks[sure].mean(1)),
        "law_p_value": law_p_value(case.is_mode[sure], top[sure]),
        "all": side(case, sure),
        **{name: side(case, mine) for name, mine in by_side.items()},
    }


def law_p_value(is_mode: np.ndarray, top: np.ndarray) -> float | None:
    """Of the count of draws that are y*, sum_x Binomial(N, p*(x)); two-sided.

    By the exact law of the sum, as a convolution. None of no prompts.
    """
    if not len(top):
        return None
    draws, law = is_mode.shape[1], np.ones(1)
    for p in top:
        law = np.convolve(law, scipy.stats.binom.pmf(np.arange(draws + 1), draws, p))
    count = int(is_mode.sum())
    tail = min(law[: count + 1].sum(), law[count:].sum())
    return float(min(1.0, 2 * tail))


def side(case: Searched, mine: np.ndarray) -> dict[str, Any]:
    """Of some prompts: curves in k by log-probability, accuracy of each way at N.

    `law` is the mean of 1 - (1 - p*)^k, `picked` how often the best of k is y*.
    """
    if not mine.any():
        return {"prompts": 0}
    marks = np.asarray(case.measured.sampled[ACCURACY], float)[mine]
    score = {by: value[mine] for by, value in case.measured.score.items()}
    top, k = case.known.mass[mine, 0], np.arange(1, marks.shape[1] + 1)
    right = best_of_every_k(score[REWARD], marks)
    picked = best_of_every_k(score[REWARD], case.is_mode[mine])
    law = -np.expm1(k[None] * np.log1p(-top[:, None]))
    return {
        "prompts": int(mine.sum()),
        "p_star": interval(top),
        "k": k.tolist(),
        "accuracy": [interval(column) for column in right.T],
        "picked": [interval(column) for column in picked.T],
        "law": law.mean(0).tolist(),
        "sample": interval(marks.mean(1)),
        "greedy": interval(case.measured.greedy[ACCURACY][mine]),
        "coverage": interval(marks.any(1)),
        "rewards": {by: interval(chosen(value, marks)) for by, value in score.items()},
        "change": interval(right[:, -1] - marks.mean(1)),
    }


def draw(found: Found) -> dict[str, Figure]:
    cells = found["cells"]
    figure, axes = plt.subplots(
        2, len(cells), figsize=(3.9 * len(cells) + 0.6, 7.2), squeeze=False
    )
    for column, cell in zip(axes.T, cells, strict=True):
        _split(column[0], cell)
        _rewards(column[1], cell)
    axes[0, 0].set_ylabel("accuracy of the best of N, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8)
    return {"failure_modes": figure}


def _split(axis: Axes, cell: dict[str, Any]) -> None:
    """Accuracy in N where y* is right, where it is wrong, and over all."""
    for color, name in zip((PALETTE[2], PALETTE[1]), SIDES, strict=True):
        mine = cell[name]
        if not mine["prompts"]:
            continue
        _band(axis, mine["k"], mine["accuracy"], color, f"y* {name}")
        law = 100 * np.array(mine["law"])
        bound = law if name == "right" else 100 - law
        axis.plot(mine["k"], bound, color=color, ls="--", lw=1)
    if cell["all"]["prompts"]:
        _band(axis, cell["all"]["k"], cell["all"]["accuracy"], PALETTE[0], "both")
    limit = 100 * cell["mode_right"][0]
    axis.axhline(
        limit, color=THEORY, ls=":", lw=1.2, label="N to infinity: P[y* right]"
    )
    axis.plot([], [], color=THEORY, ls="--", lw=1, label="bounds by the law of y*")
    counts = ", ".join(f"{cell[name]['prompts']} {name}" for name in SIDES)
    axis.set(
        xscale="log",
        xlabel="N",
        title=f"{cell['model']}, {cell['task']}\ny*: {counts}",
    )
    plain_ticks(axis, cell["n"])


def _band(axis: Axes, k: list[int], values: list, color: str, label: str) -> None:
    middle, low, high = 100 * np.array(values, float).T
    axis.plot(k, middle, color=color, label=label)
    axis.fill_between(k, low, high, color=color, alpha=0.15, lw=0)


def _rewards(axis: Axes, cell: dict[str, Any]) -> None:
    """Accuracy of every way to pick, where y* is wrong against where it is right."""
    for shift, name, color in zip((-0.15, 0.15), SIDES, PALETTE[2:0:-1], strict=True):
        mine = cell[name]
        if not mine["prompts"]:
            continue
        ways = _ways(mine)
        values = 100 * np.array(list(ways.values()), float)
        ends = np.abs(values[:, 1:] - values[:, :1]).T
        place = np.arange(len(ways)) + shift
        axis.errorbar(values[:, 0], place, xerr=ends, fmt="o", ms=4, color=color)
        axis.set_yticks(range(len(ways)), list(ways), fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel=f"accuracy at N = {cell['n']}, % (green: y* right)", xlim=(-4, 104))


def _ways(mine: dict[str, Any]) -> dict[str, Any]:
    one = {"greedy": mine["greedy"], "one sample": mine["sample"]}
    return {**one, **mine["rewards"], "any is right": mine["coverage"]}


def tell(found: Found) -> str:
    first = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "modes proved": f"{cell['proved']} of {cell['prompts']}",
            "y* right, % (limit of N)": (cell["mode_right"], 100),
            f"best of {cell['n']}, %": (cell["all"]["accuracy"][-1], 100),
            "one sample, %": (cell["sample"], 100),
            "greedy, %": (cell["greedy_right"], 100),
            "greedy is y*, %": (cell["greedy_is_mode"], 100),
            "p of the law": cell["law_p_value"],
        }
        for cell in found["cells"]
    ]
    second = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "picked by": way,
            **{f"y* {name}, %": (_at(cell[name], way), 100) for name in SIDES},
        }
        for cell in found["cells"]
        for way in _ways(cell["right" if cell["right"]["prompts"] else "wrong"])
    ]
    return (
        f"{markdown(first)}\n\nAccuracy at N by whether y* is right (95% intervals "
        f"over these prompts):\n\n{markdown(second)}"
    )


def _at(mine: dict[str, Any], way: str) -> list[float | None] | None:
    return _ways(mine)[way] if mine["prompts"] else None


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    change = lambda cell, name: cell[name].get("change")
    rises = [sign(change(cell, "right")) for cell in cells]
    rising = [sign(change(cell, "wrong")) for cell in cells]
    falls = [None if x is None else not x for x in rising]
    tested = [c["law_p_value"] for c in cells if c["law_p_value"] is not None]
    above = sum(cell["above_half"] for cell in cells)
    greedy = sum(cell["above_half_and_greedy"] for cell in cells)
    return [
        Check(
            "best-of-N tends to y*: it helps where y* is right",
            everywhere(rises),
            "in every cell, over the prompts whose y* is right, the best of N is more "
            "often right than one sample, with the paired interval",
            counted(cells, rises),
        ),
        Check(
            "and hurts where y* is wrong",
            everywhere(falls),
            "in every cell, over the prompts whose y* is wrong, the best of N is less "
            "often right than one sample, with the paired interval",
            counted(cells, falls),
        ),
        Check(
            "the best of N is y* with probability 1 - (1 - pi(y*|x))^N",
            min(tested) >= LAW_LEVEL / len(tested) if tested else None,
            "the number of draws that are y* has the law of independent draws at "
            f"p*, by the exact two-sided test at level {LAW_LEVEL:g} over all cells",
            "p-values: " + ", ".join(f"{p:.3g}" for p in tested),
        ),
        Check(
            "Prop 3.1: where pi(y*|x) > 1/2, greedy decoding returns y*",
            None if not above else greedy == above,
            "on every prompt whose proved mode has more than half of the mass",
            f"{greedy} of {above} prompts",
        ),
    ]


EXPERIMENT = Experiment(
    name="failure_modes",
    title="wrong modes: where sharpening settles on a wrong answer",
    paper="",
    runs=runs,
    measure=findings,
    draw=draw,
    tell=tell,
    judge=judge,
)
