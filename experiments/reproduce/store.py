"""REPORT_DIR: result files, figures.

results/NAME.json       what was found: the same runs give the same bytes
results/NAME.made.json  how: runs, bases, seconds, commits, devices; the digest of it
figures/FIGURE.png, .svg, where FIGURE is NAME or begins with it: fig1, fig1-lift
figures/NAME.undrawn    while there are numbers and their figures are not all there
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from experiments.style import METADATA
from jsharp import files

Content = dict[str, Any]
T = TypeVar("T")


def results(directory: Path, name: str) -> Path:
    return directory / "results" / f"{name}.json"


def write(
    directory: Path, name: str, content: Content, made: Content, names: Iterable[str]
) -> None:
    """Both files, and no figure of the numbers before; `names` are all there are.

    Raises ValueError where a number is not finite.
    """
    path = results(directory, name)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    files.write_text(_undrawn(directory, name), "")
    _remove(figures(directory, name, names))
    files.write_json(_made(path), {**made, "sha256": _digest(text.encode())})
    files.write_text(path, text)


def read(directory: Path, name: str) -> Content | None:
    """What was found, and how under "made"; None where that experiment was not run.

    Raises ValueError where the two files are not of one another.
    """
    path = results(directory, name)
    if not path.exists():
        return None
    made = files.read_json(_made(path))
    if made["sha256"] != _digest(path.read_bytes()):
        raise ValueError(
            f"{path}: expected the numbers that {_made(path).name} is about, found "
            "others; run that experiment again"
        )
    return {**files.read_json(path), "made": made}


def applied(directory: Path, name: str, function: Callable[[Any], T], found: Any) -> T:
    """The function of what a result file holds.

    Raises ValueError, naming the file, where that is not what the function reads.
    """
    try:
        return function(found)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise ValueError(
            f"{results(directory, name)}: not what this version of {name} reads "
            f"({type(e).__name__}: {e}); run `jsharp reproduce {name}` again"
        ) from e


def owner(figure: str, names: Iterable[str]) -> str | None:
    """The experiment that a figure is of, by its file name; None of nobody's.

    The longest name that it begins with, fig1 of fig1-lift and fig1a but not of fig10.
    """
    own = [
        name
        for name in names
        if figure.startswith(name) and not figure[len(name) :][:1].isdigit()
    ]
    return max(own, key=len, default=None)


def figures(directory: Path, name: str, names: Iterable[str]) -> list[Path]:
    """The .png files of an experiment, where `names` are all there are."""
    every, names = sorted((directory / "figures").glob("*.png")), list(names)
    return [path for path in every if owner(path.stem, names) == name]


def drawn(directory: Path, name: str) -> bool:
    """Whether the figures of the experiment are all there, and of its numbers."""
    return not _undrawn(directory, name).exists()


def save(
    directory: Path, name: str, pictures: Mapping[str, Figure], names: Iterable[str]
) -> None:
    """Its figures, instead of those that it had.

    Raises ValueError for a figure whose name does not begin with the experiment's.
    """
    names = list(names)
    for figure in pictures:
        if owner(figure, names) != name:
            raise ValueError(f"{name}: expected a figure {name}..., found {figure!r}")
    _remove(p for p in figures(directory, name, names) if p.stem not in pictures)
    for figure, picture in pictures.items():
        for kind, metadata in METADATA.items():
            image = io.BytesIO()
            picture.savefig(image, format=kind, metadata=metadata)
            path = directory / "figures" / f"{figure}.{kind}"
            files.write_bytes(path, image.getvalue())
    _undrawn(directory, name).unlink(missing_ok=True)


def _remove(figures: Iterable[Path]) -> None:
    for path in figures:
        for kind in METADATA:
            path.with_suffix(f".{kind}").unlink(missing_ok=True)


def _undrawn(directory: Path, name: str) -> Path:
    return directory / "figures" / f"{name}.undrawn"


def _made(path: Path) -> Path:
    return path.with_name(f"{path.stem}.made.json")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
