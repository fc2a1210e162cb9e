"""What is trained: all weights, or adapters beside a frozen base.

Masters are float32; the model computes in the type of its checkpoint (or --dtype): a
bfloat16 model has bfloat16 products, and float32 log-probabilities, losses, sums over
parts and optimiser. In what is sampled and saved whole an adapter is merged: with
bfloat16 weights, a change of less than half a unit in the last place is lost there, and
kept in adapter/.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jsharp.lm import lora
from jsharp.lm.config import TransformerConfig
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
        chosen = lora.targeted(model, config.lora_targets)
        kinds = tuple({name.rsplit(".", 1)[-1] for name in chosen})
        if lora.targeted(model, kinds).keys() != chosen.keys():
            raise ValueError(
                f"expected each projection in all layers, as PEFT has it, found "
                f"{config.lora_targets}"
            )
    except ValueError as error:
        raise ValueError(f"--lora-targets: {error}") from error
    alpha, targets = config.adapter_alpha, config.lora_targets
    new = functools.partial(
        lora.init, config=model, rank=config.lora_r, targets=targets
    )
    return Trainee(
        adapts=True,
        init=lambda key, base: new(key),
        train=functools.partial(lora.attach, model, alpha=alpha),
        draw=jax.jit(functools.partial(lora.merge, model, alpha=alpha)),
    )
