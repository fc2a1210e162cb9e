"""Responses of a base to held-out prompts: what figures 1 to 6 are read from.

One run a (model, task): greedy and N samples to each prompt with the base's
log-probability (App A.1). N' < N is not subsampled but summed over all subsets
(`jsharp.selection.best_of_every_k`), so that there is no seed to average over.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.reproduce import bases
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from experiments.reproduce.work import Run
from jsharp.commands.results import RESPONSES, Sampled, gather, picks_of
from jsharp.evaluate import Pick


def evaluation(config: Config, model: str, task: str) -> Run:
    """`jsharp evaluate` of a base: `model` is a name of config.settings()."""
    checkpoint = dict(map(bases.named, config.models))[model]
    files = config.files_of(task)
    words = ["evaluate", "--model-name-or-path", checkpoint, "--task", task]
    words += [] if files is None else ["--data", files[1]]
    for option, value in config.held_out_options.items():
        words += [f"--{option}", str(value)]
    words += ["--num-generations", str(config.generations), "--batch-size", "256"]
    return Run(f"evaluate/{model}/{task}", tuple(words), bases.made(model))


def evaluations(config: Config) -> list[Run]:
    """Those of every cell."""
    return [evaluation(config, *cell) for cell in config.settings()]


class Cell(NamedTuple):
    """A (model, task): its responses, and every way to pick one of them."""

    model: str
    task: str
    sampled: Sampled
    picks: list[Pick]

    def pick(self, by: str, k: int) -> Pick:
        """greedy and sample have k = 1; ValueError where there is no such pick."""
        for pick in self.picks:
            if (pick.by, pick.k) == (by, k):
                return pick
        raise ValueError(f"{self.model}, {self.task}: no best of {k} by {by}")

    def field(self, name: str) -> np.ndarray:
        """A field of the samples' records, [B N]."""
        return np.array([[r[name] for r in group] for group in self.sampled.samples])


def cells(config: Config) -> list[Cell]:
    """Of every (model, task), in the order of `Config.settings`."""
    paths = {
        cell: folder(config, evaluation(config, *cell)) / RESPONSES
        for cell in config.settings()
    }
    return [_read(*cell, str(path)) for cell, path in paths.items()]


@functools.lru_cache(maxsize=32)  # six figures read the same files
def _read(model: str, task: str, path: str) -> Cell:
    sampled = gather(Path(path))
    return Cell(model, task, sampled, picks_of(sampled))
