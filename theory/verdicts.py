"""Verdicts as plain records (JSON), and their tables for a terminal and the README."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from theory.claim import Exponent, Report

Record = dict[str, Any]


def record(report: Report) -> Record:
    """A report as plain JSON values; an infinite value is the string "inf"."""
    claim, verdict = report.claim, report.verdict
    return {
        "claim": claim.id,
        "statement": claim.statement,
        "kind": claim.kind,
        "repairs": claim.repairs,
        "expected": claim.expected,
        "outcome": verdict.outcome,
        "as_expected": report.as_expected,
        "left": _finite(verdict.left),
        "right": _finite(verdict.right),
        "tightness": _finite(verdict.tightness),
        "level": verdict.level,
        "instances": verdict.instances,
        "queries": verdict.queries,
        "twins": {
            twin.name: {
                "expected": twin.expected,
                "outcome": report.twins[twin.name].outcome,
                "tightness": _finite(report.twins[twin.name].tightness),
            }
            for twin in claim.twins
        },
        "exponents": [_exponent(exponent) for exponent in report.exponents],
    }


def _exponent(exponent: Exponent) -> Record:
    return {
        "of": exponent.of,
        "bound": exponent.bound,
        "predicted": exponent.predicted,
        **exponent.found._asdict(),
        "agrees": exponent.agrees,
    }


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _twins(row: Record) -> str:
    right = [twin["outcome"] == twin["expected"] for twin in row["twins"].values()]
    return f"{sum(right)}/{len(right)}"


def _level(row: Record) -> str:
    return f"{row['level']:.0e}" if row["level"] else "exact"


def _tightness(row: Record) -> str:
    return f"{float(row['tightness']):.3g}"


def table(records: Sequence[Record]) -> Table:
    """One row a claim, at most 80 columns wide.

    `known` is the outcome it should have, left/right is taken at the tightest of the
    instances tried, `twins` counts the planted bugs caught and the controls kept.
    """
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("claim", "known", "verdict"):
        rows.add_column(name, overflow="fold")
    for name in ("left/right", "tried", "level", "twins"):
        rows.add_column(name, justify="right", overflow="fold")
    for row in records:
        colour = "green" if row["as_expected"] else "bold red"
        rows.add_row(
            row["claim"],
            row["expected"],
            f"[{colour}]{row['outcome']}[/]",
            _tightness(row),
            str(row["instances"]),
            _level(row),
            _twins(row),
        )
    return rows


def exponents(records: Sequence[Record]) -> Table:
    """The rates that hidden-constant claims predict, beside the fitted ones."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("claim", "rate", "theory", "fitted"):
        rows.add_column(name, overflow="fold")
    for row in records:
        for rate in row["exponents"]:
            colour = "green" if rate["agrees"] else "bold red"
            rows.add_row(
                row["claim"],
                rate["of"],
                f"{rate['bound']} {rate['predicted']:.3g}",
                f"[{colour}]{rate['slope']:.3f} "
                f"({rate['low']:.3f} to {rate['high']:.3f})[/]",
            )
    return rows


def markdown(records: Sequence[Record]) -> str:
    """The README's table of claims."""
    lines = [
        "| claim | statement | verdict | left/right | instances | level | twins |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in records:
        verdict = f"**{row['outcome']}**" if row["outcome"] != "holds" else "holds"
        cells = [
            row["claim"],
            row["statement"].replace("|", "\\|"),
            verdict,
            _tightness(row),
            str(row["instances"]),
            _level(row),
            _twins(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
