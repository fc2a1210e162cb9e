"""The results page: every experiment with its numbers, its making and what agrees."""

from pathlib import Path


def write(directory: Path) -> None:
    """`directory`/results.md and results.html, of all result files that are there."""
