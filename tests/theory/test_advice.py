"""What a diagnosis says in words, of pilots made by hand."""

import numpy as np
import pytest

from jsharp.commands.results import Sampled
from theory.findings import Options, findings
from theory.pilot import known, pilot
from theory.prices import Goal
from theory.signals import lift


def steps_of(score, correct, greedy, length=None):
    length = np.ones(score.shape, int) if length is None else length
    return lift(score, length, correct, greedy, level=0.05, seed=0)


def said_of(score, correct, length=None, right=None) -> str:
    """The verdict on a pilot with these scores and marks."""
    return found_of(score, correct, length, right)["verdict"]


def found_of(score, correct, length=None, right=None, modes=None):
    rows = [
        [
            {
                "id": str(b),
                "sample_id": i,
                "prompt_ids": [0],
                "completion_ids": [i],
                "logprob_base": float(score[b, i]),
                "num_tokens": 1 if length is None else int(length[b, i]),
                "finish_reason": "stop",
                "correct": bool(correct[b, i]),
            }
            for i in range(score.shape[1])
        ]
        for b in range(len(score))
    ]
    draws = pilot(Sampled(rows, [row[0] for row in rows]))
    options = Options(Goal(0.1, 0.1, 0.05, 20.0, 5), 0.5, 0.05, 0, 3.0)
    rewards = {"log-probability": score, "other": correct + 0.0}
    return findings(draws, known(draws, modes), rewards, right, options)


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(0).uniform(-9, -4, (40, 6))


def test_it_says_when_it_helps(scores):
    said = said_of(scores, scores == scores.max(1, keepdims=True))
    assert "is predicted to help: the best of 6 is right on 100.0%" in said
    # 1/pi of the likeliest drawn is e^4 and more; a likelier one is not excluded.
    assert "The pilot's 6 draws a prompt may not be enough for that." in said


def test_it_says_when_it_hurts(scores):
    wrong = scores != scores.max(1, keepdims=True)
    said = said_of(scores, wrong, right=np.zeros(40))
    assert "NOT to help but to hurt: the best of 6 is right on 0.0%" in said
    assert "The mode is LESS right than a draw" in said
    assert "log-probability ranks WRONG above right" in said
    assert "other tells right from wrong better" in said


CLAIMS = ("is predicted", "ranks WRONG", "better than", "more", "less", "LESS", "bias")


@pytest.mark.parametrize("size", [1, 5, 19])
@pytest.mark.parametrize("helps", [True, False])
def test_from_few_prompts_it_claims_nothing(scores, size, helps):
    """All prompts agree: the bootstrap's intervals have no width, and tell nothing."""
    best, some = scores == scores.max(1, keepdims=True), slice(size)
    right = best if helps else ~best
    length = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
    given = scores[some], right[some], length[some]
    said = said_of(*given, right=np.full(size, float(helps)))
    assert f"{size} prompt" in said and "too few to tell whether sharpening" in said
    assert f"both right and wrong draws: {size}, too few to tell" in said
    assert not [claim for claim in CLAIMS if claim in said]
    whole = said_of(scores, right, length, right=np.full(40, float(helps)))
    assert len([claim for claim in CLAIMS if claim in whole]) >= 3


def test_rewards_are_judged_by_the_prompts_that_have_both(scores):
    right = scores != scores.max(1, keepdims=True)
    right[19:] = True
    said = said_of(scores, right)
    assert "both right and wrong draws: 19, too few to tell" in said
    assert "WRONG above" not in said and "hurt" in said


def test_hits_leave_out_prompts_where_y_star_is_tied():
    """Two prompts: y* of mass 0.6, and two responses of 0.45 that tie."""
    score = np.log([[0.6, 0.3, 0.05], [0.45, 0.45, 0.05]])
    right = score > -1
    found = found_of(score, right)
    assert found["modes"]["certified"] == 2 and found["modes"]["tied"] == 1
    hits = found["predictions"]["hits of best of 2"]
    assert hits.estimate == pytest.approx(1 - 0.4**2)
    assert found_of(score[1:], right[1:])["predictions"]["hits of best of 2"] is None
    records = [
        {"id": "0", "completion_ids": [0], "logprob": score[1, 0], "exact": True}
        | {"ties": [[0], [1]], "mass_upper": 0.9, "rounding": 0.01}
    ]
    nearly = score[1:] - [[0, 0.005, 0]]  # nor by the search can these be told apart
    found = found_of(nearly, right[1:], modes=records)
    assert found["predictions"]["hits of best of 2"] is None


def test_it_says_when_nothing_is_clear(scores):
    half = np.tile(np.arange(6) % 2 == 0, (40, 1))
    said = said_of(scores, half, right=np.full(40, np.nan))
    assert "is not predicted to change accuracy clearly" in said
    assert "right on 0.0% to 100.0% of these prompts" in said
    assert "NOT to help" not in said and "LESS" not in said


def test_it_says_that_short_responses_win(scores):
    length = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
    said = said_of(scores, scores > -6, length)
    assert "Length bias: log-probability falls with length" in said
    assert "the best of 6 has 1.0 tokens where a draw has 3.5" in said
