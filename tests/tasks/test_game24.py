"""Game of 24: which problems exist, what solves them, and what must not."""

import collections
import functools
import itertools
import random
import re
from fractions import Fraction

import numpy as np
import pytest
from levels import LEVEL
from scipy import stats

import jsharp.tasks
from jsharp.tasks import game24 as module

TASK = jsharp.tasks.load("game24")
ALL = list(itertools.combinations_with_replacement(range(1, 14), 4))


def _parts(numbers):
    """Each way to split the numbers between the two sides of an operator."""
    for size in range(1, len(numbers) // 2 + 1):
        for left in itertools.combinations(range(len(numbers)), size):
            right = [i for i in range(len(numbers)) if i not in left]
            yield tuple(numbers[i] for i in left), tuple(numbers[i] for i in right)


@functools.cache
def _values(numbers):
    """Every value of every expression tree over all the numbers, signs included."""
    found = set(numbers) if len(numbers) == 1 else set()
    for left, right in _parts(numbers):
        for a, b in itertools.product(_values(left), _values(right)):
            found |= {a + b, a - b, b - a, a * b}
            found |= {x / y for x, y in ((a, b), (b, a)) if y}
    return found


def _reaches_24(numbers):
    """Whether some b of one side completes some a of the other to 24 exactly."""
    for left, right in _parts(tuple(map(Fraction, numbers))):
        for a in _values(left):
            # a + b, a - b, b - a; then a * b, a / b, b / a, which need a nonzero a.
            wanted = {24 - a, a - 24, a + 24}
            wanted |= {24 / a, a / 24, 24 * a} if a else set()
            if not wanted.isdisjoint(_values(right)):
                return True
    return False


def test_1362_problems_by_two_roads():
    """Road one: int64 pools. Road two: Fractions over expression trees, with signs."""
    trees = [problem for problem in ALL if _reaches_24(problem)]
    assert len(ALL) == 1820 and len(trees) == 1362
    assert list(module.solvable()) == trees


def test_splits_are_disjoint_and_cover_every_problem():
    train, held_out = set(TASK.train), set(TASK.held_out)
    assert len(train) == len(TASK.train) == 1106 and len(held_out) == 256
    assert not train & held_out
    assert train | held_out == set(module.solvable())
    prompts = {TASK.prompt(problem) for problem in train | held_out}
    assert len(prompts) == 1362


def test_every_solution_of_every_twentieth_problem_is_correct():
    for problem in module.solvable()[::20]:
        solutions = TASK.solutions(problem)
        assert solutions, problem
        assert len(set(solutions)) == len(solutions)
        for text in solutions:
            assert TASK.correct(problem, text), (problem, text)
            assert TASK.answer(text).endswith("=24"), (problem, text)
            assert set(text + TASK.prompt(problem)) <= set(TASK.alphabet)


def test_solutions_are_all_that_a_blind_search_finds():
    """All triples of steps over a pool, by the rules, not by the module's search."""

    def steps(pool):
        for i, j in itertools.permutations(range(len(pool)), 2):
            a, b = pool[i], pool[j]
            rest = [pool[k] for k in range(len(pool)) if k not in (i, j)]
            for operator in "+-*:":
                if operator in "+*" and a < b or operator == ":" and b == 0:
                    continue
                result = {
                    "+": lambda a, b: a + b,
                    "-": lambda a, b: a - b,
                    "*": lambda a, b: a * b,
                    ":": lambda a, b: a / b,
                }[operator](a, b)
                if result >= 0:
                    yield f"{a}{operator}{b}={result}", [*rest, result]

    for problem in [(1, 5, 5, 5), (3, 3, 8, 8), (5, 5, 12, 12), (1, 2, 3, 4)]:
        found = {
            f"{first} {second} {third}"
            for first, three in steps([Fraction(n) for n in problem])
            for second, two in steps(three)
            for third, one in steps(two)
            if one == [24]
        }
        assert set(TASK.solutions(problem)) == found


def test_solutions_that_need_fractions():
    assert TASK.solutions((3, 3, 8, 8)) == ("8:3=8/3 3-8/3=1/3 8:1/3=24",)
    assert TASK.solutions((1, 5, 5, 5)) == ("1:5=1/5 5-1/5=24/5 5*24/5=24",)


RIGHT = "1:5=1/5 5-1/5=24/5 5*24/5=24"
WRONG = {
    "wrong arithmetic": "1:5=1/5 5-1/5=23/5 5*23/5=24",
    "wrong arithmetic that cancels": "1:5=2/5 5-2/5=24/5 5*24/5=24",
    "result not 24": "1:5=1/5 5-1/5=24/5 5+24/5=49/5",
    "a number used twice": "5*5=25 25-1=24 1*24=24",
    "a number from nowhere": "1:5=1/5 5-1/5=24/5 6*4=24",
    "a number not used": "5*5=25 25-1=24",
    "a number not used, padded": "5*5=25 25-1=24 24-0=24",
    "four steps": "5*5=25 25-1=24 24-5=19 19+5=24",
    "trailing garbage": RIGHT + " ",
    "trailing newline": RIGHT + "\n",
    "trailing step": RIGHT + " 24*1=24",
    "leading garbage": " " + RIGHT,
    "double space": RIGHT.replace(" ", "  "),
    "empty": "",
    "division by zero": "5-5=0 1:0=24 24*5=24",
    "zero over zero": "5-5=0 0:0=0 0+24=24",
    "zero denominator": "1:5=1/5 5-1/5=24/0 5*24/0=24",
    "negative number": "1-5=-4 5--4=9 9+5=14",
    "not lowest terms": "1:5=2/10 5-2/10=24/5 5*24/5=24",
    "denominator one": "1:5=1/5 5-1/5=24/5 5*24/5=24/1",
    "leading zero": "01:5=1/5 5-1/5=24/5 5*24/5=24",
    "unicode digits": RIGHT.replace("5", "\N{ARABIC-INDIC DIGIT FIVE}"),
    "fullwidth digits": RIGHT.replace("1", "\N{FULLWIDTH DIGIT ONE}"),
    "underscore digits": RIGHT.replace("24", "2_4"),
    "decimal point": "1:5=0.2 5-0.2=4.8 5*4.8=24",
    "python": "__import__('os')",
    "huge integers": f"{'9' * 10**6}*{'9' * 10**6}=24 5*5=25 25-1=24",
    "huge power": "9**9**9=24 5*5=25 25-1=24",
}


def test_the_right_solution_is_accepted_in_either_order():
    assert TASK.correct((1, 5, 5, 5), RIGHT)
    assert TASK.correct((1, 5, 5, 5), RIGHT.replace("5*24/5", "24/5*5"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_wrong_solutions_are_rejected(text):
    assert not TASK.correct((1, 5, 5, 5), text)


def test_no_single_character_edit_of_a_solution_slips_through():
    """Replacing one character of a right solution never gives a false statement."""
    rng = random.Random(0)
    for problem in rng.sample(TASK.held_out, 10):
        text = TASK.solutions(problem)[0]
        for at, character in itertools.product(range(len(text)), TASK.alphabet):
            edited = text[:at] + character + text[at + 1 :]
            if edited != text and TASK.correct(problem, edited):
                assert edited in TASK.solutions(problem), (problem, edited)


def test_answers_agree_up_to_the_order_of_steps_and_operands():
    same = ["3*8=24 24*1=24 24+0=24", "8*3=24 1*24=24 0+24=24", "3*1=3 3*8=24 24+0=24"]
    assert len({TASK.answer(text) for text in same}) == 1
    assert TASK.answer(RIGHT) == "(5-(1:5))*5=24"
    differ = {"6*4=24 24+5=29 29-5=24", "6*4=24 24*5=120 120:5=24"}
    assert len({TASK.answer(text) for text in differ}) == 2


def test_answers_evaluate_to_what_the_steps_compute():
    """Road two: Python's own parser on the canonical form, `:` read as division."""
    for problem in TASK.held_out[:20]:
        for text in TASK.solutions(problem)[:10]:
            formula, value = TASK.answer(text).split("=")
            numbers = sorted(map(int, re.findall("[0-9]+", formula)))
            assert numbers == sorted(problem)
            assert abs(eval(formula.replace(":", "/")) - int(value)) < 1e-9


@pytest.mark.parametrize(
    "text", ["", "24", "1+1=2", "1+1=2 3+3=6 4+4=8", "1:5=2/10 5-2/10=24/5 5*24/5=24"]
)
def test_malformed_texts_have_no_answer(text):
    assert TASK.answer(text) is None


def test_a_false_statement_still_votes():
    assert TASK.answer("5*5=24 24-1=23 23+5=24") == "(5*5)+5-1=24"


def _uniformity(draw, solutions, count):
    """p-value of the chi-square test that `draw` is uniform over the solutions."""
    rng = np.random.default_rng(24)
    counts = collections.Counter(draw(rng) for _ in range(count))
    assert set(counts) <= set(solutions)
    return stats.chisquare([counts[text] for text in solutions]).pvalue


@pytest.mark.statistical
def test_demonstrations_are_uniform_over_solutions():
    problem = (1, 2, 3, 4)
    solutions = TASK.solutions(problem)
    assert len(solutions) > 50
    draw = lambda rng: TASK.demonstration(rng, problem)
    assert _uniformity(draw, solutions, 200 * len(solutions)) > LEVEL


def test_the_uniformity_test_rejects_a_random_walk_over_steps():
    """Twin: a uniform choice at each step among those that still win is biased."""
    problem = (1, 2, 3, 4)
    solutions = TASK.solutions(problem)

    def walk(rng):
        alive, head = list(solutions), 0
        for _ in range(3):
            steps = sorted({text.split(" ")[head] for text in alive})
            step = steps[rng.integers(len(steps))]
            alive = [text for text in alive if text.split(" ")[head] == step]
            head += 1
        return alive[0]

    assert _uniformity(walk, solutions, 200 * len(solutions)) < LEVEL
