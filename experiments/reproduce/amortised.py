"""SFT-Sharpening of the bases (App A.3): what figures 7 to 9 and table 1 are read from.

The options are the paper's but for the epochs, the number of prompts and the weight
decay, which App A.3 chooses for each task.
"""

from experiments.reproduce import bases
from experiments.reproduce.config import Config
from experiments.reproduce.work import Run

EVALUATIONS = 4  # while it trains, besides the one before the first step
BATCH = 4
OPTIONS = {
    "lora-r": "16",
    "learning-rate": "3e-4",
    "lr-scheduler-type": "linear",
    "max-grad-norm": "0.1",
    "weight-decay": "0.1",
    "batch-size": str(BATCH),
}


def steps(config: Config) -> int:
    """Optimiser steps of a run."""
    return config.epochs * -(-config.train_limit // BATCH)


def training(config: Config, model: str, task: str, n: int, seed: int) -> Run:
    """`jsharp train sft` with N = n."""
    checkpoint = dict(map(bases.named, config.models))[model]
    files = config.files_of(task)
    given = {} if files is None else {"train-data": files[0], "eval-data": files[1]}
    every = max(1, steps(config) // EVALUATIONS)
    options = {
        "model-name-or-path": checkpoint,
        "task": task,
        **given,
        "num-generations": n,
        "seed": seed,
        "limit": config.train_limit,
        "num-train-epochs": config.epochs,
        "max-completion-length": config.max_completion_length,
        "eval-limit": config.eval_limit,
        "eval-generations": config.eval_generations,
        "eval-steps": every,
        "logging-steps": every,
        "save-steps": every,
        "sample-batch-size": 256,
        **OPTIONS,
    }
    words = [word for k, v in options.items() for word in (f"--{k}", str(v))]
    name = f"sft/{model}/{task}/n{n}-seed{seed}"
    return Run(name, ("train", "sft", *words), bases.made(model))


def trainings(config: Config, only: tuple[str, ...], n: int) -> list[Run]:
    """Those of every cell of these models, and seed."""
    return [
        training(config, *cell, n, seed)
        for cell in config.settings(only)
        for seed in config.seeds
    ]
