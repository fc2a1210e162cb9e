"""Updates: an optax step, and the exact argmin of a finite class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsharp.update import finite_class, first_argmax, gradient


def parabola(centre):
    return lambda params: ((params - centre) ** 2).sum()


def test_gradient_follows_the_mean_and_reports_it():
    update = gradient(optax.sgd(0.25))
    state, info = update.step(update.init(jnp.zeros(2)), parabola(2.0), count=4)
    # Mean loss 8/4; its gradient 2*(0-2)/4 = -1 in each of 2 coordinates.
    np.testing.assert_allclose(state.params, [0.25, 0.25])
    np.testing.assert_allclose([info.loss, info.grad_norm], [2.0, np.sqrt(2)])


def test_gradient_prefers_the_replay_and_repeats():
    update = gradient(optax.sgd(0.5), steps=3)
    start = update.init(jnp.zeros(1))
    state, info = update.step(start, parabola(9.0), count=1, replay=parabola(1.0))
    # Exact in one step of 0.5; two more stay there. The loss is the one before them.
    np.testing.assert_allclose(state.params, [1.0])
    np.testing.assert_allclose(info.loss, 1.0)


def test_gradient_takes_as_many_steps_as_asked():
    update = gradient(optax.sgd(0.25), steps=3)
    state, _ = update.step(update.init(jnp.zeros(1)), parabola(8.0), count=1)
    # Each step halves the distance to 8.
    np.testing.assert_allclose(state.params, [7.0])


def test_finite_class_adds_up_and_takes_the_first_of_equals():
    members = jnp.asarray([[0.0], [3.0], [1.0], [1.0]])
    update = finite_class(members)
    step = jax.jit(lambda state, c: update.step(state, parabola(c), count=1))
    state, info = step(update.init(members[0]), 3.0)
    np.testing.assert_array_equal(state.params, [3.0])
    np.testing.assert_allclose(info.loss, 0)
    state, _ = step(state, -1.0)
    np.testing.assert_allclose(state.inner, [9 + 1, 0 + 16, 4 + 4, 4 + 4])
    np.testing.assert_array_equal(state.params, members[2])


def test_finite_class_of_pytrees():
    members = {"a": jnp.arange(3.0), "b": jnp.ones((3, 2)) * jnp.arange(3.0)[:, None]}
    update = finite_class(members)
    loss = lambda p: (p["a"] - 2.0) ** 2 + p["b"].sum() * 0
    state, _ = update.step(update.init(None), loss, count=1)
    np.testing.assert_array_equal(state.params["b"], [2.0, 2.0])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_first_argmax_is_argmax(size):
    rng = np.random.default_rng(size)
    score = rng.integers(0, 4, size=(50, size)).astype(float)
    score[0] = -np.inf
    found = first_argmax(jnp.asarray(score))
    np.testing.assert_array_equal(found, score.argmax(1))
