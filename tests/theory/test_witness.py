"""Witness files: what is saved comes back, and nothing else is accepted."""

import numpy as np
import pytest

from theory.claim import Claim, exactly, judge
from theory.witness import load, replay, save

BATCH = {"pi": np.array([[0.1, 0.9], [1 / 3, 2 / 3]]), "n": np.array([3, 4])}


def sides(batch):
    return exactly(batch["pi"][:, 1] ** batch["n"], batch["pi"][:, 0])


CLAIM = Claim("Lem 0.0", "p", "exact", lambda key, effort: [BATCH], sides, ())


def test_a_saved_witness_gives_the_same_sides(tmp_path):
    verdict = judge([BATCH], sides)
    save(tmp_path / "w.npz", "Lem 0.0", verdict)
    saved = load(tmp_path / "w.npz")
    assert saved.claim_id == "Lem 0.0"
    assert (saved.left, saved.right) == (verdict.left, verdict.right)
    assert saved.witness.keys() == BATCH.keys()
    assert replay(CLAIM, saved.witness) == (verdict.left, verdict.right)


def test_a_file_without_the_fields_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, claim=np.array("Lem 0.0"), left=np.array(1.0))
    with pytest.raises(ValueError, match="other.npz: expected the field 'right'"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "junk.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="junk.npz: expected a witness"):
        load(path)


def test_a_missing_file_and_a_bare_array_are_refused(tmp_path):
    with pytest.raises(ValueError, match="none.npz: expected a witness"):
        load(tmp_path / "none.npz")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(ValueError, match="bare.npy: expected a witness"):
        load(tmp_path / "bare.npy")


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "pickle.npz"
    np.savez(path, claim=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickle.npz: expected a witness"):
        load(path)


def test_a_witness_of_another_claim_is_refused():
    with pytest.raises(ValueError, match="expected the witness field 'n'"):
        replay(CLAIM, {"pi": np.ones(2)})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("left", np.zeros(2), "left: expected one number"),
        ("right", np.array(1j), "right: expected real numbers"),
        ("witness.pi", np.array(["a", "b"]), "witness.pi: expected real numbers"),
    ],
)
def test_a_field_of_another_kind_is_refused(tmp_path, field, value, message):
    path = tmp_path / "w.npz"
    fields = {"claim": np.array("Lem 0.0"), "left": np.array(0.5)}
    fields |= {"right": np.array(1.0), "witness.pi": np.array([0.1, 0.9])}
    np.savez(path, **fields | {field: value})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_an_instance_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="Lem 0.0: no instance of this claim has"):
        replay(CLAIM, {"pi": np.array(0.5), "n": np.array(3)})
