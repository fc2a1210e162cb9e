"""Prompts for the tiny checkpoint, and what a run left in its directory."""

import json
from pathlib import Path
from typing import Any

PROMPTS = [
    {"id": f"p{i}", "prompt": text, "answer": "a"}
    for i, text in enumerate(("ab", "é", "dcba dcb", "a", "bb", "cab", "d a"))
]
HORIZON = 5
SIZES = ("--max-completion-length", HORIZON, "--sample-batch-size", 4)
# So small a gradient that Adam's step is in proportion to it (eps is 1e-8), not to its
# sign, whose rounding near zero would decide. All tests have these, so that they share
# what is compiled.
RULE = (
    *("--learning-rate", 0.5, "--max-grad-norm", 1e-8, "--weight-decay", 0.01),
    *("--lr-scheduler-type", "constant", "--batch-size", 4),
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps(directory: Path) -> list[dict[str, Any]]:
    """The lines of the optimiser's steps in metrics.jsonl."""
    return [line for line in lines(directory / "metrics.jsonl") if "loss" in line]


def contents(directory: Path) -> dict[str, bytes]:
    """Every byte that a run and the same run taken up again must share."""
    found = {"metrics": (directory / "metrics.jsonl").read_bytes()}
    for name in ("hf", "adapter", "eval", "rounds"):
        for path in sorted((directory / name).rglob("*")):
            if path.is_file() and not path.name.endswith(".run.json"):
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found
