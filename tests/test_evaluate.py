"""Evaluation of samples: by hand, by every subset, and by resampling one by one."""

import itertools
import math

import numpy as np
import pytest

from jsharp.evaluate import (
    RESAMPLES,
    Measured,
    Pick,
    Samples,
    best_of_k_curve,
    changes,
    compare,
    flips,
    paired_gain,
    picks,
    summarise,
)
from jsharp.stats import bootstrap

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
        row = rows[name]
        np.testing.assert_allclose(row.mean["accuracy"].estimate, value)
        np.testing.assert_allclose(row.gain.estimate, value - 0.25, atol=1e-12)
        np.testing.assert_allclose(row.lift.estimate, 400 * (value - 0.25), atol=1e-9)


def test_log_prob_of_the_picked_response(rows):
    mean = lambda name: rows[name].mean["log_prob"].estimate
    assert mean("best of 3, log-probability") == -1.0
    assert mean("best of 3, second") == -(2 + 1 + 1 + 4) / 4
    assert "log_prob" not in rows["coverage at 3"].mean


def test_greedy_has_no_lift_over_itself_and_no_interval_of_it(rows):
    assert tuple(rows["greedy"].gain) == tuple(rows["greedy"].lift) == (0, 0, 0)


def test_curve_runs_from_one_sample_to_best_of_all(rows):
    curve = best_of_k_curve(SAMPLES, "log-probability", level=0.1, seed=0)
    np.testing.assert_array_equal(curve.k, [1, 2, 3])
    accuracy = lambda name: rows[name].mean["accuracy"]
    np.testing.assert_allclose(curve.accuracy[0], accuracy("one sample"))
    np.testing.assert_allclose(
        curve.accuracy[-1], accuracy("best of 3, log-probability")
    )
    # Best of 2 by hand, prompt 0: pairs (0,1), (0,2) are right, (1,2) wrong: 2/3.
    # Prompt 1: (0,1), (1,2) right: 2/3. Prompt 2: 0. Prompt 3: (0,1) right: 1/3.
    np.testing.assert_allclose(curve.accuracy[1].estimate, (2 + 2 + 0 + 1) / 12)
    assert (np.diff(curve.log_prob) >= 0).all()


def test_paired_gain():
    gain = paired_gain(np.zeros(50), np.ones(50) * 0.25, level=0.05, seed=0)
    assert tuple(gain) == (0.25, 0.25, 0.25)


B, N, LEVEL = 40, 5, 0.1


def random_measured(seed: int, *, answers: bool = True) -> Measured:
    """Scores of few values, so that many tie."""
    rng = np.random.default_rng(seed)
    sampled = {"accuracy": rng.random((B, N)) < 0.4, "length": rng.random((B, N))}
    greedy = {"accuracy": rng.random(B) < 0.3, "length": rng.random(B)}
    if not answers:
        del sampled["accuracy"], greedy["accuracy"]
    score = {name: rng.integers(0, 3, (B, N)).astype(float) for name in ("own", "vote")}
    return Measured(sampled, greedy, score)


def best_by_every_subset(score, value, k):
    """Of one prompt: the mean over subsets of the mean over the best of each."""
    means = []
    for subset in itertools.combinations(range(N), k):
        top = max(score[i] for i in subset)
        means.append(np.mean([value[i] for i in subset if score[i] == top]))
    return np.mean(means)


def test_every_pick_is_the_mean_over_every_subset():
    measured = random_measured(0)
    found = {(pick.by, pick.k): pick.value for pick in picks(measured, joint=["vote"])}
    every = range(1, N + 1)
    best = [("own", k) for k in every] + [("vote", N)]
    coverage = [("coverage", k) for k in every]
    assert list(found) == [("greedy", 1), ("sample", 1), *best, *coverage]
    for by, k in best:
        for name in ("accuracy", "length"):
            rows = zip(measured.score[by], measured.sampled[name], strict=True)
            expected = [best_by_every_subset(*row, k) for row in rows]
            np.testing.assert_allclose(found[by, k][name], expected, atol=1e-12)
    for _, k in coverage:
        expected = [
            np.mean([any(x) for x in itertools.combinations(row, k)])
            for row in measured.sampled["accuracy"]
        ]
        assert list(found["coverage", k]) == ["accuracy"]
        value = found["coverage", k]["accuracy"]
        np.testing.assert_allclose(value, expected, atol=1e-12)


def by_resampling(values, statistic):
    """The interval of `stats.bootstrap`, which gathers the prompts of each resample."""
    stack = np.stack(values, 1)
    return bootstrap(stack, statistic, level=LEVEL, seed=3, resamples=RESAMPLES)


def test_intervals_are_those_of_a_paired_bootstrap():
    measured = random_measured(1)
    found = picks(measured)
    greedy = found[0].value["accuracy"]
    rows = summarise(found, level=LEVEL, seed=3)
    assert [(row.by, row.k) for row in rows] == [(p.by, p.k) for p in found]
    for pick, row in zip(found, rows, strict=True):
        assert list(row.mean) == list(pick.value)
        for name, value in pick.value.items():
            expected = by_resampling([value], lambda v: v[..., 0].mean(1))
            np.testing.assert_allclose(row.mean[name], expected, rtol=1e-12)
        assert row.gain is not None and row.lift is not None
        pair = [greedy, pick.value["accuracy"]]
        gain = by_resampling(pair, lambda v: (v[..., 1] - v[..., 0]).mean(1))
        np.testing.assert_allclose(row.gain, gain, atol=1e-12)
        ratio = lambda v: 100 * (v[..., 1].mean(1) / v[..., 0].mean(1) - 1)
        np.testing.assert_allclose(row.lift, by_resampling(pair, ratio), atol=1e-9)
        assert row.gain.low < row.gain.high or row.by == "greedy"


def test_changes_are_paired_and_lift_is_over_the_greedy_of_before():
    before, after = picks(random_measured(2)), picks(random_measured(5))
    rows = changes(before, after, level=LEVEL, seed=3)
    assert len(rows) == len(before)
    for old, new, row in zip(before, after, rows, strict=True):
        for name in new.value:
            pair = [old.value[name], new.value[name]]
            expected = by_resampling(pair, lambda v: (v[..., 1] - v[..., 0]).mean(1))
            np.testing.assert_allclose(row.mean[name], expected, atol=1e-12)
        assert row.lift is not None
        pair = [before[0].value["accuracy"], new.value["accuracy"]]
        ratio = lambda v: 100 * (v[..., 1].mean(1) / v[..., 0].mean(1) - 1)
        np.testing.assert_allclose(row.lift, by_resampling(pair, ratio), atol=1e-9)
    only = [pick for pick in before if pick.by != "coverage"]
    assert {row.by for row in changes(only, after, level=LEVEL, seed=3)} == {
        pick.by for pick in only
    }


def test_without_answers_there_are_only_measures():
    found = picks(random_measured(3, answers=False))
    assert {pick.by for pick in found} == {"greedy", "sample", "own", "vote"}
    for row in summarise(found, level=LEVEL, seed=0):
        assert list(row.mean) == ["length"] and row.gain is None and row.lift is None


@pytest.mark.parametrize(("right", "high"), [(0, None), (1, math.inf), (20, 400.0)])
def test_lift_where_greedy_is_seldom_right(right, high):
    """P[no greedy answer among 40 resampled] = (1 - right / 40)^40: 1, 0.36, 1e-12."""
    greedy, all_right = np.arange(B) < right, np.ones(B)
    found = [Pick("greedy", 1, {"accuracy": greedy.astype(float)})]
    found.append(Pick("sample", 1, {"accuracy": all_right}))
    rows = summarise(found, level=LEVEL, seed=0)
    if high is None:
        assert rows[0].lift is None and rows[1].lift is None
        assert rows[1].gain == (1, 1, 1)
        return
    lift = rows[1].lift
    assert rows[0].lift == (0, 0, 0) and lift is not None
    assert lift.estimate == pytest.approx(100 * (B / right - 1))
    assert 0 < lift.low <= lift.estimate
    assert lift.high == math.inf if high == math.inf else lift.high < high


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 0), (7, 2), (4, 4), (1, 6)])
def test_flips_by_the_binomial_coefficients(won, lost):
    before = np.array([False] * won + [True] * lost + [True, False, True])
    after = np.array([True] * won + [False] * lost + [True, False, True])
    weights = [math.comb(won + lost, i) for i in range(won + lost + 1)]
    tail = sum(w for w in weights if w <= weights[won]) / sum(weights)
    assert flips(before, after) == (won, lost, pytest.approx(tail))
