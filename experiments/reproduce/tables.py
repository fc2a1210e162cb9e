"""Numbers and tables of results as Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def interval(value: Sequence[float | None] | None, scale: float = 1.0) -> str:
    """`estimate [low, high]`, times `scale`; above all numbers ("inf") where null.

    A scale of 100 is that of percent: one decimal place.
    """
    if value is None:
        return "none"
    show = lambda x: "inf" if x is None else number(scale * x, percent=scale == 100)
    estimate, low, high = map(show, value)
    return f"{estimate} [{low}, {high}]"


def number(value: float, *, percent: bool = False) -> str:
    """Three digits, no exponent below a million; one decimal place of a percentage."""
    if percent:
        return f"{round(value, 1) + 0.0:.1f}"  # + 0.0: no negative zero
    whole = 1000 <= abs(value) < 1e6
    return f"{value:.0f}" if whole else f"{value + 0.0:.3g}"


def plain(text: str) -> str:
    """Markdown that shows the text as it is, Y*(x) and pi(y|x) too."""
    return re.sub(r"([\\`*<|])", r"\\\1", " ".join(text.split()))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows; (interval, scale) is shown as interval, text is Markdown.

    Raises ValueError where two rows have other columns.
    """
    if not rows:
        return ""

    def cell(value: Any) -> str:
        if isinstance(value, tuple):
            return interval(*value)
        if isinstance(value, float):
            return number(value)
        if value is None:
            return ""
        # A bar or a new line in it would end the cell.
        return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))

    names = list(rows[0])
    for row in rows:
        if list(row) != names:
            raise ValueError(f"expected the columns {names}, found {list(row)}")
    lines = [f"| {' | '.join(map(cell, names))} |", "|---" * len(names) + "|"]
    lines += [f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)
