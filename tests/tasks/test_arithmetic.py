"""Sums by running totals, and the contract that every task keeps."""

import collections
import itertools

import numpy as np
import pytest
from levels import LEVEL
from scipy import stats

import jsharp.tasks
from jsharp.tasks.task import split

TASK = jsharp.tasks.load("arithmetic")
PROBLEM = (17, 38, 46, 55)
RIGHT = "55+17=72 72+46=118 118+38=156"


@pytest.mark.parametrize("name", jsharp.tasks.names())
def test_contract_of_every_task(name):
    task = jsharp.tasks.load(name)
    assert task.name == name
    assert jsharp.tasks.load(name) is task
    assert len(set(task.alphabet)) == len(task.alphabet)
    assert not set(task.train) & set(task.held_out)
    everything = task.train + task.held_out
    assert len({task.prompt(problem) for problem in everything}) == len(everything)
    rng = np.random.default_rng(0)
    for problem in (*task.train[:20], *task.held_out[:20]):
        text = task.demonstration(rng, problem)
        assert text in task.solutions(problem)
        assert task.correct(problem, text)
        assert task.answer(text) is not None
        assert set(text) | set(task.prompt(problem)) <= set(task.alphabet)
        assert not task.correct(problem, text[:-1])


def test_demonstrations_repeat_under_one_seed():
    draw = lambda: TASK.demonstration(np.random.default_rng(3), PROBLEM)
    assert draw() == draw()


def test_an_unknown_task_is_refused_by_name():
    with pytest.raises(ValueError, match="no task 'chess'; expected one of arithmetic"):
        jsharp.tasks.load("chess")


def test_split_ignores_the_order_of_problems_and_refuses_to_be_empty():
    problems = [(i,) for i in range(20)]
    train, held_out = split(problems, name="x", held_out=5)
    assert (train, held_out) == split(problems[::-1], name="x", held_out=5)
    assert sorted(train + held_out) == problems and len(held_out) == 5
    assert split(problems, name="y", held_out=5)[1] != held_out
    for count in (0, 20):
        with pytest.raises(ValueError, match="task x: held_out must lie between 1"):
            split(problems, name="x", held_out=count)


def test_problems_are_distinct_sets_of_four_numbers():
    everything = TASK.train + TASK.held_out
    assert len(set(everything)) == len(everything) == -(-230_300 // 23)
    for problem in everything:
        assert len(set(problem)) == 4 and list(problem) == sorted(problem)
        assert 11 <= problem[0] and problem[-1] <= 60


def test_solutions_are_the_twelve_orders():
    expected = set()
    for a, b, c, d in itertools.permutations(PROBLEM):
        if a > b:
            expected.add(f"{a}+{b}={a + b} {a + b}+{c}={a + b + c} {a + b + c}+{d}=156")
    assert len(expected) == 12
    assert set(TASK.solutions(PROBLEM)) == expected and RIGHT in expected


WRONG = {
    "wrong last sum": "55+17=72 72+46=118 118+38=157",
    "wrong first sum, carried on": "55+17=62 62+46=108 108+38=146",
    "a number used twice": "55+17=72 72+46=118 118+46=164",
    "a number not used": "55+17=72 72+46=118",
    "trailing garbage": RIGHT + "0 ",
    "trailing newline": RIGHT + "\n",
    "trailing step": RIGHT + " 156+0=156",
    "leading space": " " + RIGHT,
    "empty": "",
    "the answer alone": "156",
    "another operator": RIGHT.replace("118+38", "118*38"),
    "leading zero": RIGHT.replace("156", "0156"),
    "unicode digits": RIGHT.replace("156", "15\N{ARABIC-INDIC DIGIT SIX}"),
    "sign": RIGHT.replace("156", "+156"),
    "huge": RIGHT.replace("156", "1" * 10**6),
    "huge operand": "9" * 10**6 + RIGHT,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_wrong_completions_are_rejected(text):
    assert not TASK.correct(PROBLEM, text)


def test_only_the_final_number_is_graded():
    assert TASK.correct(PROBLEM, "55+17=70 72+46=118 118+38=156")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (RIGHT, "156"),
        (WRONG["wrong last sum"], "157"),
        (WRONG["a number not used"], None),
    ],
)
def test_answer_is_the_last_number_or_none(text, answer):
    assert TASK.answer(text) == answer


def _uniformity(draw):
    """p-value of the chi-square test that `draw` is uniform over the derivations."""
    rng = np.random.default_rng(12)
    counts = collections.Counter(draw(rng) for _ in range(3000))
    return stats.chisquare([counts[text] for text in TASK.solutions(PROBLEM)]).pvalue


@pytest.mark.statistical
def test_demonstrations_are_uniform_over_derivations():
    assert _uniformity(lambda rng: TASK.demonstration(rng, PROBLEM)) > LEVEL


def test_the_uniformity_test_rejects_one_favoured_derivation():
    """Twin: one derivation drawn 1.5 times as often as each other."""
    solutions = TASK.solutions(PROBLEM)
    favour = lambda rng: (*solutions, solutions[0])[rng.integers(25) // 2]
    assert _uniformity(favour) < LEVEL
