"""The search finds maxima that are known, and survives NaN and flat ground."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import Effort
from theory.search import ascend, attack, between

EFFORT = Effort(starts=16, steps=300, instances=0, replications=0)


def test_ascent_climbs_a_parabola_to_its_top():
    top = jnp.array([1.0, -2.0])
    gap = lambda x: 3.0 - jnp.sum((x - top) ** 2)
    best, found = ascend(jnp.zeros((4, 2)), gap, steps=400)
    np.testing.assert_allclose(best, 3.0, atol=1e-3)
    np.testing.assert_allclose(found, jnp.stack([top] * 4), atol=0.03)


def test_the_best_point_of_the_path_is_kept_not_the_last():
    """A cliff: the objective drops to -100 beyond its edge, where ascent overshoots."""
    gap = lambda x: jnp.where(x[0] > 1.0, -100.0, x[0])
    best, found = ascend(jnp.zeros((1, 1)), gap, steps=300)
    assert 0.9 < float(best[0]) <= 1.0
    assert float(gap(found[0])) == float(best[0])


def test_nan_is_never_kept_and_does_not_move():
    gap = lambda x: jnp.where(x[0] < 0.0, jnp.nan, -x[0])
    best, found = ascend(jnp.array([[0.2], [-1.0]]), gap, steps=50)
    assert float(found[0, 0]) >= 0.0 and np.isfinite(float(best[0]))
    assert float(best[1]) == -jnp.inf


def test_more_starts_reach_the_higher_of_two_peaks():
    gap = lambda x: jnp.maximum(1.0 - (x[0] + 3) ** 2, 2.0 - (x[0] - 3) ** 2)
    best, _ = ascend(jnp.array([[-4.0], [4.0]]), gap, steps=200)
    np.testing.assert_allclose(best, [1.0, 2.0], atol=1e-3)


def test_attack_finds_the_known_supremum_on_the_simplex(key):
    """p_1 p_2 p_3 <= 1/27 with equality at the uniform law."""
    pair = lambda i: (jnp.prod(i["p"]), jnp.asarray(1 / 27))
    decode = lambda raw: {"p": jax.nn.softmax(raw["p"])}
    batch = attack(key, pair, {"p": (3,)}, decode, effort=EFFORT)
    assert batch["p"].shape == (16, 3)
    assert batch["p"].prod(-1).max() == pytest.approx(1 / 27, rel=1e-4)


def test_attack_is_a_function_of_its_key():
    pair = lambda i: (i["p"][0], jnp.asarray(1.0))
    decode = lambda raw: {"p": jax.nn.softmax(raw["p"])}
    few = Effort(starts=2, steps=3, instances=0, replications=0)
    keys = (jax.random.key(seed) for seed in (7, 7, 8))
    once, again, other = (
        attack(key, pair, {"p": (3,)}, decode, effort=few) for key in keys
    )
    np.testing.assert_array_equal(once["p"], again["p"])
    assert not np.array_equal(once["p"], other["p"])


def test_between_is_a_smooth_increasing_map_onto_the_interval():
    raw = jnp.linspace(-30.0, 30.0, 41)
    value = np.asarray(between(raw, 1e-3, 10.0))
    assert (np.diff(value) > 0).all()
    assert value[0] == pytest.approx(1e-3) and value[-1] == pytest.approx(10.0)
    assert float(between(jnp.zeros(()), 1e-3, 10.0)) == pytest.approx(0.1)
