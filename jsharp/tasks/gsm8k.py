"""GSM8K: word problems of school arithmetic (Cobbe et al. 2021, arXiv 2110.14168).

    {"question": "Ann has 3 bags ...", "answer": "3*4=<<3*4=12>>12\\n#### 12"}

The fields are those of the public data set. The answer is the last number of the text.
The paper asks the first 256 problems of the test file.
"""

import re
from pathlib import Path

from jsharp.tasks.grading import GRADERS
from jsharp.tasks.records import Row
from jsharp.tasks.task import Task
from jsharp.tasks.worked import Worked, worked_task

_MARK = "####"
_CALCULATOR = re.compile(r"<<[^<>]*>>")  # what the data set's calculator was asked

EXAMPLE = Worked(
    question=(
        "A baker fills 4 trays with 12 rolls each. She sells 30 rolls in the morning "
        "and half of those that are left in the afternoon. How many rolls remain?"
    ),
    solution=(
        "The baker makes 4 * 12 = 48 rolls.\n"
        "After the morning 48 - 30 = 18 rolls are left.\n"
        "In the afternoon she sells 18 / 2 = 9 rolls, so 18 - 9 = 9 remain.\n"
        "The answer is 9."
    ),
    reference="9",
)


def gsm8k(*, train: Path | None, test: Path | None) -> Task:
    """The task over the problems of the files; raises as `worked_task`."""
    return worked_task(
        "gsm8k",
        train=train,
        test=test,
        parse=_parse,
        kept="problem",
        example=EXAMPLE,
        grader=GRADERS["last_number"],
    )


def _parse(row: Row) -> Worked:
    steps, mark, reference = row.text("answer").rpartition(_MARK)
    reference = reference.strip()
    try:
        GRADERS["last_number"].check(reference)
    except ValueError:
        mark = ""
    if not mark:
        raise row.wrong("answer", f"steps, then {_MARK} and a number")
    steps = _CALCULATOR.sub("", steps).strip()
    solution = f"{steps}\nThe answer is {reference}.".lstrip()
    return Worked(row.text("question"), solution, reference)
