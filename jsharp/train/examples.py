"""Examples: k responses to a prompt with base log-probs and rewards; their batches.

A line of rounds/<r>.examples.jsonl is one example. Which examples make batch i of a
round is a function of (seed, round, i), so the step's number is the data's position.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jsharp.commands.responses import candidates
from jsharp.commands.stream import Record
from jsharp.lm.shapes import bucket
from jsharp.policy import Prompts, Response
from jsharp.reward import Reward

Array = jax.Array | np.ndarray  # a batch is made on the host, and copied by its step
_CHUNK = 16  # prompts whose candidates are compared with each other at once


class Batch(NamedTuple):
    """Examples in [A b] parts; fillers have no token, and add nothing to any loss."""

    prompts: Prompts  # [A b P]
    response: Response  # [A b k H]
    base_log_prob: Float[Array, "A b k"]
    reward: Float[Array, "A b k"]

    @property
    def real(self) -> Bool[Array, "A b"]:
        """Which are no fillers."""
        return self.response.length.sum(-1) > 0


def score(
    groups: Sequence[Sequence[Record]], reward: Reward
) -> Float[np.ndarray, "B n"]:
    """The self-reward of every response to each prompt, from their records."""
    some = [groups[i : i + _CHUNK] for i in range(0, len(groups), _CHUNK)]
    return np.concatenate([np.asarray(reward(candidates(each))) for each in some])


def examples(
    groups: Sequence[Sequence[Record]],
    rewards: Float[np.ndarray, "B n"],
    index: Int[np.ndarray, "B m k"],
) -> list[Record]:
    """The lines of the examples that `index` picks."""
    lines = []
    for group, score, rows in zip(groups, rewards, index.tolist(), strict=True):
        for row in rows:
            some = [group[i] for i in row]
            lines.append(
                {
                    "id": some[0]["id"],
                    "prompt_ids": some[0]["prompt_ids"],
                    "sample_ids": [each["sample_id"] for each in some],
                    "completion_ids": [each["completion_ids"] for each in some],
                    "logprob_base": [each["logprob_base"] for each in some],
                    "logprob_sampler": [each["logprob_sampler"] for each in some],
                    "reward": [float(score[i]) for i in row],
                    "correct": [each["correct"] for each in some],
                }
            )
    return lines


def order(seed: int, round_: int, step: int, count: int, size: int) -> np.ndarray:
    """Which of a round's `count` examples are in its batch `step`.

    Each epoch has its own permutation; its last batch may be shorter.
    """
    epoch, at = divmod(step, -(-count // size))
    chosen = np.random.default_rng((seed, round_, epoch)).permutation(count)
    return chosen[at * size : (at + 1) * size]


def batch(
    lines: Sequence[Record], *, size: int, parts: int, width: int, pad: int
) -> Batch:
    """At most `size` examples as arrays, in `parts` parts, padded to few shapes."""
    prompt = _extent(max(len(line["prompt_ids"]) for line in lines))
    horizon = _extent(max(len(ids) for line in lines for ids in line["completion_ids"]))
    tokens = np.full((size, prompt), pad, np.int32)
    length = np.ones(size, np.int32)
    response = np.full((size, width, horizon), pad, np.int32)
    lengths = np.zeros((size, width), np.int32)
    base, sampler, reward = np.zeros((3, size, width), np.float32)
    for b, line in enumerate(lines):
        ids = line["prompt_ids"]
        tokens[b, : len(ids)], length[b] = ids, len(ids)
        for k, own in enumerate(line["completion_ids"]):
            response[b, k, : len(own)], lengths[b, k] = own, len(own)
        base[b], reward[b] = line["logprob_base"], line["reward"]
        sampler[b] = line["logprob_sampler"]
    part = lambda x: x.reshape(parts, size // parts, *x.shape[1:])
    return Batch(
        Prompts(part(tokens), part(length)),
        Response(part(response), part(lengths), part(sampler)),
        part(base),
        part(reward),
    )


def _extent(size: int) -> int:
    """The least of 8, 12, 16, 24, 32, 48, ... that holds `size`: few shapes."""
    whole = bucket(size, 8)
    return whole * 3 // 4 if 8 < whole and size <= whole * 3 // 4 else whole
