"""The five algorithms as the rounds of a language model see them.

    draw -> score -> examples (k responses each) -> minimise loss(log_prob [b k], ...)

Selection and loss are those of the toys (jsharp/selection.py, jsharp/loss.py); a test
holds one round on one batch to the step of jsharp/sft.py and its siblings.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jsharp.loss import (
    exploration,
    negative_log_likelihood,
    pair_regression,
    policy_gradient,
)
from jsharp.selection import best_of_n
from jsharp.train.config import AdaSft, Config, Rlhf, Rloo, Sft, Xpo


class Recipe(NamedTuple):
    """What an algorithm asks of the loop.

    own, base: responses to each prompt of a round, from the policy and from the base,
        the policy's first.
    width: k, responses of an example.
    count: examples that a prompt makes.
    examples(score [B n]) -> Int[B count k], which of the n responses make them.
    loss(log_prob [b k], base_log_prob [b k], reward [b k]) -> the SUM over examples.
    describe(the same) -> metrics of each example [b], in the names of TRL.
    keeps: whether a round fits the examples of all rounds so far (Alg 1).
    single: whether a round is one optimiser step on its batch of prompts.
    """

    own: int
    base: int
    width: int
    count: int
    examples: Callable[[np.ndarray], np.ndarray]
    loss: Callable[..., Float[Array, ""]]
    describe: Callable[..., dict[str, Array]]
    keeps: bool = False
    single: bool = False


def recipe(config: Config) -> Recipe:
    """The recipe of a checked config."""
    if isinstance(config, Sft):
        return Recipe(0, config.num_generations, 1, 1, _best, _likelihood, _chosen)
    if isinstance(config, AdaSft):  # the collector stops, and keeps the likeliest
        return Recipe(0, 1, 1, 1, _all, _likelihood, _chosen)
    if isinstance(config, Rlhf):
        n, beta = config.num_generations, config.beta
        regression = functools.partial(pair_regression, beta=beta)
        pair = functools.partial(_pair, beta=beta)
        return Recipe(0, n, 2, n // 2, _pairs, regression, pair)
    if isinstance(config, Xpo):
        beta, alpha = config.beta, config.alpha
        loss = functools.partial(exploration, alpha=alpha, beta=beta)
        pair = functools.partial(_pair, beta=beta)
        return Recipe(1, 1, 2, 1, _all, loss, pair, keeps=True)
    assert isinstance(config, Rloo)
    n, beta = config.num_generations, config.beta
    by_deviation = config.advantage == "grpo"
    gradient = functools.partial(policy_gradient, beta=beta, by_deviation=by_deviation)
    group = functools.partial(_group, beta=beta)
    return Recipe(n, 0, n, 1, _all, gradient, group, single=True)


def _likelihood(log_prob, base_log_prob, reward) -> Float[Array, ""]:
    del base_log_prob, reward
    return negative_log_likelihood(log_prob)


def _best(score: Float[np.ndarray, "B n"]) -> Int[np.ndarray, "B 1 1"]:
    return np.asarray(best_of_n(jnp.asarray(score)))[:, None]


def _all(score: Float[np.ndarray, "B n"]) -> Int[np.ndarray, "B 1 n"]:
    return np.broadcast_to(np.arange(score.shape[1]), (len(score), 1, score.shape[1]))


def _pairs(score: Float[np.ndarray, "B n"]) -> Int[np.ndarray, "B m 2"]:
    """(0, 1), (2, 3), ...: independent pairs."""
    rows, n = score.shape
    return np.broadcast_to(np.arange(n).reshape(1, -1, 2), (rows, n // 2, 2))


def _chosen(log_prob, base_log_prob, reward) -> dict[str, Array]:
    del base_log_prob, reward
    return {"logps/chosen": log_prob[:, 0]}


def _pair(log_prob, base_log_prob, reward, *, beta: float) -> dict[str, Array]:
    """Of the response of larger reward, the chosen, and the other, as DPO has them."""
    order = jnp.argsort(-reward, axis=1)
    by_reward = lambda x: jnp.take_along_axis(x, order, 1).T
    chosen, rejected = by_reward(beta * (log_prob - base_log_prob))
    log_chosen, log_rejected = by_reward(log_prob)
    gap = jnp.abs(reward[:, 0] - reward[:, 1])
    return {
        "logps/chosen": log_chosen,
        "logps/rejected": log_rejected,
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": chosen > rejected,
        "sharpen/reward_gap": gap,
        "sharpen/frac_zero_gap": gap == 0,
    }


def _group(log_prob, base_log_prob, reward, *, beta: float) -> dict[str, Array]:
    """Of n responses drawn from the policy: unbiased estimates of KL and J_beta."""
    kl, score = (log_prob - base_log_prob).mean(1), reward.mean(1)
    return {
        "reward": score,
        "reward_std": reward.std(1),
        "kl": kl,
        "sharpen/objective": score - beta * kl,
    }
