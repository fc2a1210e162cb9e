"""One token at a time through the ring, against attention over the whole sequence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import CONFIG

from jsharp.lm import attention, cache

ROWS, COLUMNS, TIME, WIDTH = 2, 3, 13, 5
KV, GROUPS, HEAD = 2, 2, 6
ONE = dataclasses.replace(CONFIG, num_hidden_layers=1)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


QUERY = normal(0, ROWS, COLUMNS, TIME, KV, GROUPS, HEAD)
KEY, VALUE = (normal(seed, ROWS, COLUMNS, TIME, KV, HEAD) for seed in (1, 2))
LAYER = attention.KeyValue(*(normal(seed, ROWS, KV, 1, WIDTH, HEAD) for seed in (3, 4)))
VISIBLE = np.arange(WIDTH)[None] < np.asarray([[4], [0]])  # one prompt of one token
PREFIX = attention.Prefix((LAYER,), VISIBLE)


def decoded(size, birth, window, dtype="float32", stages=()):
    """What each slot gathers from its `birth` on, by a ring of `size` places."""
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
    shared = cache.share(PREFIX._replace(layers=cast(PREFIX.layers)))
    rings = cache.empty(dataclasses.replace(ONE, dtype=dtype), ROWS, COLUMNS, size)

    @jax.jit
    def step(rings, clock, age, *fed):
        attend = cache.decode(shared, rings, clock, age)
        mixed, ring = attend(0, *fed, window)
        return mixed, (ring,)

    out = []
    for clock in range(TIME):
        if clock in stages:
            rings = cache.grow(rings, stages[clock])
        age = jnp.maximum(clock - jnp.asarray(birth), 0)
        fed = cast([x[:, :, clock : clock + 1] for x in (QUERY, KEY, VALUE)])
        mixed, rings = step(rings, jnp.asarray(clock), age, *fed)
        out.append(np.asarray(mixed[:, :, 0], np.float32))
    return np.stack(out, axis=2)


def whole(row, column, birth, window):
    """One slot's tokens from its birth on, by attention over the whole sequence."""
    # Those before it are put behind, where causality hides them: one shape for all.
    fed = [np.roll(x, -birth, axis=2) for x in (QUERY, KEY, VALUE)]
    return _whole(*fed, window)[row, column, : TIME - birth]


@functools.partial(jax.jit, static_argnums=3)
def _whole(query, key, value, window):
    layer = attention.KeyValue(*map(jnp.asarray, LAYER))
    attend = attention.causal(attention.Prefix((layer,), jnp.asarray(VISIBLE)))
    return attend(0, query, key, value, window)[0]


def check(found, birth, window, **tolerance):
    for row in range(ROWS):
        for column in range(COLUMNS):
            born = birth[row][column]
            expected = whole(row, column, born, window)
            np.testing.assert_allclose(found[row, column, born:], expected, **tolerance)


@pytest.mark.parametrize("window", [0, 1, 3])
def test_slots_of_any_age_see_their_own_past_and_their_prompt(window):
    """A ring of 8 in 13 steps: places of former responses, wrapped around."""
    birth = [[5, 7, 9], [12, 6, 10]]
    check(decoded(8, birth, window), birth, window, atol=1e-6)


def test_a_ring_that_grows_before_it_is_full():
    birth = [[0, 0, 3], [1, 0, 0]]
    grown = decoded(4, birth, 0, stages={4: 8, 8: 16})
    check(grown, birth, 0, atol=1e-6)


def test_bfloat16_is_kept_and_the_softmax_is_float32():
    birth = [[0] * COLUMNS] * ROWS
    found = decoded(16, birth, 0, dtype="bfloat16")
    check(found, birth, 0, atol=0.04)
    rings = cache.empty(dataclasses.replace(ONE, dtype="bfloat16"), 1, 1, 8)
    assert rings[0].key.dtype == rings[0].value.dtype == jnp.bfloat16
