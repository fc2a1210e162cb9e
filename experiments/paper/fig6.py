"""Figure 6 (1c): log pi_base of correct and of incorrect responses.

Pooled over prompts, as the paper shows them, a difference may be one between prompts:
easy ones have likelier responses, and more that are correct. So it is also taken within
each prompt that has both kinds.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.reproduce import inference, plots
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.inference import Cell
from experiments.reproduce.tables import interval, markdown
from experiments.reproduce.verdicts import (
    LEVEL,
    WIDENED,
    counted,
    mean_of,
    mostly,
    over_prompts,
    sign,
    signs,
    spoken,
    widened,
)
from jsharp.commands.results import numbers

BINS = 40
THRESHOLDS = 512  # quantiles of all log-probabilities at which two laws are compared
FEW = 10  # prompts of both kinds below which a bootstrap over prompts says nothing
_AT_ONCE = 200  # resamples whose laws are held together


def measure(config: Config) -> Found:
    """Per cell: histograms of both kinds, and how they are ordered."""
    rows = [laws(cell) for cell in inference.cells(config)]
    return {"level": LEVEL, "cells": rows}


def laws(cell: Cell) -> dict[str, Any]:
    """Histograms [BINS] of log pi_base(y|x), in nats, and the comparisons of them.

    pooled, within: P[correct is likelier than incorrect], ties one half, of two
    responses of any prompts, and of one prompt (mean over the prompts with both).
    violation, separation: of `ordering`. Each is None where it cannot be estimated.
    """
    log_prob, right = cell.field("logprob_base"), cell.field("correct").astype(bool)
    edges = np.histogram_bin_edges(log_prob, BINS)
    count = lambda some: np.histogram(log_prob[some], edges)[0].tolist()
    both = right.any(1) & ~right.all(1)
    found: dict[str, Any] = {
        "model": cell.model,
        "task": cell.task,
        "edges": edges.tolist(),
        "counts": {"correct": count(right), "incorrect": count(~right)},
        "prompts_with_both": int(both.sum()),
        **dict.fromkeys(("pooled", "within", "violation", "separation")),
    }
    if both.sum() < FEW:
        return found
    won = wins(log_prob, right)
    pairs = right.sum(1) * (~right).sum(1)
    within = won.diagonal()[both] / pairs[both]
    violation, separation = ordering(log_prob, right)
    return found | {
        "pooled": numbers(pooled(won, right)),
        "within": mean_of(within),
        "violation": violation,
        "separation": separation,
    }


def wins(
    log_prob: Float[np.ndarray, "B N"], right: np.ndarray
) -> Float[np.ndarray, "B B"]:
    """In how many pairs a correct response of prompt b is likelier than an incorrect
    one of prompt c, ties one half."""
    size = len(log_prob)
    good, owner = log_prob[right], np.nonzero(right)[0]
    found = np.zeros((size, size))
    for c in range(size):
        bad = np.sort(log_prob[c][~right[c]])
        ends = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
        found[:, c] = np.bincount(owner, weights=ends / 2, minlength=size)
    return found


def pooled(won: Float[np.ndarray, "B B"], right: np.ndarray):
    """P[correct is likelier than incorrect] over pooled responses; over prompts."""
    good, bad = right.sum(1), (~right).sum(1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        pairs = (weights @ good) * (weights @ bad)
        total = ((weights @ won) * weights).sum(1)
        return np.where(pairs > 0, total / np.where(pairs > 0, pairs, 1), 0.5)

    return over_prompts(statistic, len(won))


def ordering(
    log_prob: Float[np.ndarray, "B N"], right: np.ndarray
) -> tuple[list[float], list[float]]:
    """How far F_correct lies above F_incorrect at most, and how far below.

        violation  = max_t F_correct(t) - F_incorrect(t), 0 where correct responses
                     are stochastically larger,
        separation = max_t F_incorrect(t) - F_correct(t).

    A maximum of noisy differences is never below 0, and its own bootstrap is biased; so
    the interval is the estimate -+ c, cut at 0 and 1, with c the 1 - level quantile of
    max_t |D*(t) - D(t)| over resampled prompts (D = F_correct - F_incorrect): a band
    that holds at all t together. A resample that lacks a kind counts as a deviation
    of 1.
    """
    points = np.quantile(log_prob, np.linspace(0, 1, THRESHOLDS), method="inverted_cdf")
    points = np.unique(points)
    upto = lambda some: _counts_upto(log_prob, some, points)
    good, bad = upto(right), upto(~right)

    def difference(weights: np.ndarray) -> np.ndarray:
        one, other = weights @ good, weights @ bad
        with np.errstate(invalid="ignore"):
            return one / one[:, -1:] - other / other[:, -1:]

    size = len(log_prob)
    middle = difference(np.full((1, size), 1 / size))[0]

    def deviation(weights: np.ndarray) -> np.ndarray:
        parts = [
            np.abs(difference(weights[i : i + _AT_ONCE]) - middle).max(1)
            for i in range(0, len(weights), _AT_ONCE)
        ]
        return np.nan_to_num(np.concatenate(parts), nan=1.0)

    # The upper end at twice the level, which is two-sided: the quantile 1 - level.
    band = over_prompts(deviation, size, level=2 * LEVEL).high
    around = lambda x: [x, max(0.0, x - band), min(1.0, x + band)]
    return around(float(middle.max())), around(float(-middle.min()))


def _counts_upto(
    log_prob: Float[np.ndarray, "B N"], some: np.ndarray, points: np.ndarray
) -> Float[np.ndarray, "B T"]:
    """How many of a prompt's responses in `some` have log_prob <= each point."""
    found = np.zeros((len(log_prob), len(points)))
    for b, values in enumerate(log_prob):
        found[b] = np.searchsorted(np.sort(values[some[b]]), points, "right")
    return found


def draw(found: Found) -> dict[str, Figure]:
    cells = found["cells"]
    tasks, models = plots.tasks_of(cells), plots.models_of(cells)
    figure, axes = plt.subplots(
        max(1, len(tasks)),
        max(1, len(models)),
        figsize=(3.2 * max(1, len(models)) + 0.6, 2.5 * max(1, len(tasks)) + 0.4),
        sharex="row",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for cell in cells:
        axis = axes[tasks.index(cell["task"]), models.index(cell["model"])]
        axis.set_visible(True)
        plots.histograms(axis, cell["edges"], cell["counts"])
        title = f"{cell['model']}, {cell['task']}"
        if cell["within"] is not None:
            title += f"\nP[correct likelier] {interval(cell['within'])}"
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("log-probability, nats")
        if axis is axes[tasks.index(cell["task"]), 0]:
            axis.set_ylabel("share of responses, %")
    return {"fig6": figure}


def ordered(cell: dict[str, Any], cells: int = 1) -> bool | None:
    """Are correct responses stochastically larger in log-probability, pooled?

    False where the violation is above 0; True where it is not shown to be, and the
    separation is; None where neither is. Of one of several cells, the intervals are
    widened for their number, that of the violation not: it is to be ruled out.
    """
    if sign(cell["violation"]):
        return False
    return sign(widened(cell["separation"], cells))


def tell(found: Found) -> str:
    rows = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "P[correct likelier], pooled": (cell["pooled"], 1),
            "within a prompt": (cell["within"], 1),
            "prompts with both": cell["prompts_with_both"],
            "violation of dominance": (cell["violation"], 1),
            "separation": (cell["separation"], 1),
            "stochastically larger": spoken(ordered(cell)),
            "likelier within a prompt": spoken(sign(cell["within"], than=0.5)),
        }
        for cell in found["cells"]
    ]
    return (
        f"{markdown(rows)}\n\nThe violation is the most by which the distribution "
        "function of correct responses lies above that of incorrect ones, the "
        "separation the most by which it lies below. An interval can show that the "
        "violation is not 0, never that it is 0: `yes` means that none was shown, up "
        "to its upper end. Nothing is estimated with fewer than "
        f"{FEW} prompts that have responses of both kinds."
    )


def judge(found: Found) -> list[Check]:
    cells = found["cells"]
    order = [ordered(cell, len(cells)) for cell in cells]
    above = lambda name: signs([cell[name] for cell in cells], than=0.5)
    rule = "of a random correct and a random incorrect response, "
    return [
        Check(
            "correct responses have stochastically larger log-probability",
            mostly(order),
            "of the two distribution functions, pooled over prompts: yes where no "
            "violation of dominance is shown and a separation is; the contrary where a "
            "violation is; more cells yes; " + WIDENED,
            counted(cells, order),
        ),
        Check(
            "a correct response is likelier than an incorrect one",
            mostly(above("pooled")),
            f"{rule}pooled over prompts, the correct one is likelier with probability "
            "above 1/2 in more cells than below; " + WIDENED,
            counted(cells, above("pooled")),
        ),
        Check(
            "and so within a prompt: it is not that easy prompts have likely responses",
            mostly(above("within")),
            f"{rule}of the same prompt, the correct one is likelier with probability "
            "above 1/2 (mean over prompts) in more cells than below; " + WIDENED,
            counted(cells, above("within")),
        ),
    ]


EXPERIMENT = Experiment(
    name="fig6",
    title="log-probability of correct and incorrect responses",
    paper="Figures 1c and 6",
    runs=inference.evaluations,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
