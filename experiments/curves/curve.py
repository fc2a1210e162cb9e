"""A figure as data: Config -> run -> points (CSV) -> panels (PNG, SVG)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

Kind = Literal["measured", "theory", "bound"]


class Point(NamedTuple):
    """One row of the CSV: y at x, with its interval where y is not exact (else NaN)."""

    panel: str
    series: str
    kind: Kind
    x: float
    y: float
    low: float = float("nan")
    high: float = float("nan")


class Panel(NamedTuple):
    """One pair of axes; `log` names the logarithmic ones ("xy", "x", "y", "").

    `slopes` appends the log-log slope, with its 95% regression interval, to the legend
    entry of each measured series.
    """

    name: str
    x: str
    y: str
    title: str = ""
    log: str = "xy"
    slopes: bool = True


class Curve(NamedTuple):
    """A figure of `jsharp curves`; `run(config, seed)` is called in float64.

    `config` is the committed figure and `quick` its small version; both are frozen
    dataclasses of plain values. `draw` replaces the generic drawing of the panels.
    """

    name: str
    says: str
    config: Any
    quick: Any
    run: Callable[[Any, int], list[Point]]
    panels: tuple[Panel, ...]
    draw: Callable[[Figure, np.ndarray, list[Point]], None] | None = None
