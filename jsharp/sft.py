"""SFT-Sharpening (section 2.1): fit the best of N by maximum likelihood.

    for each prompt x_i:  y_1..y_N ~ pi_base(.|x_i),  y_i^BoN = argmax_j r_self(y_j|x_i)
    pihat = argmax_{pi in Pi} sum_i log pi(y_i^BoN | x_i)

The exemplar: a new algorithm is a copy of this page.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.algorithm import Algorithm
from jsharp.loss import negative_log_likelihood
from jsharp.policy import FrozenPolicy, Policy, select
from jsharp.reward import Candidates, Reward, log_probability
from jsharp.selection import best_of_n
from jsharp.update import Update, UpdateState


class Info(NamedTuple):
    loss: Float[Array, ""]  # -log pi(y^BoN|x), mean over the batch; see UpdateInfo
    grad_norm: Float[Array, ""]
    queries: Int[Array, ""]
    mean_log_prob: Float[Array, ""]  # log pi_base of all candidates
    selected_log_prob: Float[Array, ""]  # log pi_base of the selected
    drift: Float[Array, ""]  # max |sampler's log-prob - teacher-forced log-prob|


def sft(
    policy: Policy,
    base: FrozenPolicy,
    update: Update,
    *,
    n: int,
    reward: Reward = log_probability,
) -> Algorithm:
    """SFT-Sharpening with n responses per prompt; the state is an UpdateState.

    Raises ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"expected n >= 1 responses per prompt, found {n=}")

    def init(params, prompts) -> UpdateState:
        del prompts
        return update.init(params)

    def step(key, state: UpdateState, prompts):
        candidates = base.sample(key, prompts, n)
        log_prob = base.log_prob(prompts, candidates)
        index = best_of_n(reward(Candidates(candidates, log_prob)))
        best = select(candidates, index)

        def loss(params):
            return negative_log_likelihood(policy.log_prob(params, prompts, best))

        state, fit = update.step(state, loss, count=log_prob.shape[0])
        info = Info(
            loss=fit.loss,
            grad_norm=fit.grad_norm,
            queries=jnp.asarray(log_prob.size, jnp.int32),
            mean_log_prob=log_prob.mean(),
            selected_log_prob=jnp.take_along_axis(log_prob, index, 1).mean(),
            drift=jnp.abs(log_prob - candidates.sampler_log_prob).max(),
        )
        return state, info

    return Algorithm(init, step)
