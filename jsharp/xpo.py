"""RLHF-Sharpening with exploration: XPO with rewards (Alg 1) on the accumulated data.

    pi^1 = pi_base, D = {}
    for t = 1..T:  x ~ mu, y ~ pi^t(.|x), y' ~ pi_base(.|x);  D += (x, y, y')
        pi^{t+1} = argmin_pi  alpha sum_D log pi(y'|x) + sum_D residual(pi; x, y, y')^2
    return the iterate of largest J_beta

The sign before the square is the proof's (+), not the printed one. J_beta(pi^t) is
estimated without bias on the fresh responses y ~ pi^t of its own step, so pi^1..pi^T
are compared; the largest of T noisy estimates is itself optimistic.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.algorithm import Algorithm
from jsharp.loss import exploration
from jsharp.policy import FrozenPolicy, Params, Policy, Prompts, Response
from jsharp.reward import Candidates, Reward, log_probability
from jsharp.update import Update, UpdateState


class Dataset(NamedTuple):
    """D, with room for T batches of B pairs; rows from `size` on are not yet filled."""

    prompts: Prompts
    pair: Response  # [TB 2 H]
    base_log_prob: Float[Array, "TB 2"]
    score: Float[Array, "TB 2"]
    size: Int[Array, ""]


class State(NamedTuple):
    params: Params  # the iterate of largest estimated J_beta so far: the answer
    objective: Float[Array, ""]  # its estimated J_beta
    update: UpdateState  # pi^t
    dataset: Dataset


class Info(NamedTuple):
    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    queries: Int[Array, ""]
    objective: Float[Array, ""]  # estimate of J_beta(pi^t)
    kl: Float[Array, ""]  # estimate of KL(pi^t || pi_base)


def empty_dataset(base: FrozenPolicy, prompts: Prompts, rounds: int) -> Dataset:
    """Room for `rounds` batches; unfilled rows repeat `prompts`, to stay finite."""
    key = jax.random.key(0)
    shape = jax.eval_shape(lambda k: base.sample(k, prompts, 2), key)
    rows = rounds * shape.length.shape[0]
    zeros = lambda leaf: jnp.zeros((rows, *leaf.shape[1:]), leaf.dtype)
    repeat = lambda leaf: jnp.copy(jnp.concatenate([leaf] * rounds))
    return Dataset(
        prompts=jax.tree.map(repeat, prompts),
        pair=jax.tree.map(zeros, shape),
        base_log_prob=zeros(shape.sampler_log_prob),
        score=zeros(shape.sampler_log_prob),
        size=jnp.zeros((), jnp.int32),
    )


def append(dataset: Dataset, *batch) -> Dataset:
    """Write one batch (prompts, pair, base_log_prob, score) behind the filled rows."""
    rows = dataset[:-1]
    write = lambda all_, new: jax.lax.dynamic_update_slice_in_dim(
        all_, new, dataset.size, axis=0
    )
    capacity, new = rows[-1].shape[0], batch[0].length.shape[0]
    size = jnp.minimum(dataset.size + new, capacity)
    return Dataset._make((*jax.tree.map(write, rows, batch), size))


def xpo(
    policy: Policy,
    base: FrozenPolicy,
    update: Update,
    *,
    alpha: float,
    beta: float,
    rounds: int,
    reward: Reward = log_probability,
) -> Algorithm:
    """Alg 1 for `rounds` = T steps; a step beyond them overwrites the newest batch.

    Raises ValueError unless rounds >= 1 and beta > 0.
    """
    if rounds < 1 or not beta > 0:
        raise ValueError(f"expected rounds >= 1 and beta > 0, found {rounds=}, {beta=}")

    def total(params, prompts, pair, base_log_prob, score, filled):
        log_prob = policy.log_prob(params, prompts, pair)
        # Unfilled rows have base_log_prob = score = 0: with this they add nothing.
        log_prob = jnp.where(filled[:, None], log_prob, 0.0)
        return exploration(log_prob, base_log_prob, score, alpha=alpha, beta=beta)

    def init(params, prompts) -> State:
        dataset = empty_dataset(base, prompts, rounds)
        worst = jnp.full((), -jnp.inf, dataset.score.dtype)
        fitted = update.init(params)
        return State(jax.tree.map(jnp.copy, params), worst, fitted, dataset)

    def step(key, state: State, prompts):
        own_key, base_key = jax.random.split(key)
        own = policy.sample(own_key, state.update.params, prompts, 1)
        other = base.sample(base_key, prompts, 1)
        pair = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), own, other)
        base_log_prob = base.log_prob(prompts, pair)
        score = reward(Candidates(pair, base_log_prob))

        log_ratio = policy.log_prob(state.update.params, prompts, pair) - base_log_prob
        objective = (score - beta * log_ratio)[:, 0].mean()
        better = objective > state.objective
        keep = lambda new, old: jnp.where(better, new, old)
        params = jax.tree.map(keep, state.update.params, state.params)

        batch = (prompts, pair, base_log_prob, score)
        dataset = append(state.dataset, *batch)
        filled = jnp.arange(dataset.score.shape[0]) < dataset.size
        count = score.shape[0]
        fitted, fit = update.step(
            state.update,
            lambda params: total(params, *batch, jnp.ones(count, bool)),
            count=count,
            replay=lambda p: total(p, *dataset[:-1], filled) / dataset.size,
        )
        best = jnp.where(better, objective, state.objective)
        # y is drawn from pi^t but evaluated under pi_base: both responses are queries.
        queries = jnp.asarray(score.size, jnp.int32)
        info = Info(fit.loss, fit.grad_norm, queries, objective, log_ratio[:, 0].mean())
        return State(params, best, fitted, dataset), info

    return Algorithm(init, step)
