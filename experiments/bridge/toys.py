"""The five algorithms on a table that is a language model's pi_base on B prompts.

Cell 0 of a prompt is its mode with its proven probability; then the other responses
that were drawn, with their exact log-probabilities; the mass that no draw showed is
spread evenly over so many cells that none is more than half as likely as the mode. So
pi_base(Y*|x), C_cov and the law of best-of-N are the language model's, and what lies
below the mode is its own as far as it was seen.

Nothing is shared between the prompts of a table: a policy on it learns a prompt from
draws on that prompt alone. Every prompt is visited as often as the budget allows.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.bridge.grids import OPTIONS
from experiments.bridge.setting import Drawn
from jsharp import loop
from jsharp.ada_sft import ada_sft
from jsharp.algorithm import Algorithm
from jsharp.policy import freeze
from jsharp.rlhf import rlhf
from jsharp.rloo import rloo
from jsharp.sft import sft
from jsharp.tabular import prompts_of, table
from jsharp.update import gradient
from jsharp.xpo import xpo

ROUNDING = 1e-4  # of a sum of probabilities whose logarithms are float32
NOWHERE = -1e9  # logit of a cell that a prompt has not
RATE, FIT = 0.1, 300  # Adam's, on a fit; its steps
STEP = 1.0  # of a policy gradient: SGD on logits
ALPHA = 1e-3  # of xpo, as `jsharp train xpo`
BLOCK, MOST = 8, 128  # of adaptive draws


def base_logits(
    drawn: Drawn, mass: Float[np.ndarray, " B"]
) -> Float[np.ndarray, "B Y"]:
    """log pi_base of every cell; rows sum to one.

    Raises ValueError where what was drawn and the mode have more than all mass.
    """
    rows = [
        _row(*row)
        for row in zip(
            drawn.log_prob, drawn.token_ids, drawn.on_mode, mass, strict=True
        )
    ]
    found = np.full((len(rows), max(map(len, rows))), NOWHERE)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found


def _row(
    log_prob: np.ndarray,
    token_ids: list[tuple[int, ...]],
    on_mode: np.ndarray,
    q: float,
) -> list[float]:
    others = {
        y: float(value)
        for y, value, is_mode in zip(token_ids, log_prob, on_mode, strict=True)
        if not is_mode
    }
    known = [float(np.log(q)), *others.values()]
    rest = 1.0 - math.fsum(map(math.exp, known))
    if rest < -ROUNDING:
        raise ValueError(f"expected probabilities, found a sum of {1 - rest}")
    if rest <= ROUNDING:
        return [value - math.log(1.0 - rest) for value in known]
    cells = int(np.ceil(2 * rest / q))
    return known + [float(np.log(rest / cells))] * cells


class Toy(NamedTuple):
    """An algorithm on the table: R rounds, in each of which a prompt comes T times."""

    algorithm: Algorithm
    rounds: int
    times: int


def toy(name: str, logits: Float[Array, "B Y"], m: int) -> Toy:
    """The algorithm at about m queries in all, by the options of the language model's.

    Maximum likelihood and regression are fitted to the end, as the theorems have it; a
    policy gradient takes one step a round, as many rounds as the budget has.
    """
    policy = table(*logits.shape)
    base = freeze(policy, logits)
    fit = gradient(optax.adam(RATE), steps=FIT)
    each = m / len(logits)
    times = lambda draws: max(1, round(each / draws))
    if name == "sft":
        return Toy(sft(policy, base, fit, n=OPTIONS.N), 1, times(OPTIONS.N))
    if name == "ada-sft":
        mu = float(np.log(2 / OPTIONS.delta))
        algorithm = ada_sft(policy, base, fit, mu=mu, block=BLOCK, max_n=MOST)
        return Toy(algorithm, 1, times(OPTIONS.mean_draws))
    if name == "rlhf":
        return Toy(rlhf(policy, base, fit, beta=OPTIONS.beta), 1, times(2))
    if name == "xpo":
        rounds = OPTIONS.rounds
        algorithm = xpo(
            policy, base, fit, alpha=ALPHA, beta=OPTIONS.beta, rounds=rounds
        )
        return Toy(algorithm, rounds, times(2 * rounds))
    if name == "rloo":
        step = gradient(optax.sgd(STEP * len(logits)))
        algorithm = rloo(policy, base, step, n=OPTIONS.N, beta=OPTIONS.policy_beta)
        return Toy(algorithm, times(OPTIONS.N), 1)
    raise ValueError(f"expected sft, ada-sft, rlhf, xpo or rloo, found {name!r}")


class Learnt(NamedTuple):
    mass: Float[np.ndarray, "K B"]  # on the modes, of K independent runs
    queries: Float[np.ndarray, " K"]


def learn(
    name: str, logits: Float[np.ndarray, "B Y"], m: int, *, runs: int, seed: int
) -> Learnt:
    """Carry it out `runs` times; the policy is that of the last round."""
    table_logits = jnp.asarray(logits, jnp.float32)

    @jax.jit
    def run(keys: Key[Array, " K"], start: Float[Array, "B Y"]) -> tuple[Array, Array]:
        algorithm, rounds, times = toy(name, start, m)
        one = prompts_of(jnp.tile(jnp.arange(len(start)), times))
        batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * rounds), one)

        def once(key: Key[Array, ""]) -> tuple[Array, Array]:
            state, info = loop.scan(key, algorithm, start, batches)
            last = state.update if name == "xpo" else state
            return jax.nn.softmax(last.params)[:, 0], info.queries.sum()

        return jax.vmap(once)(keys)

    keys = jax.random.split(jax.random.key(seed), runs)
    mass, queries = jax.device_get(run(keys, table_logits))
    return Learnt(np.asarray(mass, float), np.asarray(queries, float))
