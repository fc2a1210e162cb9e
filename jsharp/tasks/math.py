r"""MATH: competition problems (Hendrycks et al. 2021, arXiv 2103.03874).

    {"problem": "...", "solution": "... so $x=\\boxed{12}$.", "level": .., "type": ..}

The fields are those of the public data set; the answer is what the last \boxed{} of a
solution holds. As in the paper, only problems whose answer is an integer are asked (of
the test file the first 256): these are marked without any other package.
"""

from pathlib import Path

from jsharp.tasks import latex
from jsharp.tasks.grading import GRADERS
from jsharp.tasks.records import Row
from jsharp.tasks.task import Task
from jsharp.tasks.worked import Worked, worked_task

EXAMPLE = Worked(
    question=(
        "The sum of two numbers is $20$ and their difference is $6$. What is the "
        "larger of them?"
    ),
    solution=(
        "Let the numbers be $a$ and $b$ with $a+b=20$ and $a-b=6$. Adding the "
        r"equations gives $2a=26$, so $a=13$. The answer is $\boxed{13}$."
    ),
    reference="13",
)


def math(*, train: Path | None, test: Path | None, integer_only: bool = True) -> Task:
    """The task over the problems of the files; raises as `worked_task`.

    With every kind of answer (`integer_only=False`), ValueError at the first that needs
    math-verify where it is not installed.
    """
    return worked_task(
        "math",
        train=train,
        test=test,
        parse=lambda row: _parse(row, integer_only),
        kept="problem with an integer as its answer" if integer_only else "problem",
        example=EXAMPLE,
        grader=GRADERS["math"],
    )


def _parse(row: Row, integer_only: bool) -> Worked | None:
    question, solution = row.text("problem"), row.text("solution")
    reference = latex.boxed(solution)
    if not reference:
        raise row.wrong("solution", r"an answer in \boxed{}")
    if integer_only and not latex.is_integer(reference):
        return None
    try:
        GRADERS["math"].check(reference)
    except ValueError as error:
        raise ValueError(f"{row.at}: solution: {error}") from error
    return Worked(question, solution, reference)
