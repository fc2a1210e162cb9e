"""What travels with a trained model: how it was made and how well it does.

held-out prompts -> n samples each, and greedy -> the task's checker -> accuracies
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsharp import files
from jsharp.lm.tokenizer import Tokenizer, decode_responses, encode_prompts
from jsharp.policy import Policy, Response
from jsharp.pretrain.demonstrations import Lesson
from jsharp.selection import best_of_n
from jsharp.tasks import Problem

FILE = "recipe.json"

Grade = Callable[..., dict[str, float]]


def grader(
    policy: Policy,
    greedy: Callable[..., Response],
    tokenizer: Tokenizer,
    *,
    end: int,
    n: int,
    at_once: int = 32,
) -> Grade:
    """grade(key, params, lesson, problems) -> the mean over problems of being correct.

    Keys: `greedy`; `one_sample`, the mean over n samples at temperature 1; `best_of_n`,
    the sample of largest log pi(y|x); `coverage`, whether any of the n is correct.
    """
    sample = jax.jit(policy.sample, static_argnums=3)
    log_prob, decode = jax.jit(policy.log_prob), jax.jit(greedy)

    def grade_some(key, params, lesson: Lesson, problems: Sequence[Problem]):
        task, length = lesson
        asked = [task.prompt(problem) for problem in problems]
        prompts = encode_prompts(tokenizer, asked, pad=end, length=length)

        def mark(response: Response) -> np.ndarray:
            texts = decode_responses(tokenizer, response, end=(end,))
            pairs = zip(problems, texts, strict=True)
            return np.array(
                [[task.correct(p, text) for text in row] for p, row in pairs]
            )

        drawn = sample(key, params, prompts, n)
        right = mark(drawn)  # [B n]
        best = np.asarray(best_of_n(log_prob(params, prompts, drawn)))
        return {
            "greedy": mark(decode(params, prompts))[:, 0],
            "one_sample": right.mean(1),
            "best_of_n": np.take_along_axis(right, best, axis=1)[:, 0],
            "coverage": right.any(1),
        }

    def grade(key, params, lesson: Lesson, problems: Sequence[Problem]):
        starts = range(0, len(problems), at_once)
        some = lambda start: problems[start : start + at_once]
        fold = lambda start: jax.random.fold_in(key, start)
        parts = [grade_some(fold(at), params, lesson, some(at)) for at in starts]
        together = lambda name: np.concatenate([part[name] for part in parts])
        return {name: float(together(name).mean()) for name in parts[0]}

    return grade


def write(directory: Path, recipe: dict[str, Any]) -> None:
    """`directory`/recipe.json and the model card README.md that restates it."""
    files.write_json(directory / FILE, recipe)
    files.write_text(directory / "README.md", _card(recipe))


def _card(recipe: dict[str, Any]) -> str:
    graded = recipe["held_out"]
    rows = "\n".join(
        f"| {name} | {at['greedy']:.1%} | {at['one_sample']:.1%} | "
        f"{at['best_of_n']:.1%} | {at['coverage']:.1%} | {at['prompts']} |"
        for name, at in graded.items()
    )
    n = next(iter(graded.values()))["n"]
    return f"""---
license: apache-2.0
library_name: jsharp
tags: [sharpening, text-generation]
---

# A base model to sharpen

A Llama-shaped decoder of {recipe["parameters"]:,} parameters over words, digits and
signs, trained from scratch on generated demonstrations of {" and ".join(graded)}.
It is meant to be imperfect: a base policy for experiments on sharpening, not a solver.

Accuracy on held-out prompts, none of which was trained on (n = {n}):

| task | greedy | one sample | best of n by log-probability | any of n | prompts |
|---|---|---|---|---|---|
{rows}

Made by

    {recipe["command"]}

All of the recipe (seed, versions, device, training time, step) is in `{FILE}`.
"""
