"""A checkpoint comes back bit for bit, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsharp.lm import checkpoint


@pytest.fixture(scope="module")
def state():
    params = {"w": jax.random.normal(jax.random.key(0), (3, 4)), "b": jnp.zeros(4)}
    opt_state = optax.adamw(1e-3).init(params)
    return {"params": params, "opt_state": opt_state, "step": jnp.asarray(7)}


def _scaled(state, factor):
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), state)


def _assert_bits(restored, expected_step, right):
    step, left = restored
    assert step == expected_step
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_round_trip_is_bit_for_bit(tmp_path, state):
    checkpoint.save(tmp_path, 7, state)
    _assert_bits(checkpoint.restore(tmp_path, _scaled(state, 0)), 7, state)


def test_nothing_saved_is_none(tmp_path, state):
    assert checkpoint.restore(tmp_path / "absent", state) is None
    assert checkpoint.restore(tmp_path, state) is None


def test_latest_wins_old_steps_go_and_a_step_is_written_once(tmp_path, state):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, _scaled(state, step), keep=2)
    checkpoint.save(tmp_path, 10, state, keep=2)  # already there: left alone
    _assert_bits(checkpoint.restore(tmp_path, state), 10, _scaled(state, 10))
    _assert_bits(checkpoint.restore(tmp_path, state, step=2), 2, _scaled(state, 2))
    with pytest.raises(ValueError, match=r"no step 1, found \[2, 10\]"):
        checkpoint.restore(tmp_path, state, step=1)


def test_a_half_written_checkpoint_is_not_seen(tmp_path, state):
    checkpoint.save(tmp_path, 3, state)
    torn = tmp_path / "4.orbax-checkpoint-tmp"
    torn.mkdir()
    (torn / "state").write_bytes(b"torn")
    _assert_bits(checkpoint.restore(tmp_path, state), 3, state)
    assert not torn.exists()


def test_another_shape_is_refused_by_name(tmp_path, state):
    checkpoint.save(tmp_path, 3, state)
    wider = {**state, "params": {**state["params"], "b": jnp.zeros(5)}}
    with pytest.raises(ValueError, match=r"3: state\['params'\]\['b'\]: .*\(5,\)"):
        checkpoint.restore(tmp_path, wider)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, state):
    checkpoint.save(tmp_path, 3, state)
    (tmp_path / "3" / "state" / "_METADATA").write_bytes(b"{")
    with pytest.raises(ValueError, match="3: expected a whole checkpoint of this run"):
        checkpoint.restore(tmp_path, state)


def test_going_back_is_refused(tmp_path, state):
    """Orbax would skip the earlier step in silence."""
    checkpoint.save(tmp_path, 10, state)
    with pytest.raises(ValueError, match="holds step 10, later than 5"):
        checkpoint.save(tmp_path, 5, state)


def test_keeping_nothing_is_refused(tmp_path, state):
    with pytest.raises(ValueError, match="keep at least 1 checkpoint, got 0"):
        checkpoint.save(tmp_path, 1, state, keep=0)
