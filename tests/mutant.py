"""One bug that a careful person might write, for `mutations.py` to plant."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`old`, which occurs exactly once in the file, becomes `new`.

    `excuse` is for a mutant that no test can catch, and says why; without one a
    survivor fails the run.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    excuse: str = ""
