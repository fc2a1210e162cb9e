"""What the figures draw: heat maps of task and model, curves in N, histograms.

An interval is [estimate, low, high]; null where it is infinite, or where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from experiments.reproduce.verdicts import sign
from experiments.style import PALETTE

Row = Mapping[str, Any]  # of one cell: model, task and numbers
Value = Callable[[Row], Sequence[float | None] | None]  # an interval of a cell
Curve = Callable[[Row], Sequence[Sequence[float | None] | None]]  # one for each k

LARGEST_LIFT = 100.0  # per cent: beyond it the colour of a heat map does not change
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # of N
_LIGHT = 0.55  # relative luminance above which text is black


def tasks_of(cells: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(cell["task"] for cell in cells))


def models_of(cells: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(cell["model"] for cell in cells))


def color_of(model: str, cells: Sequence[Row]) -> str:
    """The colour that a model has in every panel."""
    return PALETTE[models_of(cells).index(model) % len(PALETTE)]


def lift_text(interval: Sequence[float | None] | None) -> str:
    """Per cent over greedy, with its ends; `greedy 0` where greedy is never right."""
    if interval is None:
        return "greedy 0"
    show = lambda x: "\N{INFINITY}" if x is None else f"{x:+.0f}"
    return f"{show(interval[0])}\n[{show(interval[1])}, {show(interval[2])}]"


def share_text(interval: Sequence[float | None] | None) -> str:
    """A share in per cent, with its ends."""
    if interval is None:
        return ""
    at = [100 * x for x in interval if x is not None]
    return f"{at[0]:.0f}\n[{at[1]:.0f}, {at[2]:.0f}]"


def lift_map(axis: Axes, cells: Sequence[Row], value: Value, title: str) -> None:
    """Percent lift over greedy; bold where its interval does not hold 0."""
    found = [interval for cell in cells if (interval := value(cell)) is not None]
    largest = max((abs(x[0]) for x in found if x[0] is not None), default=1.0)
    bound = min(LARGEST_LIFT, largest or 1.0)
    bold = lambda interval: sign(interval) is not None
    colors = plt.get_cmap("PuOr")
    _map(axis, cells, value, lift_text, bold, colors, Normalize(-bound, bound, True))
    axis.set_title(title)


def share_map(axis: Axes, cells: Sequence[Row], value: Value, title: str) -> None:
    """A share in per cent, from white at 0 to blue at 100."""
    colors = plt.get_cmap("Blues")
    _map(axis, cells, value, share_text, lambda _: False, colors, Normalize(0, 1))
    axis.set_title(title)


def _map(
    axis: Axes,
    cells: Sequence[Row],
    value: Value,
    text: Callable[[Sequence[float | None] | None], str],
    bold: Callable[[Sequence[float | None] | None], bool],
    colors: Colormap,
    norm: Normalize,
) -> None:
    """One square a cell, white without text where a model has no such task."""
    tasks, models = tasks_of(cells), models_of(cells)
    shade = np.full((len(tasks), len(models)), np.nan)
    for cell in cells:
        at = tasks.index(cell["task"]), models.index(cell["model"])
        interval = value(cell)
        if interval is not None:
            middle = interval[0]
            shade[at] = norm.vmax if middle is None else middle
        back = colors(norm(shade[at])) if np.isfinite(shade[at]) else (1.0, 1.0, 1.0)
        light = np.dot((0.2126, 0.7152, 0.0722), back[:3]) > _LIGHT
        axis.text(
            at[1],
            at[0],
            text(interval),
            ha="center",
            va="center",
            fontsize=8,
            color="black" if light else "white",
            fontweight="bold" if bold(interval) else "normal",
        )
    axis.imshow(np.ma.masked_invalid(shade), cmap=colors, norm=norm, aspect="auto")
    axis.set_xticks(range(len(models)), models)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.grid(False)
    axis.tick_params(length=0)


def panels(names: Sequence[str], *, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """Axes [rows, names], a column a name, its title in the first row."""
    width = 3.6 * max(1, len(names)) + 0.6
    figure, axes = plt.subplots(
        rows, max(1, len(names)), figsize=(width, 0.4 + 3.0 * rows), squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=False):
        axis.set_title(name)
    return figure, axes


def curves(
    axis: Axes,
    cells: Sequence[Row],
    value: Curve,
    *,
    all_cells: Sequence[Row],
    scale: float = 1.0,
    level: Value | None = None,
) -> None:
    """A line in k with its interval for each cell; `level` is a dotted line of it.

    Colours are those of the models in `all_cells`. Where the estimate is infinite the
    line has a gap; a band whose end is infinite reaches the edge of the axis.
    """
    bands = []
    for cell in cells:
        color = color_of(cell["model"], all_cells)
        found = [[np.nan] * 3 if x is None else x for x in value(cell)]
        middle, low, high = scale * np.array(found, float).T
        drawn = np.isfinite(middle)
        label = cell["model"] if drawn.any() else f"{cell['model']} (undefined)"
        axis.plot(cell["k"], middle, color=color, label=label)
        flat = None if level is None else level(cell)
        if flat is not None and flat[0] is not None:
            axis.axhline(scale * flat[0], color=color, ls=":", lw=1)
        ends = np.stack([np.tile(cell["k"], 2), np.concatenate([low, high])], 1)
        axis.update_datalim(ends[np.isfinite(ends[:, 1])])
        bands.append((cell["k"], low, high, drawn, color))
    axis.autoscale_view()
    limits = axis.get_ylim()
    for k, low, high, drawn, color in bands:
        ends = np.nan_to_num(low, nan=limits[1]), np.nan_to_num(high, nan=limits[1])
        axis.fill_between(k, *ends, where=drawn, color=color, alpha=0.15, lw=0)
    axis.set(xlabel="N", xscale="log", ylim=limits)
    if cells:
        axis.legend(fontsize=8)
        largest = max(cell["k"][-1] for cell in cells)
        ticks = [k for k in TICKS if k <= largest]
        axis.set_xlim(0.9, 1.1 * largest)
        axis.set_xticks(ticks, [str(k) for k in ticks])
        axis.set_xticks([], minor=True)


def histograms(
    axis: Axes, edges: Sequence[float], counts: Mapping[str, Sequence[int]]
) -> None:
    """Outlines of the share of each kind's responses in each bin, in per cent."""
    for i, (name, found) in enumerate(counts.items()):
        total = sum(found)
        if total:
            share = 100 * np.array(found) / total
            label, color = f"{name} ({total:,})", PALETTE[i]
            axis.stairs(share, edges, color=color, lw=1.2, label=label)
            axis.stairs(share, edges, color=color, alpha=0.2, fill=True)
    axis.legend(fontsize=7, loc="upper left")
