"""Runs of the bridge that no model made: what a run holds is drawn from its name."""

import itertools
import math

import numpy as np

from experiments.bridge import grids, setting
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from experiments.reproduce.work import OUTPUT_FILE
from jsharp import files
from jsharp.commands.responses import GREEDY
from jsharp.commands.results import RESPONSES
from jsharp.commands.sharpened import MASSES

PROMPTS, DRAWS = 12, 8
INEXACT = 3  # the prompt without a proven mode
EXACT = np.array([b for b in range(PROMPTS) if b != INEXACT])


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def base_mass(task: str) -> np.ndarray:
    return rng_of(task).uniform(0.05, 0.6, PROMPTS)


def fabricated_mass(name: str) -> np.ndarray:
    return rng_of(name).uniform(0.3, 0.95, PROMPTS)


def right(name: str) -> np.ndarray:
    return rng_of(name + "right").random((PROMPTS, DRAWS)) < 0.5


def members(task: str) -> np.ndarray:
    return rng_of(task + "drawn").random((PROMPTS, DRAWS)) < base_mass(task)[:, None]


def write_masses(config, run, task, mass) -> None:
    write = lambda b, x: float(x) if b != INEXACT else None
    lines = [
        {
            "id": f"p{b}",
            "ties": [[7, 0]],
            "exact": b != INEXACT,
            "base_mass": write(b, base_mass(task)[b]),
            "logprobs": [math.log(mass[b])],
            "mass": float(mass[b]),
        }
        for b in range(PROMPTS)
    ]
    files.write_lines(folder(config, run) / MASSES, lines)


def write_responses(config, run, task) -> None:
    marked = right(run.name) if task == "arithmetic" else None
    lines = []
    for b, i in itertools.product(range(PROMPTS), range(-1, DRAWS)):
        on_mode = i >= 0 and members(task)[b, i]
        q = base_mass(task)[b]
        lines.append(
            {
                "id": f"p{b}",
                "prompt": "?",
                "prompt_ids": [1],
                "sample_id": GREEDY if i < 0 else i,
                "completion": "",
                "completion_ids": [7, 0] if on_mode else [8 + max(i, 0), 0],
                "finish_reason": "stop",
                "logprob_base": math.log(q if on_mode else min(q, 1 - q) / (20 + i)),
                "logprob_sampler": 0.0,
                "num_tokens": 2,
                "entropy": 0.5,
                "certainty": 1.0,
                "answer": None,
                "correct": None if marked is None else bool(marked[b, i]),
                "seed": 0,
                "model": "none",
            }
        )
    files.write_lines(folder(config, run) / RESPONSES, lines)


def write_modes(config, task) -> None:
    q = base_mass(task)
    lines = [
        {
            "id": f"p{b}",
            "ties": [[7, 0]],
            "exact": b != INEXACT,
            "mass_lower": float(q[b]) / (1 + (b == INEXACT)),
            "mass_upper": float(q[b]),
            "expansions": 10 + b,
        }
        for b in range(PROMPTS)
    ]
    files.write_lines(folder(config, setting.mode(config, task)) / OUTPUT_FILE, lines)


def write_training(config, one: grids.Trained) -> None:
    """Two rounds, of which the second has one query more."""
    lines = [
        {"step": 0, "sharpen/queries": 100.0 + one.n},
        {"step": 1, "loss": 1.0},
        {"step": 2, "sharpen/queries": 101.0 + one.n},
    ]
    files.write_lines(folder(config, one.training) / "metrics.jsonl", lines)


def write(config: Config) -> None:
    """All runs of the four experiments."""
    for task in setting.TASKS:
        write_modes(config, task)
        base = setting.base(config, task)
        write_masses(config, base, task, base_mass(task))
        write_responses(config, base, task)
    policies = [("arithmetic", one) for one in grids.fixed(config)]
    policies += [("arithmetic", one) for one in grids.longer(config)]
    policies += [("arithmetic", one) for _, one in grids.contenders(config)]
    policies += [("game24", x) for pair in grids.contestants(config) for x in pair]
    for task, one in policies:
        mass = fabricated_mass(one.evaluation.name)
        write_masses(config, one.evaluation, task, mass)
        write_responses(config, one.evaluation, task)
        write_training(config, one)
