"""Sums of four two-digit numbers by running totals: any of three steps can go wrong.

    prompt      17+38+46+55 =>
    completion  55+17=72 72+46=118 118+38=156

A derivation starts from any two of the numbers, the larger first, and adds the others
in either order: twelve derivations of one answer. The checker reads the final number
only; the steps must be in the grammar but may be false, as in a graded word problem.
"""

import functools
import itertools
import re

from jsharp.tasks.task import Problem, Task, split, uniform

SMALLEST, LARGEST = 11, 60
EVERY = 23  # one in 23 of the 230,300 sets of four numbers, in lexicographic order
HELD_OUT = 256

_NUMBER = r"(?:0|[1-9][0-9]{0,7})"
_STEP = rf"{_NUMBER}\+{_NUMBER}="
_COMPLETION = re.compile(rf"{_STEP}{_NUMBER} {_STEP}{_NUMBER} {_STEP}({_NUMBER})")


@functools.cache
def arithmetic() -> Task:
    """The task over sums of four distinct numbers, written in increasing order."""
    numbers = range(SMALLEST, LARGEST + 1)
    problems = itertools.islice(itertools.combinations(numbers, 4), 0, None, EVERY)
    train, held_out = split(problems, name="arithmetic", held_out=HELD_OUT)
    return Task(
        name="arithmetic",
        train=train,
        held_out=held_out,
        alphabet="0123456789+= >",
        prompt=lambda problem: "+".join(map(str, problem)) + " =>",
        demonstration=lambda rng, problem: uniform(rng, solutions(problem)),
        solutions=solutions,
        answer=answer,
        correct=lambda problem, text: answer(text) == str(sum(problem)),
    )


def solutions(problem: Problem) -> tuple[str, ...]:
    """Every distinct derivation, sorted."""
    orders = (order for order in itertools.permutations(problem) if order[0] > order[1])
    return tuple(sorted(map(_derivation, orders)))


def _derivation(order: Problem) -> str:
    totals = list(itertools.accumulate(order))
    steps = zip(totals, order[1:], totals[1:], strict=False)
    return " ".join(f"{total}+{number}={result}" for total, number, result in steps)


def answer(text: str) -> str | None:
    """The number after the last equals sign; None where the text is no derivation."""
    match = _COMPLETION.fullmatch(text)
    return match.group(1) if match else None
