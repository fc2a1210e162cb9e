"""A random decoder small enough to enumerate, with prompts of unequal length."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jsharp.lm import transformer
from jsharp.lm.attention import causal
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Prompts

END, PAD, HORIZON = (1, 4), 0, 6

CONFIG = TransformerConfig(
    vocab_size=9,
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    initializer_range=0.4,  # peaked enough that a wrong past changes the draw
)
PARAMS = transformer.init(jax.random.key(0), CONFIG)
PROMPTS = Prompts(
    jnp.asarray([[3, 0, 0, 0, 0], [5, 2, 7, 0, 0], [8, 6, 2, 3, 5]], jnp.int32),
    jnp.asarray([1, 3, 5], jnp.int32),
)


WIDTH = 16  # of `logits`, so that sequences of every length share one compilation


def logits(params, tokens, config=CONFIG):
    """Next-token logits [T V] of a whole sequence: no prefix and no buffer."""
    padded = np.zeros(WIDTH, np.int32)
    padded[: len(tokens)] = tokens
    return _logits(config, params, padded)[: len(tokens)]


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, params, row):
    model = transformer.merge(config, params)
    hidden, _ = model(row[None, None], jnp.arange(WIDTH)[None, None], causal())
    return model.logits(hidden)[0, 0]


def sequences(prompts):
    """Each prompt as a list of its real tokens."""
    return [[int(t) for t in row[:size]] for row, size in zip(*prompts, strict=True)]
