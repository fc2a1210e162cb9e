"""MMLU: multiple-choice questions of one subject (Hendrycks et al. 2021, 2009.03300).

    {"question": "...", "choices": ["..", "..", "..", ".."], "answer": 1, "subject": ..}

The fields are those of the public data set; an answer is a place in `choices`, from 0,
or its letter. The paper asks the first 256 test questions of college biology, physics
and chemistry: give the file of one subject.
"""

from pathlib import Path

from jsharp.tasks.grading import CHOICES, GRADERS
from jsharp.tasks.records import Row
from jsharp.tasks.task import Task
from jsharp.tasks.worked import Worked, worked_task


def _asked(question: str, choices: list[str]) -> str:
    lines = [
        f"({letter}) {choice.strip()}"
        for letter, choice in zip(CHOICES, choices, strict=False)
    ]
    return "\n".join([question, *lines])


EXAMPLE = Worked(
    question=_asked(
        "Which of these is the largest?",
        ["A minute", "A week", "An hour", "A day"],
    ),
    solution=(
        "An hour has 60 minutes, a day has 24 hours, and a week has 7 days. "
        "The answer is (B)."
    ),
    reference="B",
)


def mmlu(*, train: Path | None, test: Path | None) -> Task:
    """The task over the questions of the files; raises as `worked_task`."""
    return worked_task(
        "mmlu",
        train=train,
        test=test,
        parse=_parse,
        kept="question",
        example=EXAMPLE,
        grader=GRADERS["choice"],
    )


def _choices(row: Row) -> list[str]:
    found = row.fields.get("choices")
    if (
        not isinstance(found, list)
        or not 2 <= len(found) <= len(CHOICES)
        or not all(isinstance(choice, str) and choice.strip() for choice in found)
    ):
        raise row.wrong("choices", f"a list of 2 to {len(CHOICES)} texts")
    return found


def _parse(row: Row) -> Worked:
    question, choices = row.text("question"), _choices(row)
    letters, answer = CHOICES[: len(choices)], row.fields.get("answer")
    if type(answer) is int and 0 <= answer < len(choices):
        answer = letters[answer]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        last = f"0 to {len(letters) - 1} or {letters[0]} to {letters[-1]}"
        raise row.wrong("answer", last)
    return Worked(_asked(question, choices), f"The answer is ({answer}).", answer)
