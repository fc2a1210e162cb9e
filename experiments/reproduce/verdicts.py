"""From intervals to what they show: in a cell, and over all cells.

A cell's outcome is True where its interval lies above 0, False where it lies below, and
None where it holds 0: then nothing was shown. Where a statement is about several cells,
their intervals are first widened, so that all of them hold together at LEVEL.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from jsharp.commands.results import SEED, numbers
from jsharp.stats import Interval, bootstrap, mean_interval

LEVEL = 0.05  # of every interval of the figures, each cell by itself
WIDENED = "intervals widened for the number of cells"  # as `signs` does


def sign(interval: Sequence[float | None] | None, than: float = 0.0) -> bool | None:
    """Is it above `than`? None where that is not shown, or there is no interval.

    An end that is infinite is stored as null: such a high end lies above everything.
    A low end of null decides nothing.
    """
    if interval is None or interval[1] is None:
        return None
    if interval[1] > than:
        return True
    return False if interval[2] is not None and interval[2] < than else None


def widened(
    interval: Sequence[float | None] | None, cells: int
) -> list[float | None] | None:
    """The interval of one of several cells, at LEVEL / cells (Bonferroni).

    Each end is moved away from the estimate as that of a normal law would be.
    """
    if interval is None:
        return None
    middle, *ends = interval
    quantile = lambda level: float(scipy.stats.norm.isf(level / 2))
    factor = quantile(LEVEL / cells) / quantile(LEVEL)
    if middle is None:  # infinite: so is the high end, and the low one stays
        return [middle, *ends]
    moved = [None if end is None else middle + factor * (end - middle) for end in ends]
    return [middle, *moved]


def signs(
    intervals: Sequence[Sequence[float | None] | None], than: float = 0.0
) -> list[bool | None]:
    """`sign` of every cell's interval, each widened for as many cells."""
    return [sign(widened(each, len(intervals)), than) for each in intervals]


def everywhere(outcomes: Sequence[bool | None]) -> bool | None:
    """True in every cell? One contrary cell refutes it, an undecided one leaves it."""
    if False in outcomes:
        return False
    return None if None in outcomes or not outcomes else True


def mostly(outcomes: Sequence[bool | None]) -> bool | None:
    """More cells show it than show the contrary; None where neither are more."""
    yes, no = outcomes.count(True), outcomes.count(False)
    return None if yes == no else yes > no


def somewhere(outcomes: Sequence[bool | None]) -> bool | None:
    """True in one cell at least; False where every one shows the contrary."""
    if True in outcomes:
        return True
    return None if None in outcomes or not outcomes else False


def spoken(outcome: bool | None) -> str:
    """An outcome as a word of a table."""
    return {True: "yes", False: "the contrary", None: "nothing shown"}[outcome]


def counted(cells: Sequence[Mapping[str, Any]], outcomes: Sequence[bool | None]) -> str:
    """Which cells show what: the evidence of a check."""
    parts = []
    for outcome in (True, False, None):
        named = [
            f"{cell['model']} {cell['task']}"
            for cell, found in zip(cells, outcomes, strict=True)
            if found is outcome
        ]
        if named:
            parts.append(f"{spoken(outcome)}: {len(named)} ({', '.join(named)})")
    return "; ".join(parts) or "no cell"


def mean_of(values: np.ndarray) -> list[float | None] | None:
    """[mean, low, high] over prompts, as a results file holds it."""
    return numbers(mean_interval(values, level=LEVEL, seed=SEED))


def over_prompts(
    statistic: Callable[[np.ndarray], np.ndarray],
    size: int,
    *,
    level: float = LEVEL,
) -> Interval:
    """Bootstrap over `size` prompts of a statistic of their weights: [R B] -> [R].

    A resample of the prompts is the share w_b of its draws that prompt b has, and a
    mean over it is w @ values: no copy of the values is made.
    """

    def weighted(rows: np.ndarray) -> np.ndarray:
        counts = np.zeros((len(rows), size))
        np.add.at(counts, (np.arange(len(rows))[:, None], rows), 1)
        return statistic(counts / size)

    return bootstrap(np.arange(size), weighted, level=level, seed=SEED)
