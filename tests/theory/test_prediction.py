"""Predictions against what is measured later."""

import numpy as np
import pytest

from jsharp.stats import Interval
from theory import prediction
from theory.pilot import Pilot


def marked_pilot(correct) -> Pilot:
    """Two draws to each prompt: response 0, then 1 where the mark is False."""
    return Pilot(
        ids=tuple(f"p{i}" for i in range(len(correct))),
        prompts=tuple((i,) for i in range(len(correct))),
        tokens=tuple(tuple((int(not mark),) for mark in row) for row in correct),
        log_prob=np.log(np.where(correct, 0.6, 0.4)),
        length=np.ones(correct.shape, int),
        cut=np.zeros(correct.shape, bool),
        correct=correct,
        greedy=((0,),) * len(correct),
        greedy_log_prob=np.log(np.full(len(correct), 0.6)),
        greedy_correct=correct[:, 0],
    )


def test_check_says_where_the_measured_lies():
    table = {f"{name} of best of 4": None for name in prediction.NAMES}
    table["accuracy of best of 4"] = Interval(0.5, 0.4, 0.6)
    outcome = lambda *measured: (
        prediction.check(table, {"accuracy": Interval(*measured)}, draws=4)[0].outcome
    )
    assert outcome(0.6, 0.5, 0.7) == "within"
    assert outcome(0.61, 0.59, 0.63) == outcome(0.39, 0.3, 0.41) == "near"
    assert outcome(0.7, 0.61, 0.8) == "above" and outcome(0.2, 0.1, 0.3) == "below"
    findings = prediction.check(table, {"accuracy": None}, draws=4)
    assert [f.outcome for f in findings] == ["not measured"] + ["not predicted"] * 3
    with pytest.raises(ValueError, match=r"one of N = \[4\] of the diagnosis, found 8"):
        prediction.check(table, {}, draws=8)


def test_measure_is_over_the_prompts_whose_mode_is_known():
    correct = np.array([[True, False], [True, True]])
    draws = marked_pilot(correct)
    modes = {("p1", (1,)): (0,), ("else", (0,)): (5,), ("p0", (7,)): (0,)}
    found = prediction.measure(draws, modes, level=0.05, seed=0)
    # p0 of the modes is another prompt of that id: its draws are not looked at.
    assert found["hits"].estimate == 1 and found["accuracy"].estimate == 0.75
    assert found["log_prob"].estimate == pytest.approx(np.mean(draws.log_prob))
    assert prediction.measure(draws, {}, level=0.05, seed=0)["hits"] is None
