"""The sums of `arithmetic`, answered at once: one response for twelve derivations.

    prompt      17+38+46+55 =>
    completion  156

The prompts, and their split, are those of `arithmetic`, and both forms of answer are
marked here: a base trained on both tasks answers every prompt in either form. The short
form is one response and the long form twelve, so that the likelihood of a response,
as a reward, favours the form in which the sum is harder to get right.
"""

import functools
import re

from jsharp.tasks import arithmetic
from jsharp.tasks.task import Task

_SUM = re.compile(r"(?:0|[1-9][0-9]{0,7})")


@functools.cache
def sums() -> Task:
    """The task over the problems of `arithmetic`."""
    worked = arithmetic.arithmetic()
    return worked._replace(
        name="sums",
        demonstration=lambda rng, problem: str(sum(problem)),
        solutions=lambda problem: (str(sum(problem)),),
        answer=answer,
        correct=lambda problem, text: answer(text) == str(sum(problem)),
    )


def answer(text: str) -> str | None:
    """The number that is all of the text, or that ends a derivation."""
    return text if _SUM.fullmatch(text) else arithmetic.answer(text)
