"""RLHF-Sharpening, offline (Eq 4, Eq 8): regress log-ratio gaps onto reward gaps.

    y, y' ~ pi_base(.|x);  minimise over pi in Pi the sum of
    ( beta log pi(y|x)/pi_base(y|x) - beta log pi(y'|x)/pi_base(y'|x)
      - (r(y) - r(y')) )^2

whose minimiser, if it is in Pi, is pi*_beta ~ pi_base exp(r/beta). N = 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.algorithm import Algorithm
from jsharp.loss import pair_regression
from jsharp.policy import FrozenPolicy, Policy
from jsharp.reward import Candidates, Reward, log_probability
from jsharp.update import Update, UpdateState


class Info(NamedTuple):
    loss: Float[Array, ""]  # squared residual, mean over the batch; see UpdateInfo
    grad_norm: Float[Array, ""]
    queries: Int[Array, ""]
    reward_gap: Float[Array, ""]  # mean |r(y) - r(y')|
    ties: Float[Array, ""]  # share of pairs with equal rewards, which teach nothing
    drift: Float[Array, ""]


def rlhf(
    policy: Policy,
    base: FrozenPolicy,
    update: Update,
    *,
    beta: float,
    reward: Reward = log_probability,
) -> Algorithm:
    """Offline RLHF-Sharpening at KL strength beta; the state is an UpdateState.

    Raises ValueError unless beta > 0.
    """
    if not beta > 0:
        raise ValueError(f"expected beta > 0, found {beta=}")

    def init(params, prompts) -> UpdateState:
        del prompts
        return update.init(params)

    def step(key, state: UpdateState, prompts):
        pair = base.sample(key, prompts, 2)
        base_log_prob = base.log_prob(prompts, pair)
        score = reward(Candidates(pair, base_log_prob))

        def loss(params):
            log_prob = policy.log_prob(params, prompts, pair)
            return pair_regression(log_prob, base_log_prob, score, beta=beta)

        state, fit = update.step(state, loss, count=score.shape[0])
        gap = jnp.abs(score[:, 0] - score[:, 1])
        info = Info(
            loss=fit.loss,
            grad_norm=fit.grad_norm,
            queries=jnp.asarray(score.size, jnp.int32),
            reward_gap=gap.mean(),
            ties=(gap == 0).mean(dtype=jnp.float32),
            drift=jnp.abs(base_log_prob - pair.sampler_log_prob).max(),
        )
        return state, info

    return Algorithm(init, step)
