"""What figures 1 to 6 say of their numbers."""

import numpy as np
import pytest

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.paper import fig1, fig2, fig3, fig4, fig5, fig6
from experiments.reproduce import inference

UP, DOWN, OPEN = [1.0, 0.5, 2.0], [-1.0, -2.0, -0.5], [0.0, -1.0, 1.0]


def cell3(saturation, n=50):
    return {
        "model": "m",
        "task": "t",
        "k": list(range(1, n + 1)),
        "saturation": saturation,
    }


@pytest.mark.parametrize(
    "found, agrees",
    [
        ([[12.0, 8.0, 20.0]], True),
        ([[30.0, 21.0, 40.0]], False),
        ([[30.0, None, None]], False),
        ([[20.0, 12.0, 30.0]], None),
        ([[20.0, 12.0, None]], None),
        ([None], None),
        ([[12.0, 8.0, 20.0], [30.0, 21.0, 40.0]], None),
        ([[12.0, 8.0, 20.0], [30.0, 21.0, 40.0], [4.0, 3.0, 5.0], None], True),
    ],
)
def test_whether_accuracy_saturates(found, agrees):
    (check,) = fig3.judge({"cells": [cell3(x) for x in found]})
    assert check.agrees is agrees


def test_nothing_saturates_by_20_where_n_is_not_above_it():
    (check,) = fig3.judge({"cells": [cell3([12.0, 8.0, 20.0], n=20)]})
    assert check.agrees is None


@pytest.mark.parametrize(
    "found, agrees",
    [
        ([UP], True),
        ([OPEN], None),
        ([UP, UP], True),
        ([UP, DOWN], False),
        ([UP, OPEN], None),
        ([[1.0, 0.1, 1.9]], True),
        ([[1.0, 0.1, 1.9]] * 8, None),
        ([], None),
    ],
)
def test_whether_the_log_likelihood_rises_past_greedy(found, agrees):
    rows = [{"model": "m", "task": "t", "over_greedy": each} for each in found]
    (check,) = fig4.judge({"cells": rows})
    assert check.agrees is agrees


def cell2(tokens=DOWN, gain=UP, normalised=UP, majority=UP, coverage=(0.97, 0.95, 1)):
    return {
        "model": "m",
        "task": "t",
        "tokens_over_sample": {"log-probability": tokens},
        "gain": {"log-probability": gain},
        "over_log_probability": {"length-normalised": normalised, "majority": majority},
        "coverage": list(coverage),
    }


@pytest.mark.parametrize(
    "found, agrees",
    [
        ([cell2()], [True, False, True, True, True]),
        ([cell2(gain=DOWN)], [True, True, True, True, True]),
        ([cell2(tokens=UP, gain=DOWN)], [False, None, True, True, True]),
        ([cell2(tokens=OPEN, gain=DOWN)], [None, None, True, True, True]),
        ([cell2(normalised=DOWN)], [True, False, False, True, True]),
        ([cell2(majority=DOWN)], [True, False, True, False, True]),
        ([cell2(majority=OPEN)], [True, False, True, None, True]),
        ([cell2(coverage=(0.8, 0.7, 0.89))], [True, False, True, True, False]),
        ([cell2(coverage=(0.9, 0.8, 0.95))], [True, False, True, True, None]),
        ([cell2(), cell2(gain=OPEN)], [True, None, True, True, True]),
        ([], [None] * 5),
    ],
)
def test_what_is_said_of_the_selections(found, agrees):
    assert [check.agrees for check in fig2.judge({"cells": found})] == agrees


def laws_of(log_prob: np.ndarray, right: np.ndarray):
    samples = [
        [{"logprob_base": x, "correct": bool(y)} for x, y in zip(*row, strict=True)]
        for row in zip(log_prob, right, strict=True)
    ]
    return fig6.laws(inference.Cell("m", "t", inference.Sampled(samples, []), []))


def judged(found) -> list[bool | None]:
    return [check.agrees for check in fig6.judge({"cells": [found]})]


def test_easy_prompts_make_a_pooled_difference_and_none_within():
    rng = np.random.default_rng(0)
    easy = np.arange(40)[:, None] % 2 == 0
    right = rng.random((40, 20)) < np.where(easy, 0.9, 0.1)
    # Likelier where it is easy; within a prompt the correct ones are less likely.
    log_prob = rng.normal(size=(40, 20)) + 5 * easy - 1.0 * right
    assert judged(laws_of(log_prob, right))[1:] == [True, False]


@pytest.mark.parametrize(
    "shift, agrees",
    [(1.0, [True] * 3), (-1.0, [False] * 3), (0.0, [None] * 3)],
)
def test_shifted_laws_are_ordered(shift, agrees):
    rng = np.random.default_rng(1)
    right = rng.random((40, 20)) < 0.4
    log_prob = rng.normal(size=(40, 20)) + shift * right
    assert judged(laws_of(log_prob, right)) == agrees


def test_laws_that_cross_are_not_ordered_though_one_is_mostly_likelier():
    rng = np.random.default_rng(2)
    right = rng.random((60, 20)) < 0.5
    log_prob = rng.normal(size=(60, 20))
    # Most correct responses are likelier, and a third far less likely than any other.
    log_prob += right * np.where(rng.random((60, 20)) < 0.3, -9.0, 2.0)
    assert judged(laws_of(log_prob, right)) == [False, True, True]


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_alone_is_not_compared(kind):
    found = laws_of(np.zeros((12, 6)) - np.arange(6.0), np.full((12, 6), kind))
    assert found["prompts_with_both"] == 0 and found["within"] is None
    assert judged(found) == [None] * 3
    assert fig6.tell({"cells": [found]}).count("nothing shown") == 2


def test_the_example_has_the_surest_gain():
    gains = [[0.5, 0.01, 0.9], [0.2, 0.1, 0.3], [0.1, -0.2, 0.4]]
    rows = [{"gain": gain, "percent_lift": UP} for gain in gains]
    assert fig1.example(rows) == 1
    # Where greedy is never right there is no lift to show.
    rows[1]["percent_lift"] = None
    assert fig1.example(rows) == 0
    assert fig1.example([x | {"percent_lift": None} for x in rows]) == 1


@pytest.mark.parametrize(
    "gains, agrees",
    [
        ([UP], True),
        ([DOWN], False),
        ([OPEN], None),
        ([UP, DOWN, OPEN], None),
        ([UP, UP, DOWN], True),
    ],
)
def test_whether_best_of_n_is_more_accurate(gains, agrees):
    rows = [{"model": "m", "task": "t", "gain": gain} for gain in gains]
    (check,) = fig1.judge({"cells": rows})
    assert check.agrees is agrees
    (check,) = fig5.judge({"accuracy": rows, "log_prob": []})
    assert check.agrees is agrees
