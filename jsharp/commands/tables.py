"""What `jsharp evaluate` prints: one line for each way to pick a response."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from jsharp.commands.results import chosen
from jsharp.commands.stream import Record

Numbers = Sequence[float | None] | None
Row = Mapping[str, Any]

_NAMES = {"greedy": "greedy", "sample": "one sample", "coverage": "any of {n} is right"}


def show(results: Record) -> None:
    """The table of results.json, and the fraction of prompts that are sharpened."""
    n, level = results["num_generations"], results["resampling"]["level"]
    title = f"{results['prompts']} prompts, {100 * (1 - level):g}% intervals over them"
    _print(title, results["rows"], n, signed=False)
    if results["sharpened"] is not None:
        _show_sharpened(results["sharpened"])


def show_comparison(found: Record) -> None:
    """The table of comparison.json: the second run minus the first."""
    n, level = found["num_generations"], found["resampling"]["level"]
    title = f"second minus first, {found['prompts']} prompts, {100 * (1 - level):g}%"
    title += " intervals; lift over the first's greedy"
    _print(title, found["rows"], n, signed=True)
    if (greedy := found["greedy"]) is not None:
        won, lost, p_value = greedy["won"], greedy["lost"], greedy["p_value"]
        _say(f"greedy: {won} prompts won, {lost} lost, sign test p = {p_value:.3g}")
    if not found["same_base"]:
        _say(
            "the runs were scored under two bases: logprob_base is not compared, and "
            "each best of k is by its own base"
        )


def _print(title: str, rows: Sequence[Row], n: int, *, signed: bool) -> None:
    rows = chosen(rows, n)
    columns = [column for column in _columns(signed=signed) if _says_more(column, rows)]
    table = Table(
        title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("picked by", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right")
    headed = False
    for row in rows:
        if row["by"] not in _NAMES and not headed:
            table.add_row(f"best of {n} by")
            headed = True
        name = _NAMES.get(row["by"], f" {row['by']}").format(n=n)
        table.add_row(name, *(column.show(row[column.field]) for column in columns))
    _console().print(table)


class _Column(NamedTuple):
    title: str
    field: str
    show: Callable[[Numbers], str]


def _columns(*, signed: bool) -> list[_Column]:
    sign = "+" if signed else ""
    estimate = lambda form: lambda x: format(x[0], form) if x else ""
    return [
        _Column("accuracy, %", "accuracy", lambda x: interval(x, f"{sign}.1f", 100)),
        _Column("lift, %", "percent_lift", lambda x: interval(x, "+.1f")),
        _Column("log pi_base", "logprob_base", estimate(f"{sign}.2f")),
        _Column("log pi", "logprob", estimate(f"{sign}.2f")),
        _Column("tokens", "num_tokens", estimate(f"{sign}.1f")),
    ]


def _says_more(column: _Column, rows: Sequence[Row]) -> bool:
    """A model that is its own base has one log-probability."""
    if column.field == "logprob":
        return any(row["logprob"] != row["logprob_base"] for row in rows)
    return any(row[column.field] is not None for row in rows)


def interval(numbers: Numbers, form: str, scale: int = 1) -> str:
    """estimate [low, high]; an end that is null is infinite."""
    if numbers is None:
        return ""
    shown = ["inf" if x is None else format(scale * x, form) for x in numbers]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _show_sharpened(found: Record) -> None:
    known = f"{found['exact']} of {found['prompts']} prompts have an exact mode"
    if not found["exact"]:
        _say(f"Def 3.1: {known}: nothing is known")
        return
    mass = [interval(found[name], ".4g") for name in ("mass", "base_mass")]
    _say(f"Def 3.1: {known}; on them pi(Y*|x) is {mass[0]}, pi_base's {mass[1]}")
    for line in found["fractions"]:
        low, high = line["bounds"]
        _say(
            f"  pi(Y*|x) >= 1 - {line['delta']:g} on "
            f"{interval(line['fraction'], '.1f', 100)} % of them; "
            f"on {100 * low:.1f} to {100 * high:.1f} % of all"
        )


def _say(message: str) -> None:
    _console().print(message, soft_wrap=True)


def _console() -> Console:
    """A file is as wide as the table; a terminal folds what is too long for it."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    return console
