"""Tasks: problems with prompts, demonstrations and checkers; one file each.

Some tasks make their own problems, others read them from files that the user has, in
the field names of the public data sets.
"""

import importlib
from pathlib import Path

from jsharp.tasks.task import Problem, Task, prompt_length

__all__ = ["Problem", "Task", "file_names", "load", "names", "prompt_length"]

# Each is a module here that holds a function of its own name.
_GENERATED = ("arithmetic", "game24", "prontoqa", "sums")
_FROM_FILES = ("gsm8k", "math", "mmlu")


def names() -> tuple[str, ...]:
    """The tasks that make their own problems."""
    return _GENERATED


def file_names() -> tuple[str, ...]:
    """The tasks that are built from files of problems."""
    return _FROM_FILES


def load(name: str, *, train: Path | None = None, test: Path | None = None) -> Task:
    """The task of that name.

    A task from files needs one of `train` and `test` (.jsonl, .jsonl.gz or .parquet);
    their problems become Task.train and Task.held_out. The others take neither.

    Raises FileNotFoundError, or ValueError where there is no such task, where files are
    missing or not wanted, and at a bad record, naming file, line and field.
    """
    given = [path for path in (train, test) if path is not None]
    if name in _GENERATED:
        if given:
            raise ValueError(
                f"task {name} makes its own problems: expected no file of them "
                f"(--train-data, --eval-data), found {given[0]}"
            )
        return _built(name)()
    if name not in _FROM_FILES:
        known = ", ".join(_GENERATED + _FROM_FILES)
        raise ValueError(f"no task {name!r}; expected one of {known}")
    if not given:
        raise ValueError(
            f"task {name} is read from files: expected --train-data or --eval-data "
            "with a .jsonl, .jsonl.gz or .parquet file, found neither"
        )
    return _built(name)(train=train, test=test)


def _built(name: str):
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)
