"""Sums answered at once or worked out: both forms are marked, nothing else is."""

import itertools

import numpy as np
import pytest

import jsharp.tasks
from jsharp.tasks import arithmetic, sums

TASK = jsharp.tasks.load("sums")
WORKED = jsharp.tasks.load("arithmetic")
PROBLEM = (17, 38, 46, 55)
RIGHT = "156"


def test_prompts_and_split_are_those_of_arithmetic():
    assert TASK.train == WORKED.train and TASK.held_out == WORKED.held_out
    assert TASK.alphabet == WORKED.alphabet
    for problem in itertools.islice(TASK.train, 50):
        assert TASK.prompt(problem) == WORKED.prompt(problem)


def test_one_short_response_for_twelve_derivations():
    rng = np.random.default_rng(0)
    for problem in (*TASK.train[:200], *TASK.held_out):
        (text,) = TASK.solutions(problem)
        assert text == str(sum(problem)) == TASK.demonstration(rng, problem)
        assert len(WORKED.solutions(problem)) == 12


def test_both_forms_are_marked_and_vote_together():
    assert TASK.correct(PROBLEM, RIGHT)
    for text in WORKED.solutions(PROBLEM):
        assert TASK.correct(PROBLEM, text) and TASK.answer(text) == RIGHT
    assert not WORKED.correct(PROBLEM, RIGHT)


WRONG = {
    "another number": "157",
    "a prefix": "15",
    "a leading zero": "0156",
    "a leading space": " 156",
    "a trailing space": "156 ",
    "a trailing newline": "156\n",
    "a sign": "+156",
    "a fraction": "156.0",
    "nothing": "",
    "unicode digits": "15\N{ARABIC-INDIC DIGIT SIX}",
    "two numbers": "156 156",
    "a sum without its result": "55+17=",
    "one step": "101+55=156",
    "two steps": "55+17=72 72+84=156",
    "a derivation, then the number": "55+17=72 72+46=118 118+38=156 156",
    "a wrong derivation": "55+17=72 72+46=118 118+38=157",
    "huge": "1" * 10**6,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_wrong_forms_are_refused(text):
    assert not TASK.correct(PROBLEM, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("0", "0"),
        ("156", "156"),
        ("12345678", "12345678"),
        ("123456789", None),
        ("00", None),
        (WRONG["a derivation, then the number"], None),
        (WRONG["a wrong derivation"], "157"),
        ("", None),
    ],
)
def test_answer_is_the_number_or_the_last_of_a_derivation(text, answer):
    assert sums.answer(text) == answer


def test_false_steps_do_not_count_as_in_arithmetic():
    text = "55+17=70 72+46=118 118+38=156"
    assert TASK.correct(PROBLEM, text) and WORKED.correct(PROBLEM, text)
    assert sums.answer(text) == arithmetic.answer(text)
