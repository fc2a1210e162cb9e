"""Panels drawn from points: measurements as markers, theory as lines."""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.curves.curve import Curve, Panel, Point
from experiments.style import PALETTE, STYLE, THEORY
from jsharp.stats import Slope, loglog_slope

SOLID = ["-", "--", "-."]
DOTTED = [":", (0, (4, 2, 1, 2)), (0, (1, 4)), (0, (8, 3))]
SLOPE_LEVEL = 0.05  # every slope in a legend has a 95% interval


def styled() -> AbstractContextManager[None]:
    """The look of every figure, while one is drawn or saved."""
    return plt.rc_context(STYLE)


def close(figure: Figure) -> None:
    """Give a drawn figure's memory back."""
    plt.close(figure)


def by_series(points: Sequence[Point], panel: str) -> dict[str, list[Point]]:
    """The points of one panel, grouped by series in order of appearance."""
    found: dict[str, list[Point]] = {}
    for point in points:
        if point.panel == panel:
            found.setdefault(point.series, []).append(point)
    return found


def slope_of(series: Sequence[Point]) -> Slope | None:
    """The log-log slope of a measured series of at least three positive points."""
    x, y = np.array([(point.x, point.y) for point in series]).T
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if series[0].kind != "measured" or usable.sum() < 3 or np.ptp(x[usable]) == 0:
        return None
    return loglog_slope(x[usable], y[usable], level=SLOPE_LEVEL)


def draw(curve: Curve, points: Sequence[Point]) -> Figure:
    """The figure of a curve; the caller saves and closes it."""
    with styled():
        width = len(curve.panels)
        rows = 1 if width < 4 else 2
        columns = -(-width // rows)
        panels = [by_series(points, panel.name) for panel in curve.panels]
        entries = 0 if curve.draw else max(map(len, panels))
        size = (5.2 * columns, (4.1 + 0.17 * entries) * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        if curve.draw is not None:
            curve.draw(figure, axes, list(points))
            return figure
        styles = styles_of(points)
        for axis, panel in itertools.zip_longest(axes.flat, curve.panels):
            if panel is None:
                axis.set_axis_off()
            else:
                draw_panel(axis, panel, by_series(points, panel.name), styles)
        return figure


def styles_of(points: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """One look for a series in every panel: colours measured, grey lines theory."""
    measured = zip(itertools.cycle(PALETTE), itertools.cycle("osD^vPX"), strict=False)
    cycles = {
        "measured": (
            {"color": c, "marker": m, "ms": 4, "ls": "none"} for c, m in measured
        ),
        "theory": ({"color": THEORY, "ls": line} for line in itertools.cycle(SOLID)),
        "bound": ({"color": THEORY, "ls": line} for line in itertools.cycle(DOTTED)),
    }
    styles: dict[str, dict[str, Any]] = {}
    for point in points:
        if point.series not in styles:
            styles[point.series] = next(cycles[point.kind])
    return styles


def draw_panel(
    axis: Axes,
    panel: Panel,
    series: dict[str, list[Point]],
    styles: dict[str, dict[str, Any]],
) -> None:
    """One panel: error bars are intervals, the legend stands below the axes."""
    for name, points in series.items():
        x, y, low, high = np.array([point[3:] for point in points], float).T
        if points[0].kind == "measured":
            slope = slope_of(points) if panel.slopes else None
            label = name if slope is None else f"{name}: {_slope_text(slope)}"
            known = np.isfinite(low) & np.isfinite(high)
            error = np.where(known, np.abs(np.array([y - low, high - y])), 0.0)
            bars = error if known.any() else None
            axis.errorbar(x, y, yerr=bars, label=label, capsize=2, **styles[name])
        else:
            axis.plot(x, y, label=name, lw=1.2, zorder=1, **styles[name])
    axis.set_xscale("log" if "x" in panel.log else "linear")
    axis.set_yscale("log" if "y" in panel.log else "linear")
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    axis.set_title(panel.title, fontsize=10)
    axis.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _slope_text(slope: Slope) -> str:
    return f"slope {slope.slope:.2f} [{slope.low:.2f}, {slope.high:.2f}]"
