"""Batches of demonstrations: prompts and completions of several tasks, as tokens."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jsharp.lm.tokenizer import Tokenizer, encode_prompts, word_tokenizer
from jsharp.policy import Prompts, Response
from jsharp.tasks import Task


def tokenizer_of(tasks: tuple[Task, ...]) -> Tokenizer:
    """A token for every word, digit and sign of what the tasks ask and show."""
    asked = [t.prompt(p) for t in tasks for p in t.train + t.held_out]
    shown = [text for t in tasks for p in t.train for text in t.solutions(p)]
    return word_tokenizer(asked + shown)


class Lesson(NamedTuple):
    """A task, and the tokens of its longest prompt: every batch of it has one shape."""

    task: Task
    prompt_length: int


def lesson(task: Task, tokenizer: Tokenizer) -> Lesson:
    prompts = (task.prompt(problem) for problem in task.train + task.held_out)
    return Lesson(task, max(len(tokenizer.encode(text)) for text in prompts))


def check_horizon(task: Task, tokenizer: Tokenizer, horizon: int) -> None:
    """ValueError where a demonstration and its end token exceed `horizon`."""
    texts = (text for problem in task.train for text in task.solutions(problem))
    longest = max(len(tokenizer.encode(text)) for text in texts)
    if longest + 1 > horizon:
        raise ValueError(
            f"max_completion_length: expected at least {longest + 1} for the "
            f"demonstrations of {task.name}, got {horizon}"
        )


def batch(
    step: int,
    lessons: tuple[Lesson, ...],
    tokenizer: Tokenizer,
    *,
    seed: int,
    weights: tuple[float, ...],
    batch_size: int,
    end: int,
) -> tuple[Prompts, Response]:
    """One demonstration for each of `batch_size` training problems of one task.

    A function of (seed, step) alone: the task is drawn by `weights`, the problems and
    their demonstrations uniformly. Rows are padded to a multiple of 8 tokens, so that
    a handful of shapes is compiled.
    """
    rng = np.random.default_rng((seed, step))
    task, prompt_length = lessons[rng.choice(len(lessons), p=weights)]
    chosen = rng.integers(len(task.train), size=batch_size)
    problems = [task.train[index] for index in chosen]
    texts = [task.demonstration(rng, problem) for problem in problems]
    rows = [[*tokenizer.encode(text), end] for text in texts]
    longest = max(map(len, rows))
    tokens = np.full((len(rows), 1, -(-longest // 8) * 8), end, np.int32)
    for i, row in enumerate(rows):
        tokens[i, 0, : len(row)] = row
    length = np.asarray([[len(row)] for row in rows], np.int32)
    prompts = encode_prompts(
        tokenizer,
        [task.prompt(problem) for problem in problems],
        pad=end,
        length=prompt_length,
    )
    undrawn = np.zeros(length.shape, np.float32)  # no sampler saw these responses
    return prompts, Response(*map(jnp.asarray, (tokens, length, undrawn)))
