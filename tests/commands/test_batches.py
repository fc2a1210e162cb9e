"""Responses in batches: each once, each prompt once, few shapes."""

import itertools
import random

import jax
import numpy as np
import pytest

from jsharp.commands.batches import Given, batches
from jsharp.lm.shapes import bucket


def _given(seed, count=40):
    """Runs of responses to one prompt, of unequal lengths; prompts may come again."""
    draw = random.Random(seed)
    ids = lambda most: tuple(draw.randrange(9) for _ in range(draw.randint(1, most)))
    prompts = [ids(20) for _ in range(3)]
    prompts.append(tuple(reversed(prompts[0])))  # of one length, yet another prompt
    found = []
    while len(found) < count:
        prompt = draw.choice(prompts)
        found += [Given(prompt, ids(40)) for _ in range(draw.randint(1, 7))]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_every_response_is_there_once_beside_its_prompt(seed, slots):
    given = _given(seed)
    seen, rows = [], 0
    for batch in batches(given, slots=slots, pad=5):
        prompts, response, place = jax.tree.map(np.asarray, batch)
        assert place.size <= slots
        for b, n in np.argwhere(place >= 0):
            prompt, completion = given[place[b, n]]
            assert tuple(prompts.tokens[b, : prompts.length[b]].tolist()) == prompt
            row = response.tokens[b, n, : response.length[b, n]]
            assert tuple(row.tolist()) == completion
            seen.append(place[b, n])
        assert (response.length[place < 0] == 0).all()
        rows += (place >= 0).any(1).sum()
    assert sorted(seen) == list(range(len(given)))
    runs = [len(list(run)) for _, run in itertools.groupby(g.prompt for g in given)]
    assert rows == sum(-(-size // slots) for size in runs)  # prompts computed


def test_extents_are_powers_of_two_so_few_shapes_are_compiled():
    shapes = {
        (batch.prompts.tokens.shape, batch.response.tokens.shape)
        for seed in range(20)
        for batch in batches(_given(seed), slots=16, pad=5)
    }
    extents = {extent for pair in shapes for shape in pair for extent in shape}
    assert all(extent & (extent - 1) == 0 for extent in extents)
    # (1, 2, 4, 8 columns in 5, 4, 3, 2 heights) by prompts to 16 or 32 by responses to
    # 16, 32 or 64
    assert len(shapes) <= 14 * 2 * 3


def test_a_long_prompt_or_response_makes_no_other_longer():
    long, short = tuple(range(100)), (1, 2)
    given = [Given(long, short), Given(short, short), Given((3,), long)]
    widths = {
        int(place): (batch.prompts.tokens.shape[1], batch.response.tokens.shape[2])
        for batch in batches(given, slots=16, pad=5)
        for place in batch.place.flat
        if place >= 0
    }
    assert widths == {0: (bucket(100), 16), 1: (16, 16), 2: (16, bucket(100))}
