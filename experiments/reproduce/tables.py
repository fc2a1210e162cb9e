"""Tables of results as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def interval(value: Sequence[float | None] | None, scale: float = 1.0) -> str:
    """`estimate [low, high]`, times `scale`; infinite ends are stored as null."""
    if value is None:
        return "none"
    at = [None if x is None else scale * x for x in value]
    show = lambda x: "inf" if x is None else f"{x:.1f}" if scale == 100 else f"{x:.3g}"
    return f"{show(at[0])} [{show(at[1])}, {show(at[2])}]"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows with the same columns; (interval, scale) is shown as interval."""
    if not rows:
        return ""

    def cell(value: Any) -> str:
        if isinstance(value, tuple):
            return interval(*value)
        if isinstance(value, float):
            return f"{value:.3g}"
        return "" if value is None else str(value)

    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    lines += [f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines)
