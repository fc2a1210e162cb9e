"""Adaptive SFT-Sharpening (App D): each prompt draws until it has seen enough.

    N_mu(x) = inf{ k : 1/max_{j<=k} pi_base(y_j|x) <= k/mu }           (Eq 10)
    y_i = argmax_{j <= N_mu(x_i)} pi_base(y_j|x_i);  then the MLE of sft.py

Theory sets mu = ln(2/delta) (Thm D.1). Draws come in blocks of a static size; a draw
after the stop is neither counted nor used, so the law is that of one draw at a time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.algorithm import Algorithm
from jsharp.loss import negative_log_likelihood
from jsharp.policy import FrozenPolicy, Policy, Response, select
from jsharp.selection import adaptive_stop
from jsharp.update import Update, UpdateState


class Draws(NamedTuple):
    """Adaptive sampling so far: one kept response per prompt."""

    rounds: Int[Array, ""]
    best: Response  # [B 1 H]
    log_prob: Float[Array, "B 1"]  # log pi_base of `best`
    time: Int[Array, " B"]  # N_mu(x), or the draws so far
    stopped: Bool[Array, " B"]


class Info(NamedTuple):
    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    queries: Int[Array, ""]  # sum of N_mu(x) over the batch
    time: Int[Array, " B"]  # N_mu(x)
    unstopped: Int[Array, ""]  # prompts cut at max_n, for which Thm D.1 says nothing
    selected_log_prob: Float[Array, ""]


def draw_until_stop(
    key: Array, base: FrozenPolicy, prompts, *, mu: float, block: int, max_n: int
) -> Draws:
    """Draw from `base` in blocks until Eq 10 holds for every prompt, at most max_n."""

    def more(draws: Draws):
        return ~draws.stopped.all() & (draws.rounds * block < max_n)

    def body(draws: Draws) -> Draws:
        response = base.sample(jax.random.fold_in(key, draws.rounds), prompts, block)
        log_prob = base.log_prob(prompts, response)
        seen = draws.rounds * block
        stop = adaptive_stop(
            log_prob, log_mu=math.log(mu), seen=seen, best=draws.log_prob[:, 0]
        )
        new = jnp.take_along_axis(log_prob, stop.best, axis=1)
        better = ~draws.stopped[:, None] & (new > draws.log_prob)
        keep = lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return Draws(
            rounds=draws.rounds + 1,
            best=jax.tree.map(keep, select(response, stop.best), draws.best),
            log_prob=jnp.where(better, new, draws.log_prob),
            time=jnp.where(draws.stopped, draws.time, seen + stop.time),
            stopped=draws.stopped | stop.stopped,
        )

    shape = jax.eval_shape(lambda k: base.sample(k, prompts, 1), key)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    batch = shape.length.shape[0]
    start = Draws(
        rounds=jnp.zeros((), jnp.int32),
        best=empty,
        log_prob=jnp.full((batch, 1), -jnp.inf, shape.sampler_log_prob.dtype),
        time=jnp.zeros(batch, jnp.int32),
        stopped=jnp.zeros(batch, bool),
    )
    return jax.lax.while_loop(more, body, start)


def ada_sft(
    policy: Policy,
    base: FrozenPolicy,
    update: Update,
    *,
    mu: float,
    block: int,
    max_n: int,
) -> Algorithm:
    """Adaptive SFT-Sharpening; the state is an UpdateState.

    Raises ValueError unless mu > 0 and block divides max_n.
    """
    if not mu > 0 or block < 1 or max_n < block or max_n % block:
        raise ValueError(
            f"expected mu > 0 and block dividing max_n, found {mu=}, {block=}, {max_n=}"
        )

    def init(params, prompts) -> UpdateState:
        del prompts
        return update.init(params)

    def step(key, state: UpdateState, prompts):
        draws = draw_until_stop(key, base, prompts, mu=mu, block=block, max_n=max_n)

        def loss(params):
            return negative_log_likelihood(policy.log_prob(params, prompts, draws.best))

        state, fit = update.step(state, loss, count=draws.time.shape[0])
        info = Info(
            loss=fit.loss,
            grad_norm=fit.grad_norm,
            queries=draws.time.sum(),
            time=draws.time,
            unstopped=(~draws.stopped).sum(),
            selected_log_prob=draws.log_prob.mean(),
        )
        return state, info

    return Algorithm(init, step)
