"""What a training run refuses before it reads anything: options out of their domain."""

import dataclasses
import math
from typing import Any

from jsharp.commands.questions import from_files
from jsharp.commands.settings import require
from jsharp.reward import REWARDS
from jsharp.train.config import AdaSft, Config, Rlhf, Rloo, Xpo

_AT_LEAST_ONE = (
    *("eval_generations", "max_completion_length", "sample_batch_size", "chunk_size"),
    *("rounds", "batch_size", "gradient_accumulation_steps", "num_train_epochs"),
    *("logging_steps", "save_steps", "save_total_limit"),
    *("num_generations", "block", "max_generations"),
)
_ABOVE_ZERO = ("learning_rate", "max_grad_norm", "delta", "beta", "lora_alpha")
_AT_LEAST_ZERO = (
    *("eval_limit", "eval_steps", "lora_r", "warmup_steps", "weight_decay", "alpha"),
)


def check(config: Config) -> None:
    """ValueError for the first option out of its domain."""
    options = dataclasses.asdict(config)
    for name in _AT_LEAST_ONE:
        if (found := options.get(name)) is not None:
            require(name, found >= 1, "at least 1", found)
    for name in _ABOVE_ZERO:
        if (found := options.get(name)) is not None:
            free = name == "beta" and isinstance(config, Rloo) and found == 0
            require(name, free or 0 < found < math.inf, "finite and above 0", found)
    for name in _AT_LEAST_ZERO:
        if (found := options.get(name)) is not None:
            require(name, 0 <= found < math.inf, "finite and at least 0", found)
    reward = options.get("reward", "log-probability")
    require("reward", reward in REWARDS, f"one of {', '.join(REWARDS)}", reward)
    require("seed", 0 <= config.seed < 2**31, "0 to 2^31 - 1", config.seed)
    parts, size = config.gradient_accumulation_steps, config.batch_size
    divides = size % parts == 0
    require("gradient_accumulation_steps", divides, f"a divisor of {size}", parts)
    where = config.output_dir
    require("output_dir", not where.is_file(), "a directory", where)
    _check_together(config)
    _check_algorithm(config)


def _check_together(config: Config) -> None:
    """Options that mean nothing beside others."""
    absent = lambda name, why: _absent(config, name, why)
    if config.lora_r == 0:
        absent("lora_alpha", "where --lora-r is 0")
        absent("lora_targets", "where --lora-r is 0")
    if config.task is not None:
        absent("eval_prompts", "with --task, which has held-out problems")
    if config.prompts is not None:
        absent("train_data", "with --prompts")
        absent("eval_data", "with --prompts")
    if from_files(config.task):
        found = config.train_data
        wanted = f"the file of training problems of {config.task}"
        require("train_data", found is not None, wanted, found)


def _check_algorithm(config: Config) -> None:
    if isinstance(config, AdaSft):
        require("delta", config.delta < 1, "below 1", config.delta)
        block, most = config.block, config.max_generations
        require("block", most % block == 0, f"a divisor of {most}", block)
    if isinstance(config, Rlhf):
        n = config.num_generations
        require("num_generations", n % 2 == 0, "even: they make pairs", n)
    if isinstance(config, Rloo):
        n = config.num_generations
        require("num_generations", n >= 2, "at least 2: leave-one-out", n)
        require("rounds", config.rounds == 1, "1: every step draws anew", config.rounds)
    if isinstance(config, Xpo | Rloo):
        _absent(config, "rebase", "here: every round draws from the policy")
        _absent(config, "draws", "here: every round draws from the policy")
    elif config.rounds > 1:
        _absent(config, "draws", "where --rounds is above 1")
    else:
        _absent(config, "rebase", "where --rounds is 1")


def _absent(config: Config, name: str, why: str) -> None:
    found: Any = getattr(config, name)
    require(name, found is None or found is False, f"left out {why}", found)
