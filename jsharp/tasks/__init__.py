"""Tasks with generated problems, demonstrations and exact checkers; one file each."""

import importlib
import pkgutil

from jsharp.tasks.task import Problem, Task, prompt_length

__all__ = ["Problem", "Task", "load", "names", "prompt_length"]


def names() -> tuple[str, ...]:
    """Every task: a module here that holds a function of its own name."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "task"))


def load(name: str) -> Task:
    """The task of that name; ValueError, listing the names, where there is none."""
    if name not in names():
        raise ValueError(f"no task {name!r}; expected one of {', '.join(names())}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)()
