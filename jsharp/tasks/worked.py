"""A task from files of worked problems, asked one-shot as in section 5 (App A.1).

    Question: [an example of our own]
    Answer: [its solution, which ends in the form that the grader reads]

    Question: [the problem]
    Answer:

A completion that goes on to ask a next question is read up to there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jsharp.tasks.grading import Grader
from jsharp.tasks.records import Row, read
from jsharp.tasks.task import Task, uniform

_NEXT = "\nQuestion:"


class Worked(NamedTuple):
    """A problem of a file; `reference` is what the grader marks against."""

    question: str
    solution: str
    reference: str


def worked_task(
    name: str,
    *,
    train: Path | None,
    test: Path | None,
    parse: Callable[[Row], Worked | None],
    kept: str,
    example: Worked,
    grader: Grader,
) -> Task:
    """The task of the problems that `parse` makes of the files' records, in order.

    `parse` gives None for a record to be left out, and `kept` says in words which ones
    stay. A training problem that is asked word for word in `test` is left out too. A
    problem has one demonstration, its solution in the file.

    Raises FileNotFoundError, and ValueError at the first bad record and where a file
    leaves no problem.
    """
    held_out = _problems(test, parse, kept)
    asked = {problem.question for problem in held_out}
    learnt = [p for p in _problems(train, parse, kept) if p.question not in asked]
    if train is not None and not learnt:
        raise ValueError(f"{train}: every problem is also in the test file {test}")

    head = f"Question: {example.question}\nAnswer: {example.solution}\n"
    prompt = lambda problem: f"{head}{_NEXT} {problem.question}\nAnswer:"
    solutions = lambda problem: (f" {problem.solution}",)
    first = lambda text: text.partition(_NEXT)[0]
    letters = set(prompt(example))
    for problem in (*learnt, *held_out):
        letters.update(problem.question, problem.solution)
    return Task(
        name=name,
        train=tuple(learnt),
        held_out=tuple(held_out),
        alphabet="".join(sorted(letters)),
        prompt=prompt,
        demonstration=lambda rng, problem: uniform(rng, solutions(problem)),
        solutions=solutions,
        answer=lambda text: grader.answer(first(text)),
        correct=lambda problem, text: grader.correct(problem.reference, first(text)),
    )


def _problems(
    path: Path | None, parse: Callable[[Row], Worked | None], kept: str
) -> list[Worked]:
    if path is None:
        return []
    rows = [parse(row) for row in read(path)]
    found = [problem for problem in rows if problem is not None]
    if not found:
        raise ValueError(
            f"{path}: expected at least one {kept}, found none in {len(rows)} records"
        )
    return found
