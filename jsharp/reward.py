"""Self-rewards: functions of the base policy alone, one signature and one table.

    reward(candidates) -> score [B n], larger is better

To add one, write one function here and its line in REWARDS. An algorithm takes it by
value and looks at log-probabilities alone; who has also the answers or the statistics
of the next-token laws passes them in `Candidates`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsharp.policy import Response, mask


class Candidates(NamedTuple):
    """n candidates for each of B prompts, and what a self-reward may know of them.

    log_prob   log pi_base(y|x), summed over the tokens, end token included
    answer     labels of the extracted answers: equal labels, equal answers; -1: none
    entropy    mean over the tokens of the entropy of pi_base(.|x, y_<h), in nats
    certainty  mean over the tokens of KL(uniform || pi_base(.|x, y_<h)), in nats
    """

    response: Response
    log_prob: Float[Array, "B n"]
    answer: Int[Array, "B n"] | None = None
    entropy: Float[Array, "B n"] | None = None
    certainty: Float[Array, "B n"] | None = None


Reward = Callable[[Candidates], Array]


def log_probability(candidates: Candidates) -> Float[Array, "B n"]:
    """r_self(y|x) = log pi_base(y|x), summed over tokens: ML sharpening.

    Source: Huang et al., arXiv 2412.01951, section 1. Known failure: every token costs,
    so it prefers short responses, be they refusals or answers without their reasoning.
    """
    return candidates.log_prob


def length_normalised(candidates: Candidates) -> Float[Array, "B n"]:
    """r_self(y|x) = log pi_base(y|x) / |y|, |y| counting the end token.

    Source: arXiv 2412.01951, appendix A. Known failure: it prefers long responses that
    repeat themselves, since a repeated token is nearly certain and lifts the mean.
    """
    length = candidates.response.length.astype(candidates.log_prob.dtype)
    return candidates.log_prob / length


def probability(candidates: Candidates) -> Float[Array, "B n"]:
    """r_self(y|x) = pi_base(y|x) = exp(log pi_base(y|x)).

    It orders responses as log_probability does, so the best of N is the same; its gaps
    are others, so what a KL-regularised algorithm learns is not. Known failure: it
    prefers short responses, and in float32 it is 0 below about e^-87: long responses
    then all tie, and their differences teach nothing.
    """
    return jnp.exp(candidates.log_prob)


def majority(candidates: Candidates) -> Float[Array, "B n"]:
    """Self-consistency: the share of the n candidates that give the same answer.

        r_self(y_i|x) = (1/n) sum_j 1{answer_j = answer_i}

    An estimate of the answer's total mass under pi_base; 0 for a candidate without one.
    Where no answers are given, the whole response is the answer. Sources: Wang et al.,
    arXiv 2203.11171; Huang et al., arXiv 2412.01951. Known failure: it cannot vote on
    free text, where no two responses agree, and it confirms a mistake that is common.
    """
    same = same_response(candidates.response)
    if candidates.answer is not None:
        same = same_answer(candidates.answer)
    return same.mean(-1, dtype=candidates.log_prob.dtype)


def self_certainty(candidates: Candidates) -> Float[Array, "B n"]:
    """How far the next-token laws are from uniform, mean over the response's tokens.

        r_self(y|x) = mean_h KL(uniform || pi_base(.|x, y_<h))
                    = mean_h [-log V - mean_v log pi_base(v|x, y_<h)]

    Source: Kang et al., arXiv 2502.18581. Known failure: it grows with confident
    repetition, and the tail decides: tokens that nobody would draw weigh as any other.
    Raises ValueError without `certainty`.
    """
    return _given(candidates, "certainty")


def negative_entropy(candidates: Candidates) -> Float[Array, "B n"]:
    """Minus the entropy of the next-token laws, mean over the response's tokens.

        r_self(y|x) = mean_h sum_v pi_base(v|x, y_<h) log pi_base(v|x, y_<h)

    Source: Prabhudesai et al., arXiv 2505.22660. Known failure: it judges the laws and
    not the tokens drawn from them, so a rare slip costs nothing, and repetition, which
    makes every next token certain, is best. Raises ValueError without `entropy`.
    """
    return -_given(candidates, "entropy")


def perplexity_consistency(candidates: Candidates) -> Float[Array, "B n"]:
    """log of the mass that the DISTINCT candidates with the same answer hold together.

        r_self(y_i|x) = log sum_{y in {y_1..y_n}: answer(y) = answer_i} pi_base(y|x)

    By logsumexp, so that nothing underflows. A lower bound on the log of the answer's
    mass. A candidate without an answer shares its mass with nobody and gets one nat
    less than the least likely candidate: below every answer, yet finite, as training
    needs. Source: Zhou et al., arXiv 2502.00511 (their pruning step is not part of it).
    Known failure: of long responses the likeliest one outweighs all others together,
    and it becomes log_probability, its preference for short ones included. Raises
    ValueError without `answer`.
    """
    answer, log_prob = _given(candidates, "answer"), candidates.log_prob
    # Each of c equal responses brings 1/c of its mass: it counts once.
    copies = same_response(candidates.response).sum(-1, dtype=log_prob.dtype)
    weight = same_answer(answer) / copies[:, None, :]
    mass = jax.nn.logsumexp(log_prob[:, None, :], axis=-1, b=weight)
    nothing = log_prob.min(-1, keepdims=True) - 1
    return jnp.where(answer >= 0, mass, nothing)


REWARDS: dict[str, Reward] = {
    "log-probability": log_probability,
    "length-normalised": length_normalised,
    "probability": probability,
    "majority": majority,
    "self-certainty": self_certainty,
    "negative-entropy": negative_entropy,
    "perplexity-consistency": perplexity_consistency,
}


def same_response(response: Response) -> Bool[Array, "B n n"]:
    """Whether two candidates of a prompt are the same response, token by token."""
    tokens = jnp.where(mask(response), response.tokens, -1)
    return (tokens[:, :, None, :] == tokens[:, None, :, :]).all(-1)


def same_answer(answer: Int[Array, "B n"]) -> Bool[Array, "B n n"]:
    """Whether two candidates of a prompt give the same answer; -1 agrees with none."""
    return (answer[:, :, None] == answer[:, None, :]) & (answer >= 0)[:, None, :]


def _given(candidates: Candidates, field: str) -> Array:
    found = getattr(candidates, field)
    if found is None:
        raise ValueError(
            f"{field}: this self-reward needs it of every candidate, found none"
        )
    return found
