"""What a run will do, known and checked before a weight is read."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jsharp.commands import model
from jsharp.commands.questions import Questions
from jsharp.commands.questions import read as read_questions
from jsharp.commands.settings import require
from jsharp.commands.stream import Record
from jsharp.lm import huggingface
from jsharp.lm.config import TransformerConfig
from jsharp.train import metrics
from jsharp.train.checks import check
from jsharp.train.config import Config
from jsharp.train.examples import order
from jsharp.train.recipes import Recipe, recipe
from jsharp.train.trainee import Trainee, trainee

# They do not decide what is computed; files are pinned by their content.
_APART = (
    *("output_dir", "resume", "allow_changes", "report_to", "draws"),
    *("save_steps", "save_total_limit"),
)
_FILES = ("prompts", "eval_prompts", "train_data", "eval_data")


class Plan(NamedTuple):
    """What is known before a weight is read."""

    config: Config
    directory: Path
    fingerprint: Record  # of the base's files
    model: TransformerConfig
    questions: Questions
    held_out: Questions | None
    recipe: Recipe
    trainee: Trainee
    places: tuple[Int[np.ndarray, " _"], ...]  # of the prompts of each round
    starts: tuple[int, ...]  # the step at which each round begins, and the last one

    @property
    def total(self) -> int:
        return self.starts[-1]

    def rows(self, r: int, step: int, count: int) -> Int[np.ndarray, " b"]:
        """Which of the `count` examples of round r are the batch of a step."""
        if self.recipe.single:
            return np.arange(count)
        size = self.config.batch_size
        return order(self.config.seed, r, step - self.starts[r], count, size)

    def epoch(self, r: int, step: int) -> float:
        """Passes over the prompts, of round r where it has its own, after `step`."""
        first = 0 if self.recipe.single else self.starts[r]
        last = self.total if self.recipe.single else self.starts[r + 1]
        return self.config.num_train_epochs * (step - first) / (last - first)

    def identity(self, algorithm: str) -> Record:
        """What must agree for a run to go on."""
        options = dataclasses.asdict(self.config)
        for name in _FILES:
            path = options[name]
            options[name] = None if path is None else model.digest(path)
        held = self.held_out.identity if self.held_out else None
        return {
            "algorithm": algorithm,
            **{k: v for k, v in options.items() if k not in _APART},
            **self.fingerprint,
            "steps": self.starts if not self.recipe.single else (0, self.total),
            "train_questions": self.questions.identity,
            "eval_questions": held,
        }


def prepare(config: Config) -> Plan:
    """Check options, data and model, but for the weights.

    Raises ValueError or OSError, naming the option, or the file with line and field.
    """
    check(config)
    metrics.check(config.report_to)
    directory = model.directory(config.model_name_or_path)
    known = huggingface.check(directory, **config.weights)
    read = functools.partial(
        read_questions,
        settings=config,
        directory=directory,
        room=config.max_completion_length,
        taken=(),
    )
    questions = read(config.training)
    held_out = read(config.held_out) if config.held_out else None
    chosen = recipe(config)
    places = deal(config, chosen, len(questions.entries))
    starts = tuple(steps(config, chosen, places))
    warm, total = config.warmup_steps, starts[-1]
    require("warmup_steps", warm < total, f"below the run's {total} steps", warm)
    return Plan(
        config,
        directory,
        model.fingerprint(directory),
        known,
        questions,
        held_out,
        chosen,
        trainee(config, known),
        places,
        starts,
    )


def deal(
    config: Config, recipe: Recipe, count: int
) -> tuple[Int[np.ndarray, " _"], ...]:
    """The prompts of each round.

    All of them; or, where rounds add up (Alg 1), each round its share; or, where a
    round is a step, a batch: every epoch in another order.
    """
    rounds, size = config.rounds, config.batch_size
    if recipe.keeps:
        if rounds > count:
            raise ValueError(
                f"--rounds must be at most the {count} prompts, found {rounds}"
            )
        shuffled = np.random.default_rng(config.seed).permutation(count)
        return tuple(np.array_split(shuffled, rounds))
    if recipe.single:
        batches = range(config.num_train_epochs * -(-count // size))
        return tuple(order(config.seed, 0, step, count, size) for step in batches)
    return (np.arange(count),) * rounds


def steps(
    config: Config, recipe: Recipe, places: tuple[Int[np.ndarray, " _"], ...]
) -> Iterator[int]:
    """The step at which each round begins, and the number of all steps."""
    sizes = [len(some) * recipe.count for some in places]
    held = itertools.accumulate(sizes) if recipe.keeps else sizes
    per_pass = lambda count: -(-count // config.batch_size)
    each = [
        1 if recipe.single else config.num_train_epochs * per_pass(count)
        for count in held
    ]
    return itertools.accumulate(each, initial=0)
