"""Losses see arrays of log-probabilities, never models: log_prob [B n] -> scalar sums.

Every loss is a SUM over its batch, so that sums over batches are the paper's sums and a
finite class can be minimised exactly by adding them up (`update.finite_class`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def negative_log_likelihood(log_prob: Float[Array, "B n"]) -> Float[Array, ""]:
    """sum_i -log pi(y_i|x_i): SFT-Sharpening's MLE (section 2.1)."""
    return -log_prob.sum()


def pair_residual(
    log_prob: Float[Array, "B 2"],
    base_log_prob: Float[Array, "B 2"],
    reward: Float[Array, "B 2"],
    *,
    beta: float,
) -> Float[Array, " B"]:
    """beta log pi/pi_base (y) - beta log pi/pi_base (y') - (r(y) - r(y')), Eq 8.

    Zero for every pair when pi = pi*_beta; minus the reward gap when pi = pi_base.
    """
    gap = beta * (log_prob - base_log_prob) - reward
    return gap[:, 0] - gap[:, 1]


def pair_regression(
    log_prob: Float[Array, "B 2"],
    base_log_prob: Float[Array, "B 2"],
    reward: Float[Array, "B 2"],
    *,
    beta: float,
) -> Float[Array, ""]:
    """sum_i residual_i^2: offline RLHF-Sharpening (Eq 4, Eq 8)."""
    return (pair_residual(log_prob, base_log_prob, reward, beta=beta) ** 2).sum()


def exploration(
    log_prob: Float[Array, "B 2"],
    base_log_prob: Float[Array, "B 2"],
    reward: Float[Array, "B 2"],
    *,
    alpha: float,
    beta: float,
) -> Float[Array, ""]:
    """alpha sum log pi(y'|x) + sum residual^2 with y' ~ pi_base second: Alg 1 (XPO).

    The printed algorithm has a minus sign before the square; its proof uses plus.
    """
    regression = pair_regression(log_prob, base_log_prob, reward, beta=beta)
    return alpha * log_prob[:, 1].sum() + regression


def policy_gradient(
    log_prob: Float[Array, "B n"],
    base_log_prob: Float[Array, "B n"],
    reward: Float[Array, "B n"],
    *,
    beta: float,
    by_deviation: bool = False,
) -> Float[Array, ""]:
    """REINFORCE (Eq 3): sum_x -mean_i advantage_i log pi(y_i|x), on-policy, n >= 2.

    R = r - beta log(pi/pi_base), with the gradient stopped: d/dpi of the log inside R
    has mean zero. An unbiased gradient of -sum_x J_beta, unless `by_deviation`.
    """
    value = jax.lax.stop_gradient(reward - beta * (log_prob - base_log_prob))
    gain = advantage(value, by_deviation=by_deviation)
    return -jnp.mean(gain * log_prob, axis=1).sum()


def advantage(
    value: Float[Array, "B n"], *, by_deviation: bool = False
) -> Float[Array, "B n"]:
    """How much better a response did than the others of its prompt; needs n >= 2.

        A_i = R_i - mean_{j != i} R_j                     RLOO, arXiv 2402.14740
        A_i = (R_i - mean_j R_j) / (std_j R_j + 1e-4)     GRPO, arXiv 2402.03300

    The first keeps the gradient unbiased: its baseline does not depend on y_i. The
    second (`by_deviation`; std with n - 1 below, as in TRL) is biased: each prompt is
    weighed by one over the spread of its own draws, so one whose responses hardly
    differ counts as much as the rest, and the optimum is no longer that of J_beta. Of
    GRPO it is the advantage alone: the clipped ratio is 1 on-policy, log pi(y|x) is not
    divided by |y|, and the KL is charged inside R, not beside it.
    """
    n = value.shape[1]
    if by_deviation:
        spread = value.std(1, ddof=1, keepdims=True) + 1e-4
        return (value - value.mean(1, keepdims=True)) / spread
    return (value - value.mean(1, keepdims=True)) * (n / (n - 1))
