"""The recipe of a pretraining run, and the command line that spells it."""

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Any

_POSITIVE = (
    "num_hidden_layers",
    "batch_size",
    "logging_steps",
    "save_steps",
    "eval_steps",
    "eval_prompts",
    "num_generations",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Train a base model from scratch on demonstrations that the tasks generate.

    Another value of any field but the first two makes it another run.
    """

    output_dir: Path
    resume: bool = True  # False: refuse an output_dir that holds a run
    tasks: tuple[str, ...] = ("game24", "arithmetic")
    weights: tuple[float, ...] = (0.87, 0.13)  # the share of batches of each task
    hidden_size: int = 160
    num_hidden_layers: int = 4
    num_attention_heads: int = 5
    intermediate_size: int = 432
    max_completion_length: int = 40
    max_steps: int = 5000
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0
    logging_steps: int = 10
    save_steps: int = 250
    save_total_limit: int | None = 2  # None keeps every checkpoint
    eval_steps: int = 500
    eval_prompts: int = 64
    num_generations: int = 16


def check(config: Config) -> None:
    """Refuse what would fail, or mean nothing, hours later."""
    if len(config.tasks) != len(config.weights) or not config.tasks:
        raise ValueError(
            f"weights: expected one for each of tasks {config.tasks}, "
            f"got {config.weights}"
        )
    if min(config.weights) <= 0 or not math.isclose(sum(config.weights), 1.0):
        raise ValueError(
            f"weights: expected positive shares that sum to 1, got {config.weights}"
        )
    if config.max_steps < 2:
        raise ValueError(f"max_steps: expected at least 2, got {config.max_steps}")
    if not 0 < config.warmup_steps < config.max_steps:
        raise ValueError(
            f"warmup_steps: expected between 1 and max_steps - 1 = "
            f"{config.max_steps - 1}, got {config.warmup_steps}; set --warmup-steps"
        )
    if len(set(config.tasks)) < len(config.tasks):
        raise ValueError(f"tasks: expected each once, got {config.tasks}")
    for name in ("learning_rate", "max_grad_norm"):
        if not 0 < (value := getattr(config, name)) < math.inf:
            raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    if not 0 <= config.weight_decay < math.inf:
        raise ValueError(f"weight_decay: expected >= 0, got {config.weight_decay}")
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"seed: expected 0 to 2^31 - 1, got {config.seed}")
    if config.save_total_limit is not None and config.save_total_limit < 1:
        raise ValueError(
            f"save_total_limit: expected at least 1, or None to keep all, got "
            f"{config.save_total_limit}"
        )
    for name in _POSITIVE:
        if getattr(config, name) < 1:
            raise ValueError(
                f"{name}: expected at least 1, got {getattr(config, name)}"
            )


def command(config: Config) -> str:
    """The command line that gives this config, defaults spelled out."""
    words = ["jsharp", "pretrain"]
    for name, value in identity(config).items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join([*words, "--output-dir", config.output_dir.name])


def identity(config: Config) -> dict[str, Any]:
    """The fields that must agree for a run to go on."""
    fields = dataclasses.asdict(config)
    return {k: v for k, v in fields.items() if k not in ("output_dir", "resume")}
