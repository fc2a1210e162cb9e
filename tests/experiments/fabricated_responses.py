"""Responses of an evaluation that no model gave: files for the figures' tests."""

from typing import Any, NamedTuple

import numpy as np

from experiments.reproduce import inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from jsharp import files
from jsharp.commands.responses import GREEDY
from jsharp.commands.results import RESPONSES


class Fabricated(NamedTuple):
    """[B 1 + N] each, greedy first."""

    log_prob: np.ndarray
    right: np.ndarray
    tokens: np.ndarray
    answer: np.ndarray  # of strings, or None


def draw(seed: int, prompts: int = 12, n: int = 6, *, rate: float = 0.5) -> Fabricated:
    """Log-probabilities with ties, few answers, of which "a" is right."""
    rng = np.random.default_rng(seed)
    shape = prompts, n + 1
    right = rng.random(shape) < rate
    answer = np.where(right, "a", rng.choice(["b", "c"], shape)).astype(object)
    answer[~right & (rng.random(shape) < 0.2)] = None
    log_prob = -rng.integers(2, 9, shape) / 2.0 + 0.5 * right
    return Fabricated(log_prob, right, rng.integers(2, 9, shape), answer)


def config(directory: Any, **fields: Any) -> Config:
    default = {"models": ("embedded",), "tasks": ("game24",), "generations": 6}
    return Config(names=(), output_dir=directory, **(default | fields))


def write(given: Config, model: str, task: str, found: Fabricated) -> None:
    """The responses.jsonl of a cell."""
    path = folder(given, inference.evaluation(given, model, task)) / RESPONSES
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        _record(b, i, found)
        for b in range(len(found.right))
        for i in range(found.right.shape[1])
    ]
    files.write_lines(path, lines)


def _record(b: int, i: int, found: Fabricated) -> dict[str, Any]:
    size = int(found.tokens[b, i])
    log_prob = float(found.log_prob[b, i])
    return {
        "id": f"prompt-{b}",
        "prompt": f"{b} =>",
        "prompt_ids": [1, 2],
        "sample_id": GREEDY if i == 0 else i - 1,
        "completion": "x" * size,
        "completion_ids": [3] * (size - 1) + [0],
        "finish_reason": "stop",
        "logprob_base": log_prob,
        "logprob_sampler": log_prob,
        "num_tokens": size,
        "entropy": 0.5,
        "certainty": 1.0,
        "answer": found.answer[b, i],
        "correct": bool(found.right[b, i]),
        "seed": 0,
        "model": "none",
    }
