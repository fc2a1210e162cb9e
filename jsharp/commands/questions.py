"""Questions to a model: prompts, how an answer is read, and what is right if known.

--task NAME       problems of a task in jsharp/tasks, asked and marked as it says
--prompts FILE    a prompts file; --grader NAME marks against its field "answer"
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from jsharp import tasks
from jsharp.commands.entries import Entry, prompts_of_file, prompts_of_records
from jsharp.commands.settings import ModelSettings, require
from jsharp.commands.stream import Record
from jsharp.tasks.grading import GRADERS

Part = Literal["train", "held_out"]


class Source(NamedTuple):
    """Where questions come from: a part of a task, of file `data` if any, or a file."""

    task: str | None = None
    part: Part = "held_out"
    data: Path | None = None
    prompts: Path | None = None
    grader: str | None = None
    limit: int | None = None


class Questions(NamedTuple):
    """What is asked; `entries` are prompts with their ids, in their order.

    answer(text) -> what majority voting counts, None where there is none;
    correct(place, text) -> whether a completion of entry `place` is right; None where
    the file holds no answers. `identity` pins prompts, ids and what is right.
    """

    entries: tuple[Entry, ...]
    answer: Callable[[str], str | None]
    correct: Callable[[int, str], bool] | None
    identity: Record


def from_files(task: str | None) -> bool:
    """Whether it is a task whose problems are in files of the user."""
    return task in tasks.file_names()


def read(
    source: Source,
    settings: ModelSettings,
    directory: Path,
    *,
    room: int,
    taken: tuple[str, ...],
) -> Questions:
    """All questions of the source, each with `room` positions left for a response.

    Raises ValueError or FileNotFoundError where it is none, naming the option, or file,
    line and field.
    """
    one = (source.task is None) != (source.prompts is None)
    found = f"--task {source.task} --prompts {source.prompts}"
    require("task", one, "given, or else --prompts", found)
    at = {"limit": source.limit, "room": room, "taken": taken}
    if source.prompts is not None:
        return _of_file(source.prompts, source, settings, directory, at)
    return _of_task(source, settings, directory, at)


def _of_file(path, source: Source, settings, directory: Path, at) -> Questions:
    require("data", source.data is None, "left out with --prompts", source.data)
    entries = tuple(prompts_of_file(settings, directory, path, **at))
    if source.grader is None:
        return Questions(entries, str.strip, None, _identity(entries, [], None))
    known = source.grader in GRADERS
    require("grader", known, f"one of {', '.join(GRADERS)}", source.grader)
    grader, references = GRADERS[source.grader], []
    for entry in entries:
        reference = entry.raw.get("answer")
        if isinstance(reference, bool) or not isinstance(reference, str | int | float):
            raise ValueError(
                f"{path}: id {entry.id!r}: answer: expected a text or a number for "
                f"--grader {source.grader}, found {reference!r}"
            )
        try:
            grader.check(str(reference))
        except ValueError as error:
            raise ValueError(f"{path}: id {entry.id!r}: answer: {error}") from error
        references.append(str(reference))
    return Questions(
        entries,
        grader.answer,
        lambda place, text: grader.correct(references[place], text),
        _identity(entries, references, source.grader),
    )


def _of_task(source: Source, settings, directory: Path, at) -> Questions:
    require("grader", source.grader is None, "left out with --task", source.grader)
    training = source.part == "train"
    name = "train" if training else "test"
    files = {} if source.data is None else {name: source.data}
    task = tasks.load(str(source.task), **files)
    problems = (task.train if training else task.held_out)[: at["limit"]]
    records = [
        {"id": f"{task.name}-{source.part}-{i}", "prompt": task.prompt(problem)}
        for i, problem in enumerate(problems)
    ]
    name = f"task {task.name}, {source.part}"
    entries = tuple(prompts_of_records(settings, directory, records, name, **at))
    return Questions(
        entries,
        task.answer,
        lambda place, text: task.correct(problems[place], text),
        _identity(entries, [repr(problem) for problem in problems], task.name),
    )


def _identity(
    entries: Sequence[Entry], references: Sequence[str], marked: str | None
) -> Record:
    asked = [[entry.id, entry.prompt, entry.ids] for entry in entries]
    content = json.dumps([asked, references]).encode()
    return {
        "questions": hashlib.sha256(content).hexdigest()[:16],
        "count": len(entries),
        "marked_by": marked,
    }
