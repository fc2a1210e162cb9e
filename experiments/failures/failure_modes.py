"""Wrong modes: where the most likely response is wrong, sharpening settles on it.

y* is certain: the search proved it, or nothing that was not drawn can outweigh it. The
best of N by log-probability is y* as soon as it is among the N draws, so that with
p* = pi(y*|x)

    P[ the best of N is y* ] = 1 - (1 - p*)^N
    y* right:  accuracy(N) >= 1 - (1 - p*)^N -> 1
    y* wrong:  accuracy(N) <= (1 - p*)^N     -> 0

and over all prompts accuracy(N) -> P[y* is right], whatever a single draw gives. The
first line is tested on the prompts of the search alone: to be certain by what was drawn
depends on how often y* was.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bridge import laws
from experiments.failures.cases import (
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
from experiments.reproduce.verdicts import LEVEL, WIDENED, counted, everywhere, signs
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.commands.results import numbers
from jsharp.evaluate import ACCURACY
from jsharp.selection import best_of_every_k
from jsharp.stats import clopper_pearson
from theory.prices import found_by
from theory.signals import doublings

MAJORITY = 0.5  # Prop 3.1: above it, greedy decoding returns y*
LEAST = 10  # prompts above it that are needed to say that greedy does
LAW_LEVEL = 0.01  # false alarm of the tests of the law, of all k in all cells together
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
    """The prompts whose y* is certain and alone, split by whether it is right."""
    sure, right = case.sure, np.nan_to_num(case.right)
    top = case.known.mass[:, 0]
    found = sure & case.known.searched
    score, known = case.measured.score[REWARD], int(sure.sum())
    greedy_is = np.array(
        [g == y for g, y in zip(case.draws.greedy, case.known.maximiser, strict=True)]
    )
    above = sure & (top > MAJORITY)
    by_side = {"right": sure & (right == 1), "wrong": sure & (right == 0)}
    return {
        "model": case.model,
        "task": case.task,
        "n": score.shape[1],
        "prompts": len(sure),
        "certain": known,
        "searched": int(found.sum()),
        "mode_right": numbers(
            clopper_pearson(int(right[sure].sum()), known, level=LEVEL)
        )
        if known
        else None,
        "greedy_is_mode": interval(greedy_is[sure]),
        "best_is_mode": interval(chosen(score, case.is_mode)[sure]),
        "above_half": int(above.sum()),
        "above_half_and_greedy": int((above & greedy_is).sum()),
        **tests_of_law(score[found], case.is_mode[found], top[found]),
        "all": side(case, sure),
        **{name: side(case, mine) for name, mine in by_side.items()},
    }


def tests_of_law(
    score: np.ndarray, is_mode: np.ndarray, top: np.ndarray
) -> dict[str, list[float]]:
    """p-values of P[best of k is y*] = 1 - (1 - p*)^k, for k = 1, 2, 4, ..., N.

    Of the best of k by the score, on disjoint blocks of k draws (`laws.blocks`).
    `planted`: of the law of k + 1 draws, which the same tests should refuse. Both are
    empty of no prompts.
    """
    sizes = doublings(score.shape[1]) if len(top) else []
    test = lambda k, of: laws.blocks(score, is_mode, top, k, law_of=of).p_value
    return {
        "law": [test(k, k) for k in sizes],
        "planted": [test(k, k + 1) for k in sizes],
    }


def side(case: Searched, mine: np.ndarray) -> dict[str, Any]:
    """Of some prompts: curves in k by log-probability, accuracy of each way at N.

    `law` is the mean of 1 - (1 - p*)^k.
    """
    if not mine.any():
        return {"prompts": 0}
    marks = np.asarray(case.measured.sampled[ACCURACY], float)[mine]
    score = {by: value[mine] for by, value in case.measured.score.items()}
    top, k = case.known.mass[mine, 0], list(range(1, marks.shape[1] + 1))
    right = best_of_every_k(score[REWARD], marks)
    return {
        "prompts": int(mine.sum()),
        "k": k,
        "accuracy": [interval(column) for column in right.T],
        "law": [float(found_by(top, size).mean()) for size in k],
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
    # Without a certain y* there is nothing to tell of a cell but that.
    cells = [cell for cell in found["cells"] if cell["certain"]]
    none = [c for c in found["cells"] if not c["certain"]]
    first = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "modes certain (by search)": f"{cell['certain']} ({cell['searched']}) of "
            f"{cell['prompts']}",
            "y* right, % (limit of N)": (cell["mode_right"], 100),
            f"best of {cell['n']} over one sample, points": (
                cell["all"]["change"],
                100,
            ),
            "it is y*, %": (cell["best_is_mode"], 100),
            "by the law, %": 100 * cell["all"]["law"][-1],
            "greedy is y*, %": (cell["greedy_is_mode"], 100),
            "least p of the law": min(cell["law"], default=None),
            "of one draw more": min(cell["planted"], default=None),
        }
        for cell in cells
    ]
    second = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "picked by": way,
            **{f"y* {name}, %": (_at(cell[name], way), 100) for name in SIDES},
            "all, %": (_at(cell["all"], way), 100),
        }
        for cell in cells
        for way in _ways(cell["all"])
    ]
    left = ", ".join(f"{cell['model']} {cell['task']}" for cell in none)
    parts = [
        markdown(first),
        "Accuracy at N by whether y* is right (95% intervals over these prompts):",
        markdown(second),
        f"No mode is certain of: {left}." if left else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _at(mine: dict[str, Any], way: str) -> list[float | None] | None:
    return _ways(mine)[way] if mine["prompts"] else None


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    change = lambda name: signs([cell[name].get("change") for cell in cells])
    rises = change("right")
    falls = [None if x is None else not x for x in change("wrong")]
    above = sum(cell["above_half"] for cell in cells)
    greedy = sum(cell["above_half_and_greedy"] for cell in cells)
    return [
        Check(
            "best-of-N tends to y*: it helps where y* is right",
            everywhere(rises),
            "in every cell, over the prompts whose y* is right, the best of N is more "
            f"often right than one sample, with the paired interval; {WIDENED}",
            counted(cells, rises),
        ),
        Check(
            "and hurts where y* is wrong",
            everywhere(falls),
            "in every cell, over the prompts whose y* is wrong, the best of N is less "
            f"often right than one sample, with the paired interval; {WIDENED}",
            counted(cells, falls),
        ),
        _law(cells),
        Check(
            "Prop 3.1: where pi(y*|x) > 1/2, greedy decoding returns y*",
            False if greedy < above else (True if above >= LEAST else None),
            "on every prompt whose certain mode has more than half of the mass; one "
            f"contrary prompt refutes it, fewer than {LEAST} do not show it",
            f"{greedy} of {above} prompts",
        ),
    ]


def _law(cells: list[dict[str, Any]]) -> Check:
    """Bonferroni over the k of all cells; a law off by one draw must be refused."""
    tested = [cell for cell in cells if cell["law"]]
    level = LAW_LEVEL / max(1, sum(len(cell["law"]) for cell in tested))
    refused = any(min(cell["law"]) <= level for cell in tested)
    strong = tested and all(min(cell["planted"]) <= level for cell in tested)
    least = lambda name: ", ".join(
        f"{cell['model']} {cell['task']} {min(cell[name]):.2g}" for cell in tested
    )
    prompts = sum(cell["searched"] for cell in cells)
    return Check(
        "the best of N is y* with probability 1 - (1 - pi(y*|x))^N",
        False if refused else (True if strong else None),
        "on the prompts whose mode the search proved, no exact test of how often the "
        "best of k is y*, on disjoint blocks of the draws, refuses it at a level of "
        f"{LAW_LEVEL:g} for all k of all cells together, and the same tests do refuse, "
        "in every cell, the law of one draw more (where they do not, nothing is shown)",
        f"{prompts} prompts; least p-values: {least('law') or 'none'}; of the law of "
        f"one draw more: {least('planted') or 'none'}",
    )


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
