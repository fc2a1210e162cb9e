"""Cells whose modes were searched, written from known laws of responses."""

from pathlib import Path

import fabricated_draws as fabricated

from experiments.failures.cases import modes, with_modes
from experiments.reproduce import inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from jsharp import files

N = 6
RIGHT = {"1+2=3": 0.5, "2+1=3": 0.3, "1+2=4": 0.2}
WRONG = {"1+2=4": 0.45, "1+2=3": 0.25, "2+1=3": 0.2, "2+1=5": 0.1}
SURE = {"1+2=3": 0.8, "1+2=4": 0.2}
TIED = {"1+2=3": 0.4, "2+1=4": 0.4, "1+2=5": 0.2}
LAWS = [(law, "3") for law in (RIGHT, WRONG, SURE, TIED)] * 4
UNPROVED = 14  # a prompt of SURE whose mode its draws prove, and the search does not
FORMS = [({"4": 0.6, "1+2=3": 0.25, "2+1=3": 0.15}, "3")] * 8


def write(directory: Path) -> Config:
    """Responses and modes of LAWS, and of FORMS for the base of two forms."""
    config = Config(
        names=(),
        output_dir=directory,
        models=("embedded",),
        tasks=("arithmetic",),
        generations=N,
    )
    for some, laws in zip(with_modes(config), (LAWS, FORMS), strict=True):
        ((model, task),) = some.settings()
        answered = folder(some, inference.evaluation(some, model, task))
        fabricated.write(
            answered / "responses.jsonl", fabricated.draws(laws, N, seed=5)
        )
        path = folder(some, modes(some, model, task)) / "modes.jsonl"
        path.parent.mkdir(parents=True)
        lines = fabricated.modes(laws)
        if laws is LAWS:
            lines[UNPROVED] |= {"exact": False, "mass_upper": 1.0, "ties": []}
        files.write_lines(path, lines)
    return config


def groups(laws: list[tuple[fabricated.Law, str]]) -> list[list[dict]]:
    """The N draws of each prompt that `write` has written."""
    return [group[1:] for group in fabricated.draws(laws, N, seed=5)]
