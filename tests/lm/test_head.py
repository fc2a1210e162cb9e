"""The last layer in tiles against float64 numpy on all logits at once."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jsharp.lm import head

R, V, D = 5, 300, 8
# Tiles of 300, of 256 (the last moved back by 212), of 100 and of one token.
LIMITS = (None, R * 256, R * 100, 1)


def random(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(7), 4)
    rows = jax.random.normal(keys[0], (R, D)).astype(dtype)
    table = jax.random.normal(keys[1], (V, D)).astype(dtype)
    targets = jax.random.randint(keys[2], (R,), 0, V).at[0].set(V - 1).at[1].set(0)
    # One target that is the mode, so that rank 0 is seen.
    mode = jnp.argmax(rows[2].astype(jnp.float32) @ table.astype(jnp.float32).T)
    return rows, table, targets.at[2].set(mode), jax.random.normal(keys[3], (R,))


def brute(rows, table, targets):
    """The six statistics and p [R V], in float64."""
    logits = np.asarray(rows, np.float64) @ np.asarray(table, np.float64).T
    table = scipy.special.log_softmax(logits, axis=-1)
    p, picked = np.exp(table), np.take_along_axis(table, targets[:, None], -1)
    return p, head.Statistics(
        log_prob=picked[:, 0],
        best=table.max(-1),
        entropy=scipy.special.entr(p).sum(-1),
        rank=(table > picked).sum(-1),
        logsumexp=scipy.special.logsumexp(logits, axis=-1),
        certainty=(np.log(1 / V) - table).mean(-1),
    )


@pytest.mark.parametrize("limit", LIMITS)
def test_equals_brute_force(limit):
    *inputs, _ = random()
    wanted = brute(*map(np.asarray, inputs))[1]
    one = functools.partial(head.log_prob_of, logits_at_once=limit)
    many = functools.partial(head.statistics, logits_at_once=limit)
    found = jax.jit(many)(*inputs)
    assert wanted.rank[2] == 0 and wanted.rank.max() > 50
    for x, y in zip(found, wanted, strict=True):  # float32 sums of 8 and of 300 terms
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(one)(*inputs), wanted.log_prob, rtol=1e-5)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_uniform_law_has_no_certainty(limit):
    """Logits that are equal, and far from 0: p is uniform in every tile."""
    rows, table = jnp.full((R, 1), 1e3), jnp.ones((V, 1))
    run = functools.partial(head.statistics, logits_at_once=limit)
    found = jax.jit(run)(rows, table, jnp.arange(R))
    np.testing.assert_allclose(found.certainty, 0, atol=1e-5)


def slopes(rows, table, targets, weight, limit):
    total = lambda rows, table: (
        weight * head.log_prob_of(rows, table, targets, logits_at_once=limit)
    ).sum()
    return jax.jit(jax.grad(total, argnums=(0, 1)))(rows, table)


@pytest.mark.parametrize("limit", LIMITS)
def test_gradient_is_the_target_less_its_expectation(limit):
    """d row = a table, d table = a^T rows, where a_rv = w_r ([v = y_r] - p_rv)."""
    rows, table, targets, weight = random()
    p, _ = brute(rows, table, np.asarray(targets))
    aim = weight[:, None] * (np.eye(V)[np.asarray(targets)] - p)
    found = slopes(rows, table, targets, weight, limit)
    np.testing.assert_allclose(found[0], aim @ np.asarray(table), atol=1e-5)
    np.testing.assert_allclose(found[1], aim.T @ np.asarray(rows), atol=1e-5)


def test_bfloat16_is_summed_in_float32():
    """Of the rounded inputs the log-prob is exact; slopes are rounded to 8 bits."""
    rows, table, targets, weight = random(jnp.bfloat16)
    found = jax.jit(head.log_prob_of)(rows, table, targets)
    chex.assert_type(found, jnp.float32)
    p, wanted = brute(rows, table, np.asarray(targets))
    np.testing.assert_allclose(found, wanted.log_prob, rtol=1e-5)
    aim = weight[:, None] * (np.eye(V)[np.asarray(targets)] - p)
    found = slopes(rows, table, targets, weight, None)
    chex.assert_type(found, jnp.bfloat16)
    for x, y in zip(found, (aim @ np.asarray(table), aim.T @ rows), strict=True):
        wide = np.asarray(x, np.float64)
        np.testing.assert_allclose(wide, y, atol=2**-7 * np.abs(y).max())


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_stay_finite(size):
    """One token holds all the mass: log-prob 0 for it, minus 2e4 for the rest."""
    rows, table = jnp.ones((2, 1)), jnp.zeros((V, 1)).at[7].set(abs(size))
    rows = rows * jnp.sign(size)
    inputs = rows, table * 2, jnp.asarray([7, 8])
    p, wanted = brute(*map(np.asarray, inputs))
    for x, y in zip(jax.jit(head.statistics)(*inputs), wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-3)
    chex.assert_tree_all_finite(slopes(*inputs, jnp.ones(2), R * 100))


def test_tiles_are_no_larger_than_asked_in_either_direction():
    rows, table, targets, weight = random()
    found = jax.make_jaxpr(functools.partial(slopes, limit=R * 100))(
        rows, table, targets, weight
    )
    shapes = re.findall(r"(?:f32|i32|bool)\[([0-9,]+)\]", str(found))
    shapes = [tuple(map(int, s.split(","))) for s in shapes]
    assert max(math.prod(s) for s in shapes if s[0] == R) == R * 100
    assert not [s for s in shapes if s[-1] == V and len(s) > 1]


def test_statistics_have_no_gradient():
    rows, table, targets, _ = random()
    total = lambda rows: sum(x.sum() for x in head.statistics(rows, table, targets))
    assert not jax.grad(total)(rows).any()
