"""Game of 24: reach 24 from four numbers by three steps of exact rational arithmetic.

    prompt      1 5 5 5 =>
    completion  1:5=1/5 5-1/5=24/5 5*24/5=24

A completion is three steps separated by one space; each step `a op b=c` takes two
numbers from the pool and puts its result back. Operators are + - * and : (division),
so that a/b is always one number: a fraction in lowest terms with b > 1. Numbers are
never negative (a solution that passes below zero always has a twin that does not) and
have one spelling each. Demonstrations put the larger operand of + and * first; the
checker takes both orders.
"""

import functools
import itertools
import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Int

from jsharp.tasks.task import Problem, Task, split, uniform

TARGET = 24
LARGEST = 13
HELD_OUT = 256

Pool = tuple[Fraction, ...]
Step = tuple[Fraction, str, Fraction, Fraction]  # a, operator, b, the stated result

# Eight digits hold every number that four numbers up to 13 can make; the bound keeps
# the checker's integers small, whatever text it is given.
_NUMBER = r"(?:0|[1-9][0-9]{0,7})(?:/[1-9][0-9]{0,7})?"
_STEP = rf"({_NUMBER})([+\-*:])({_NUMBER})=({_NUMBER})"
_STEPS = re.compile(" ".join([_STEP] * 3))


@functools.cache
def game24() -> Task:
    """The task over every solvable multiset of four numbers from 1 to 13."""
    train, held_out = split(solvable(), name="game24", held_out=HELD_OUT)
    return Task(
        name="game24",
        train=train,
        held_out=held_out,
        alphabet="0123456789+-*:/= >",
        prompt=lambda problem: " ".join(map(str, problem)) + " =>",
        demonstration=lambda rng, problem: uniform(rng, solutions(problem)),
        solutions=solutions,
        answer=answer,
        correct=correct,
    )


def solvable() -> tuple[Problem, ...]:
    """The multisets of four numbers from 1 to 13 that reach 24: 1362 of the 1820."""
    four = itertools.combinations_with_replacement(range(1, LARGEST + 1), 4)
    problems = np.array(list(four), np.int64)
    reached = _reaches(problems, np.ones_like(problems))
    return tuple(tuple(map(int, row)) for row in problems[reached])


def _reaches(
    numerator: Int[np.ndarray, "x k"], denominator: Int[np.ndarray, "x k"]
) -> Bool[np.ndarray, " x"]:
    """Which rows, pools of k rationals, reach 24; exact in int64 without reducing.

    Four numbers up to 13 give numerators and denominators below 4 * 13^4. A zero
    denominator marks a division by zero and stays zero in all that is made from it.
    """
    count = numerator.shape[1]
    if count == 1:
        top, bottom = numerator[:, 0], denominator[:, 0]
        return (bottom != 0) & (top == TARGET * bottom)
    reached = np.zeros(len(numerator), bool)
    for i, j in itertools.combinations(range(count), 2):
        a, b, c, d = (z[:, k] for k in (i, j) for z in (numerator, denominator))
        for top, bottom in (
            (a * d + c * b, b * d),
            (np.abs(a * d - c * b), b * d),
            (a * c, b * d),
            (a * d, b * c),
            (c * b, d * a),
        ):
            keep = [k for k in range(count) if k not in (i, j)]
            tops = np.concatenate([numerator[:, keep], top[:, None]], axis=1)
            bottoms = np.concatenate([denominator[:, keep], bottom[:, None]], axis=1)
            # 0 * b / 0 would forget that a divisor was zero.
            bottoms[:, -1] *= (b != 0) & (d != 0)
            reached |= _reaches(tops, bottoms)
    return reached


@functools.cache
def solutions(problem: Problem) -> tuple[str, ...]:
    """Every distinct stepwise solution in normal form, sorted."""
    return tuple(sorted(_finish(tuple(map(Fraction, sorted(problem))))))


@functools.cache  # many problems, and many paths of one, pass through the same pool
def _finish(pool: Pool) -> set[str]:
    """The texts that take a sorted pool to 24; distinct texts, distinct solutions."""
    if len(pool) == 1:
        return {""} if pool[0] == TARGET else set()
    found = set()
    for step, rest in _moves(pool):
        if tails := _finish(rest):
            head = _spell(step)
            found |= {f"{head} {tail}".rstrip() for tail in tails}
    return found


def _moves(pool: Pool) -> Iterator[tuple[Step, Pool]]:
    """Each step that the pool allows, with the pool that it leaves."""
    for i, j in itertools.combinations(range(len(pool)), 2):
        a, b = max(pool[i], pool[j]), min(pool[i], pool[j])
        rest = tuple(pool[k] for k in range(len(pool)) if k not in (i, j))
        steps = [(a, "+", b, a + b), (a, "-", b, a - b), (a, "*", b, a * b)]
        steps += [(x, ":", y, x / y) for x, y in {(a, b), (b, a)} if y]
        yield from ((step, tuple(sorted((*rest, step[3])))) for step in steps)


def _spell(step: Step) -> str:
    a, operator, b, result = step
    return f"{a}{operator}{b}={result}"  # str(Fraction) is in lowest terms


def parse(text: str) -> tuple[Step, ...] | None:
    """The three steps, or None where the text is outside the grammar above."""
    match = _STEPS.fullmatch(text)
    if match is None:
        return None
    fields = match.groups()
    value = lambda index: Fraction(fields[index])
    canonical = all(
        field in "+-*:" or str(Fraction(field)) == field for field in fields
    )
    if not canonical:
        return None
    return tuple(
        (value(k), fields[k + 1], value(k + 2), value(k + 3)) for k in (0, 4, 8)
    )


def correct(problem: Problem, text: str) -> bool:
    """Whether every step is true, takes what the pool holds, and the last gives 24."""
    steps = parse(text)
    if steps is None:
        return False
    pool = [Fraction(number) for number in problem]
    for a, operator, b, result in steps:
        for operand in (a, b):
            if operand not in pool:
                return False
            pool.remove(operand)
        if _apply(a, operator, b) != result:
            return False
        pool.append(result)
    return pool == [TARGET]


def _apply(a: Fraction, operator: str, b: Fraction) -> Fraction | None:
    if operator == ":":
        return a / b if b else None
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def answer(text: str) -> str | None:
    """The formula that the steps spell, in one canonical form, with its stated value.

    `1:5=1/5 5-1/5=24/5 5*24/5=24` gives `(5-(1:5))*5=24`. Nested sums and products are
    flattened and their terms sorted, so completions that differ only in the order of
    steps or operands agree. An operand equal to an earlier unused result is that
    result. None outside the grammar, or where a result is left unused. The arithmetic
    is not checked: a vote must not know which answers are right.
    """
    steps = parse(text)
    if steps is None:
        return None
    pending: list[tuple[Fraction, _Formula]] = []
    for a, operator, b, result in steps:
        left, right = _take(pending, a), _take(pending, b)
        pending.append((result, _combine(left, operator, right)))
    if len(pending) != 1:
        return None
    value, formula = pending[0]
    return f"{_write(formula)[1:-1]}={value}"  # no brackets around the whole


# (family, terms): a leaf is ("", ((text, True),)); family "+" has terms added (True) or
# subtracted, family "*" has factors multiplied (True) or divided by.
_Formula = tuple[str, tuple[tuple[str, bool], ...]]


def _take(pending: list[tuple[Fraction, _Formula]], operand: Fraction) -> _Formula:
    """The latest unused result equal to the operand; a number of the prompt if none."""
    for index in reversed(range(len(pending))):
        if pending[index][0] == operand:
            return pending.pop(index)[1]
    return "", ((str(operand), True),)


def _combine(left: _Formula, operator: str, right: _Formula) -> _Formula:
    family = "+" if operator in "+-" else "*"
    forward = operator in "+*"
    inside = lambda f: f[1] if f[0] in ("", family) else ((_write(f), True),)
    turned = tuple((text, sign == forward) for text, sign in inside(right))
    terms = (*inside(left), *turned)
    return family, tuple(sorted(terms, key=lambda term: (not term[1], term[0])))


def _write(formula: _Formula) -> str:
    family, terms = formula
    signs = {"": ("", ""), "+": ("+", "-"), "*": ("*", ":")}[family]
    text = "".join(f"{signs[not positive]}{term}" for term, positive in terms)
    return f"({text.lstrip('+*')})" if family else text
