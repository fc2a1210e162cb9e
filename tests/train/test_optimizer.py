"""Schedules and AdamW against hand values."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsharp.train.command import parse
from jsharp.train.optimizer import optimizer, schedule


def config(*words):
    return parse(["sft", "--output-dir", "x", *map(str, words)])[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [8, 6, 4, 2]),
        (("--lr-scheduler-type", "constant"), [8, 8, 8, 8]),
        (
            ("--lr-scheduler-type", "cosine"),
            [8, 4 + 4 * 0.5**0.5, 4, 4 - 4 * 0.5**0.5],
        ),
        (("--warmup-steps", 2), [4, 8, 8, 4]),
        (("--warmup-steps", 2, "--lr-scheduler-type", "constant"), [4, 8, 8, 8]),
        (("--warmup-steps", 8), [1, 2, 3, 4]),
    ],
)
def test_schedule(words, expected):
    """Four steps, at most 8: the first and the last, and all between."""
    rate = schedule(config("--learning-rate", 8, *words), 4)
    found = [float(rate(jnp.asarray(step))) for step in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_step_of_adamw():
    """From zero moments its first step is -rate g / (|g| + eps), after the clip."""
    params = {"w": jnp.array([[3.0, -2.0]]), "scale": jnp.array([5.0])}
    grads = {"w": jnp.array([[0.3, -0.4]]), "scale": jnp.array([1.2])}
    words = ("--max-grad-norm", 0.13e-6, "--weight-decay", 0.5)
    tx = optimizer(config(*words), optax.constant_schedule(0.1))
    updates, _ = tx.update(grads, tx.init(params), params)
    cut = lambda g: 1e-7 * np.asarray(g)  # the norm is 1.3
    adam = lambda g: cut(g) / (np.abs(cut(g)) + 1e-8)
    expected = -0.1 * (adam(grads["w"]) + 0.5 * np.array([[3.0, -2.0]]))
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-4)
    # A vector is no matrix: it does not decay.
    np.testing.assert_allclose(updates["scale"], -0.1 * adam(grads["scale"]), rtol=1e-4)


def test_a_short_gradient_is_not_cut():
    grads = {"w": jnp.array([[3e-9, 4e-9]])}
    tx = optimizer(config("--max-grad-norm", 1.0), optax.constant_schedule(0.1))
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates["w"], [[-0.3 / 13, -0.4 / 14]], rtol=1e-4)
