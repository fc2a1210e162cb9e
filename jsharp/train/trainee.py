"""What is trained: all weights, or adapters beside a frozen base.

Masters are float32; the model computes in the type of its checkpoint (or --dtype), so a
bfloat16 model is trained in bfloat16 with float32 sums, losses and optimiser.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jsharp.lm import lora
from jsharp.lm.config import TransformerConfig
from jsharp.lm.language_model import transformer_policy
from jsharp.policy import Params
from jsharp.train.config import Config


class Trainee(NamedTuple):
    """init(key, base) -> params, float32; then two ways to a model's weights.

    train(frozen, params) -> weights to differentiate through, `frozen` being the base
    where `adapts`, and else {}; draw(base, params) -> weights to sample from and to
    save, which may share memory with params.
    """

    adapts: bool
    init: Callable[[Key[Array, ""], Params], Params]
    train: Callable[[Params, Params], Params]
    draw: Callable[[Params, Params], Params]


def trainee(config: Config, model: TransformerConfig) -> Trainee:
    """All weights where lora_r is 0, else adapters; ValueError on unknown targets."""
    if config.lora_r:
        return _adapters(config, model)
    dtype = jnp.dtype(model.dtype)
    cast = lambda _, params: jax.tree.map(lambda x: x.astype(dtype), params)
    return Trainee(
        adapts=False,
        init=lambda key, base: jax.tree.map(_master, base),
        train=cast,
        draw=cast,
    )


def _master(leaf: Array) -> Array:
    """A float32 copy, never the leaf itself: a step donates it."""
    return jnp.array(leaf, jnp.float32, copy=True)


def _adapters(config: Config, model: TransformerConfig) -> Trainee:
    try:  # before a weight is read
        lora.targeted(model, config.lora_targets)
    except ValueError as error:
        raise ValueError(f"--lora-targets: {error}") from error
    alpha = config.adapter_alpha

    def init(key: Key[Array, ""], base: Params) -> Params:
        policy = transformer_policy(model, horizon=1, end=(0,), pad=0)
        sizes = {"rank": config.lora_r, "alpha": alpha, "targets": config.lora_targets}
        return lora.lora(policy, model, base, **sizes).init(key)

    return Trainee(
        adapts=True,
        init=init,
        train=functools.partial(lora.attach, model, alpha=alpha),
        draw=jax.jit(functools.partial(lora.merge, model, alpha=alpha)),
    )
