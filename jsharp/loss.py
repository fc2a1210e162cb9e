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
) -> Float[Array, ""]:
    """Leave-one-out REINFORCE (Eq 3): an unbiased gradient of -sum_x J_beta.

    R = r - beta log(pi/pi_base), with the gradient stopped: d/dpi of the log inside R
    has mean zero. Advantage_i = R_i - mean_{j != i} R_j, averaged over the n responses.
    Needs n >= 2.
    """
    n = log_prob.shape[1]
    value = jax.lax.stop_gradient(reward - beta * (log_prob - base_log_prob))
    advantage = (value - value.mean(1, keepdims=True)) * (n / (n - 1))
    return -jnp.mean(advantage * log_prob, axis=1).sum()
