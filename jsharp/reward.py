"""Self-rewards: functions of the base policy alone, one signature.

    reward(log_prob [B n], response) -> score [B n]

where `log_prob` is log pi_base(y|x) of the n candidates of each prompt. To add one,
write one function here; every algorithm takes it by value.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.policy import Response, mask

Reward = Callable[[Array, Response], Array]


def log_probability(
    log_prob: Float[Array, "B n"], response: Response
) -> Float[Array, "B n"]:
    """r_self(y|x) = log pi_base(y|x), summed over tokens: ML sharpening (section 1)."""
    del response
    return log_prob


def length_normalised(
    log_prob: Float[Array, "B n"], response: Response
) -> Float[Array, "B n"]:
    """r_self(y|x) = log pi_base(y|x) / |y|, |y| counting the end token."""
    return log_prob / response.length.astype(log_prob.dtype)


def same_response(response: Response) -> Bool[Array, "B n n"]:
    """Whether two candidates of a prompt are the same response, token by token."""
    tokens = jnp.where(mask(response), response.tokens, -1)
    return (tokens[:, :, None, :] == tokens[:, None, :, :]).all(-1)


def majority(answer: Callable[[Response], Int[Array, "B n"]] | None = None) -> Reward:
    """Self-consistency: the share of the n candidates that give the same answer.

    `answer(response) -> Int[B n]` labels the extracted answers, equal labels for equal
    answers and -1 where none was found; such candidates score 0. Without it the whole
    response is the answer. Estimates the total base mass of the answer (section 3).
    """

    def reward(log_prob, response):
        if answer is None:
            same = same_response(response)
        else:
            label = answer(response)
            same = (label[:, :, None] == label[:, None, :]) & (label >= 0)[:, None, :]
        return same.mean(-1, dtype=log_prob.dtype)

    return reward
