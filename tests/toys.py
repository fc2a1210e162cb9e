"""Small policies of every kind, with an enumeration of their responses."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsharp.policy import Policy, Prompts, Response
from jsharp.tabular import (
    all_responses,
    autoregressive_softmax,
    linear_softmax,
    prompts_of,
    table,
)


class Toy(NamedTuple):
    policy: Policy
    prompts: Prompts  # [2 P]
    every: Response  # all responses, [2 Y H]
    end: int | None


def _features(seed, *shape):
    rows = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(rows, jnp.float32)


def _table():
    every = all_responses(6, 1, prompts=2)
    return Toy(table(2, 6), prompts_of(jnp.arange(2)), every, None)


def _linear():
    policy = linear_softmax(_features(0, 2, 6, 3))
    return Toy(policy, prompts_of(jnp.arange(2)), all_responses(6, 1, prompts=2), None)


def _layered(end):
    features = [_features(h, 2, 3**h, 3, 4) for h in range(3)]
    policy = autoregressive_softmax(features, end=end)
    every = all_responses(3, 3, end=end, prompts=2)
    return Toy(policy, prompts_of(jnp.arange(2)), every, end)


def _transformer(pad):
    from jsharp.lm.config import TransformerConfig
    from jsharp.lm.language_model import transformer_policy

    config = TransformerConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,  # compile time; depth is tested in tests/lm
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
    )
    policy = transformer_policy(config, horizon=3, end=(1,), pad=pad)
    # Sharper than the initialisation, so that the law is far from uniform.
    init = lambda key: jax.tree.map(lambda w: w * 8, policy.init(key))
    tokens = jnp.asarray([[2, 3, 0], [3, 2, 2]], jnp.int32)
    prompts = Prompts(tokens, jnp.asarray([2, 3], jnp.int32))
    every = all_responses(4, 3, end=1, prompts=2)
    return Toy(policy._replace(init=init), prompts, every, 1)


TOYS: dict[str, Callable[[], Toy]] = {
    "table": _table,
    "linear_softmax": _linear,
    "autoregressive": lambda: _layered(None),
    "autoregressive, ends": lambda: _layered(1),
    "autoregressive, end token 0 is also the pad": lambda: _layered(0),
    "transformer": lambda: _transformer(0),
    "transformer, pad is end": lambda: _transformer(1),
}
