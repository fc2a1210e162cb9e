"""Running an algorithm: a scan for toys, a host loop for language models.

Step t uses fold_in(key, t) in both, so they give the same run, and a run can be taken
up again at any step.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jsharp.algorithm import Algorithm
from jsharp.policy import Params, Prompts


def scan(
    key: Key[Array, ""], algorithm: Algorithm, params: Params, prompts: Prompts
) -> tuple[Any, Any]:
    """Run over prompts stacked [T B ...]; returns the state and infos stacked [T ...].

    Pure and jittable: vmap over keys gives independent replications.
    """
    first = jax.tree.map(lambda leaf: leaf[0], prompts)
    rounds = prompts.length.shape[0]

    def body(state, batch):
        t, prompts = batch
        return algorithm.step(jax.random.fold_in(key, t), state, prompts)

    return jax.lax.scan(
        body, algorithm.init(params, first), (jnp.arange(rounds), prompts)
    )


def iterate(
    key: Key[Array, ""],
    algorithm: Algorithm,
    state: Any,
    batches: Iterable[Prompts],
    *,
    start: int = 0,
) -> Iterator[tuple[int, Any, Any]]:
    """Yield (t, state, info) after each step from `start` on; the step is jitted once.

    A state's buffers are donated to the next step: keep no reference to an old one.
    """
    step = jax.jit(algorithm.step, donate_argnums=1)
    for t, prompts in enumerate(batches, start):
        state, info = step(jax.random.fold_in(key, t), state, prompts)
        yield t, state, info
