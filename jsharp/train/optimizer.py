"""AdamW on clipped gradients, with the schedules that trainers name."""

from typing import Any

import jax
import optax

from jsharp.train.config import Config


def schedule(config: Config, total: int) -> optax.Schedule:
    """The learning rate of step t = 0 .. total - 1.

    It grows linearly over warmup_steps to its highest and then goes to zero linearly,
    or as a cosine, at step `total`, or stays.
    """
    peak, warm = config.learning_rate, config.warmup_steps
    left = max(1, total - warm)
    after = {
        "linear": optax.linear_schedule(peak, 0.0, left),
        "cosine": optax.cosine_decay_schedule(peak, left),
        "constant": optax.constant_schedule(peak),
    }[config.lr_scheduler_type]
    if not warm:
        return after
    ramp = lambda t: peak * (t + 1) / warm  # a first step at rate 0 teaches nothing
    return optax.join_schedules([ramp, after], [warm])


def optimizer(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    """Global norm clipped to max_grad_norm, then AdamW; decay on matrices only."""
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    decay: dict[str, Any] = {"weight_decay": config.weight_decay, "mask": matrices}
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adamw(rate, **decay)
    )
