"""Adversarial search: make left/right as large as it gets, by gradient ascent.

The variables are an instance's logits, weights and parameters; `decode` maps them to a
valid instance, so the search is unconstrained. Sets such as Y*_g make the objective
discontinuous: many random starts, the best point of each whole path is kept, and the
final word is never the search's own but that of `claim.judge` on what it found.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from theory.claim import Batch, Effort, compiled
from theory.families import generator

Variables = dict[str, Array]
JaxInstance = dict[str, Array]


def ascend(
    starts: Float[Array, "S D"],
    gap: Callable[[Float[Array, " D"]], Float[Array, ""]],
    *,
    steps: int,
    learning_rate: float = 0.05,
) -> tuple[Float[Array, " S"], Float[Array, "S D"]]:
    """Maximise gap(variables) by Adam from each start.

    Returns the largest gap each path has met and the variables there. A NaN gap is
    never kept, and a gradient that is not finite does not move its variable.
    """
    optimiser = optax.adam(learning_rate)

    def step(carry, _):
        variables, state, best, kept = carry
        value, slope = jax.vmap(jax.value_and_grad(gap))(variables)
        better = value > best  # False for NaN
        best, kept = (
            jnp.where(better, value, best),
            jnp.where(better[:, None], variables, kept),
        )
        descent = jnp.where(jnp.isfinite(slope), -slope, 0.0)
        updates, state = optimiser.update(descent, state)
        return (variables + updates, state, best, kept), None

    worst = jnp.full(len(starts), -jnp.inf, starts.dtype)
    carry = (starts, optimiser.init(starts), worst, starts)
    # Adam adds an integer step count to floats, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        (_, _, best, kept), _ = jax.lax.scan(step, carry, length=steps + 1)
    return best, kept


def attack(
    key: Key[Array, ""],
    pair: Callable[[JaxInstance], tuple[Array, Array]],
    shapes: Mapping[str, tuple[int, ...]],
    decode: Callable[[Variables], JaxInstance],
    *,
    effort: Effort,
    spread: float = 2.0,
) -> Batch:
    """The instances where ascent of log(left/right) ends, one for each start.

    `shapes` names the variables; they start as normals of standard deviation `spread`.
    """
    example = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    flat, unravel = ravel_pytree(example)  # one leaf: Adam compiles once, not per name

    def gap(variables):
        left, right = pair(decode(unravel(variables)))
        return jnp.log(left) - jnp.log(right)

    def search(starts):
        _, found = ascend(starts, gap, steps=effort.steps)
        return jax.vmap(lambda variables: decode(unravel(variables)))(found)

    # Drawn on the host: compiling a JAX draw costs more than the search itself.
    starts = generator(key).normal(size=(effort.starts, flat.size)) * spread
    batch = compiled(search)(jnp.asarray(starts))
    return {name: np.asarray(a) for name, a in batch.items()}


def between(raw: Float[Array, "*s"], low: float, high: float) -> Float[Array, "*s"]:
    """A smooth map of the reals onto (low, high), even in the logarithm."""
    return low * jnp.exp(np.log(high / low) * jax.nn.sigmoid(raw))
