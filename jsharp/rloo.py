"""On-policy RL for the KL-regularised objective (Eq 3), by leave-one-out REINFORCE.

maximise over pi  J_beta(pi) = E_pi[r_self] - beta KL(pi || pi_base)
y_1..y_n ~ pi(.|x),  R_i = r(y_i) - beta log pi(y_i)/pi_base(y_i)
gradient estimate: mean_i (R_i - mean_{j != i} R_j) grad log pi(y_i|x)

With `by_deviation` the advantage is GRPO's instead; `loss.advantage` tells its bias.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsharp.algorithm import Algorithm
from jsharp.loss import policy_gradient
from jsharp.policy import FrozenPolicy, Policy
from jsharp.reward import Candidates, Reward, log_probability
from jsharp.update import Update, UpdateState


class Info(NamedTuple):
    loss: Float[Array, ""]  # the surrogate; only its gradient means anything
    grad_norm: Float[Array, ""]
    queries: Int[Array, ""]
    objective: Float[Array, ""]  # estimate of J_beta before the update
    kl: Float[Array, ""]  # estimate of KL(pi || pi_base) before the update
    drift: Float[Array, ""]


def rloo(
    policy: Policy,
    base: FrozenPolicy,
    update: Update,
    *,
    n: int,
    beta: float,
    by_deviation: bool = False,
    reward: Reward = log_probability,
) -> Algorithm:
    """RLOO with n >= 2 responses per prompt; `update` must be a gradient.

    Raises ValueError for n < 2, where there is no other response, and for beta < 0.
    """
    if n < 2:
        raise ValueError(f"leave-one-out needs n >= 2 responses, found n={n}")
    if not beta >= 0:
        raise ValueError(f"expected beta >= 0, found {beta=}")

    def init(params, prompts) -> UpdateState:
        del prompts
        return update.init(params)

    def step(key, state: UpdateState, prompts):
        response = policy.sample(key, state.params, prompts, n)
        base_log_prob = base.log_prob(prompts, response)
        score = reward(Candidates(response, base_log_prob))
        log_prob = policy.log_prob(state.params, prompts, response)

        def loss(params):
            log_prob = policy.log_prob(params, prompts, response)
            return policy_gradient(
                log_prob, base_log_prob, score, beta=beta, by_deviation=by_deviation
            )

        state, fit = update.step(state, loss, count=score.shape[0])
        log_ratio = log_prob - base_log_prob
        info = Info(
            loss=fit.loss,
            grad_norm=fit.grad_norm,
            queries=jnp.asarray(score.size, jnp.int32),
            objective=(score - beta * log_ratio).mean(),
            kl=log_ratio.mean(),
            drift=jnp.abs(log_prob - response.sampler_log_prob).max(),
        )
        return state, info

    return Algorithm(init, step)
