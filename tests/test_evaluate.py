"""Evaluation of samples, by hand."""

import numpy as np
import pytest

from jsharp.evaluate import Samples, best_of_k_curve, compare, paired_gain

SAMPLES = Samples(
    correct=np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], bool),
    log_prob=np.array(
        [[-1.0, -2.0, -3.0], [-5.0, -1.0, -2.0], [-1.0, -1.0, -1.0], [-3.0, -4.0, -1.0]]
    ),
    score={
        "log-probability": np.array(
            [[-1.0, -2, -3], [-5, -1, -2], [-1, -1, -1], [-3, -4, -1]]
        ),
        "second": np.array([[0.0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]),
    },
    greedy_correct=np.array([1, 0, 0, 0], bool),
    greedy_log_prob=np.array([-1.0, -1.0, -1.0, -1.0]),
)


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in compare(SAMPLES, level=0.1, seed=0)}


def test_accuracies_by_hand(rows):
    expected = {
        "greedy": 1 / 4,
        "one sample": (1 + 1 + 0 + 2) / 12,
        "best of 3, log-probability": 2 / 4,
        "best of 3, second": 2 / 4,
        "coverage at 3": 3 / 4,
    }
    assert list(rows) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(rows[name].accuracy.estimate, value)
        np.testing.assert_allclose(rows[name].lift.estimate, value - 0.25, atol=1e-12)


def test_log_prob_of_the_picked_response(rows):
    assert rows["best of 3, log-probability"].log_prob == -1.0
    assert rows["best of 3, second"].log_prob == -(2 + 1 + 1 + 4) / 4
    assert np.isnan(rows["coverage at 3"].log_prob)


def test_greedy_has_no_lift_over_itself_and_no_interval_of_it(rows):
    assert tuple(rows["greedy"].lift) == (0, 0, 0)


def test_curve_runs_from_one_sample_to_best_of_all(rows):
    curve = best_of_k_curve(SAMPLES, "log-probability", level=0.1, seed=0)
    np.testing.assert_array_equal(curve.k, [1, 2, 3])
    np.testing.assert_allclose(curve.accuracy[0], rows["one sample"].accuracy)
    np.testing.assert_allclose(
        curve.accuracy[-1], rows["best of 3, log-probability"].accuracy
    )
    # Best of 2 by hand, prompt 0: pairs (0,1), (0,2) are right, (1,2) wrong: 2/3.
    # Prompt 1: (0,1), (1,2) right: 2/3. Prompt 2: 0. Prompt 3: (0,1) right: 1/3.
    np.testing.assert_allclose(curve.accuracy[1].estimate, (2 + 2 + 0 + 1) / 12)
    assert (np.diff(curve.log_prob) >= 0).all()


def test_paired_gain():
    gain = paired_gain(np.zeros(50), np.ones(50) * 0.25, level=0.05, seed=0)
    assert tuple(gain) == (0.25, 0.25, 0.25)
