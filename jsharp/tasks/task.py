"""A task: problems, the prompt of each, demonstrations to learn from, and a checker.

    problem -> prompt -> [policy] -> text -> answer (to vote with) | correct (to grade)

One task is one file that builds one record, named in `jsharp.tasks`.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

Problem = Any  # any hashable value with a repr that is the same in every run


class Task(NamedTuple):
    """A record of problems and pure functions; texts are completions without prompt.

    train, held_out: disjoint problems, the same on every machine and in every run; in
        the order of a hash, or of the file that holds them (where one may be empty).
    alphabet: every character that a prompt or a demonstration may contain, once.
    prompt(problem) -> the text that the model reads; distinct problems differ.
    demonstration(rng, problem) -> one completion, uniform over `solutions(problem)`.
    solutions(problem) -> every distinct completion in the task's normal form, sorted.
    answer(text) -> what majority voting counts; None where the text is malformed.
    correct(problem, text) -> whether the completion solves the problem.
    """

    name: str
    train: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    alphabet: str
    prompt: Callable[[Problem], str]
    demonstration: Callable[[np.random.Generator, Problem], str]
    solutions: Callable[[Problem], tuple[str, ...]]
    answer: Callable[[str], str | None]
    correct: Callable[[Problem, str], bool]


def split(
    problems: Iterable[Problem], *, name: str, held_out: int
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """(train, held out): the `held_out` problems of least SHA-256 are never trained on.

    The hash depends on the task's name and on the problem alone, so both parts are the
    same everywhere; they come back in the order of the hash, so that any leading slice
    is itself an unbiased draw.
    """
    digest = lambda problem: hashlib.sha256(f"{name}:{problem}".encode()).digest()
    ordered = tuple(sorted(problems, key=digest))
    if not 0 < held_out < len(ordered):
        raise ValueError(
            f"task {name}: held_out must lie between 1 and {len(ordered) - 1} "
            f"(there are {len(ordered)} problems), got {held_out}"
        )
    return ordered[held_out:], ordered[:held_out]


def uniform(rng: np.random.Generator, solutions: tuple[str, ...]) -> str:
    """One of the solutions, each with probability 1/len(solutions)."""
    return solutions[rng.integers(len(solutions))]


@functools.cache
def prompt_length(task: Task) -> int:
    """Characters of the longest prompt, so that every batch of a task has one shape."""
    return max(len(task.prompt(problem)) for problem in task.train + task.held_out)
