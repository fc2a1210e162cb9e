"""Responses to score, laid out so that each prompt is computed once, in few shapes.

Consecutive responses to one prompt share a row of n columns; every extent is a power of
two, so that few shapes are ever compiled.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jsharp.lm.shapes import bucket
from jsharp.policy import Prompts, Response

LEAST = 16  # tokens that prompts and responses are padded to, at least


class Given(NamedTuple):
    """A response to score."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]


class Batch(NamedTuple):
    """One call of the scorer; `place` says which given response a row holds, or -1."""

    prompts: Prompts
    response: Response
    place: Int[np.ndarray, "B n"]


def batches(given: Sequence[Given], *, slots: int, pad: int) -> Iterator[Batch]:
    """Every given response, once; at most `slots` (a power of two) in a batch.

    A batch holds prompts of one bucket and responses of one, so that a long one makes
    no short one long.
    """
    by_shape: dict[tuple[int, int, int], list[list[int]]] = {}
    for prompt, run in itertools.groupby(range(len(given)), lambda i: given[i].prompt):
        for row in _cut(list(run), slots):
            longest = max(len(given[i].completion) for i in row)
            shape = bucket(len(row)), bucket(len(prompt), LEAST), bucket(longest, LEAST)
            by_shape.setdefault(shape, []).append(row)
    for (columns, prompt_width, width), rows in by_shape.items():
        for some in _cut(rows, slots // columns):
            place = np.full((bucket(len(some)), columns), -1, np.int32)
            for row, places in zip(place, some, strict=False):
                row[: len(places)] = places
            yield _batch(given, place, prompt_width, width, pad)


def _cut(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _batch(
    given: Sequence[Given],
    place: Int[np.ndarray, "B n"],
    prompt_width: int,
    width: int,
    pad: int,
) -> Batch:
    prompts = np.full((len(place), prompt_width), pad, np.int32)
    tokens = np.full((*place.shape, width), pad, np.int32)
    prompt_length = np.ones(len(place), np.int32)
    length = np.zeros(place.shape, np.int32)
    for b, n in np.argwhere(place >= 0).tolist():
        prompt, completion = given[int(place[b, n])]
        prompts[b, : len(prompt)], prompt_length[b] = prompt, len(prompt)
        tokens[b, n, : len(completion)], length[b, n] = completion, len(completion)
    unseen = jnp.zeros(place.shape, jnp.float32)
    return Batch(
        Prompts(jnp.asarray(prompts), jnp.asarray(prompt_length)),
        Response(jnp.asarray(tokens), jnp.asarray(length), unseen),
        place,
    )
