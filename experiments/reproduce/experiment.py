"""What an experiment is: runs, then numbers read from their files, then figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.reproduce.config import Config
from experiments.reproduce.work import Run

Found = dict[str, Any]  # JSON: what a results file holds


class Check(NamedTuple):
    """A statement of the paper, and whether what was measured agrees with it.

    `agrees` is computed from the numbers by a rule that `rule` says in words; None
    where they cannot tell.
    """

    statement: str
    agrees: bool | None
    rule: str
    evidence: str


def _nothing(config: Config) -> None:
    """All its inputs are made by runs."""


class Experiment(NamedTuple):
    """One figure or table of the report.

    runs(config) -> the commands whose output it reads.
    measure(config) -> numbers, from files under config.output_dir alone; JSON. Its
        intervals are [estimate, low, high], seeds of resamplings fixed.
    draw(found) -> one matplotlib figure for each of `figures`, from the numbers alone.
    tell(found) -> Markdown: what is seen, with a table where one helps.
    judge(found) -> the paper's statements, each beside what was measured.
    prepare(config) writes the inputs of its runs that no run makes; called under the
        lock of OUTPUT_DIR, before the runs.
    """

    name: str  # fig3: of the results file and of the command
    title: str
    paper: str  # which figure or table of the paper it is; "" where there is none
    runs: Callable[[Config], list[Run]]
    measure: Callable[[Config], Found]
    draw: Callable[[Found], dict[str, Figure]]  # by file name, without its ending
    tell: Callable[[Found], str]
    judge: Callable[[Found], list[Check]]
    prepare: Callable[[Config], None] = _nothing


def folder(config: Config, run: Run) -> Path:
    """Where the run's output is."""
    return config.output_dir / run.name
