"""One optimiser step of a language model, and the state that lasts.

    loss = sum over the batch's examples / their number

The sum is taken part by part (gradient accumulation, in float32): whatever the parts,
every example of a batch weighs the same, as in the paper's sums, and so does a token.
(A mean over each batch's tokens would weigh those of short texts more.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, UInt32

from jsharp.lm import scorer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Params
from jsharp.train.examples import Batch
from jsharp.train.recipes import Recipe
from jsharp.train.trainee import Trainee

Metrics = dict[str, Float[Array, ""]]


class State(NamedTuple):
    """All that a checkpoint holds; data are a function of (seed, step)."""

    params: Params  # float32
    inner: Any  # of the optimiser
    step: Int[Array, ""]  # steps done: the position in the data
    key: UInt32[Array, " 2"]  # of all draws


Step = Callable[[State, Params, Batch], tuple[State, Metrics]]


def start(
    key: Key[Array, ""], params: Params, tx: optax.GradientTransformation
) -> State:
    """The state before the first step."""
    data = jnp.array(jax.random.key_data(key))
    return State(params, tx.init(params), jnp.zeros((), jnp.int32), data)


def make_step(
    model: TransformerConfig,
    trainee: Trainee,
    recipe: Recipe,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    *,
    remat: bool,
) -> Step:
    """step(state, frozen, batch) -> (state, metrics), jitted; it donates the state.

    `rate` is that of `tx`, for the metrics. Those are of before the update, but for
    param_norm, which is of after it.
    """

    def total(params: Params, frozen: Params, part: Batch):
        log_prob = scorer.log_prob(
            trainee.train(frozen, params),
            part.prompts,
            part.response,
            config=model,
            remat=remat,
        )
        return recipe.loss(log_prob, part.base_log_prob, part.reward), log_prob

    def step(state: State, frozen: Params, batch: Batch) -> tuple[State, Metrics]:
        def add(carry, part):
            gradient = jax.value_and_grad(total, has_aux=True)
            (value, log_prob), grads = gradient(state.params, frozen, part)
            return jax.tree.map(jnp.add, carry, (value, grads)), log_prob

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params)
        (value, grads), log_prob = jax.lax.scan(add, zero, batch)
        count = batch.real.sum()
        grads = jax.tree.map(lambda g: g / count, grads)
        updates, inner = tx.update(grads, state.inner, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": value / count,
            "grad_norm": optax.tree.norm(grads),
            "param_norm": optax.tree.norm(params),
            "learning_rate": jnp.asarray(rate(state.step), jnp.float32),
            "num_tokens": batch.response.length.sum().astype(jnp.float32),
            **_of_examples(log_prob, batch, recipe),
        }
        return State(params, inner, state.step + 1, state.key), metrics

    return jax.jit(step, donate_argnums=0)


def _of_examples(
    log_prob: Float[Array, "A b k"], batch: Batch, recipe: Recipe
) -> Metrics:
    """Means over the batch's examples, fillers left out."""
    flat = lambda x: x.reshape(-1, x.shape[-1])
    real = batch.real.reshape(-1)
    log_prob, base, reward = map(flat, (log_prob, batch.base_log_prob, batch.reward))
    kept = lambda x: jnp.where(real, x.astype(jnp.float32), 0.0)
    each = recipe.describe(log_prob, base, reward)
    found = {name: kept(x).sum() / real.sum() for name, x in each.items()}
    if recipe.single:  # the sampler was the policy itself, of these very weights
        gap = jnp.abs(log_prob - flat(batch.response.sampler_log_prob))
        found["sharpen/drift"] = kept(gap.max(1)).max()
    return found
