"""The notebooks: scripts in the percent format, each with an .ipynb that has outputs.

notebooks/NAME.py is what is edited; NAME.ipynb is made from it, and is what is read:

    python -m experiments.notebooks                  execute all, write every .ipynb
    python -m experiments.notebooks 02_the_theorems  only this one

A notebook runs in its own folder, in a kernel of its own. With JSHARP_FAST=1 in the
environment it does a small version of its work, which is what CI executes. Needs the
packages jupytext, nbclient and ipykernel: the extra `test`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

from jsharp import files

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
FAST = "JSHARP_FAST"
SECONDS = 900  # of one cell, in the full version
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python"},
}

Notebook = nbformat.NotebookNode


def scripts() -> list[Path]:
    """The percent scripts, in the order of their numbers."""
    return sorted(FOLDER.glob("*.py"))


def read(script: Path) -> Notebook:
    """The cells of a percent script, without outputs; ids are their places."""
    notebook = jupytext.read(script)
    for place, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{place:02}", {}
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def execute(notebook: Notebook, *, fast: bool, seconds: int = SECONDS) -> Notebook:
    """Run all cells, in order; the notebook with what they showed.

    Raises nbclient.exceptions.CellExecutionError at the first cell that fails, and
    CellTimeoutError at one that takes longer than `seconds`.
    """
    inside = {name: value for name, value in os.environ.items() if name != FAST}
    inside |= {"PYTHONPATH": str(ROOT)} | ({FAST: "1"} if fast else {})
    client = NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,
    )
    return client.execute(env=inside)


def shown(cell: Notebook) -> list[Any]:
    """What a cell showed, but for stderr: progress and times, others each time."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def write(notebook: Notebook, path: Path) -> None:
    """The .ipynb: what was shown, and nothing of when and where."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = shown(cell)
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.validate(notebook)
    files.write_text(path, nbformat.writes(notebook) + "\n")


def main(names: Sequence[str]) -> int:
    """Make the .ipynb of these scripts, of all for none; the exit status."""
    known = {script.stem: script for script in scripts()}
    for name in names:
        if name not in known:
            print(f"notebooks: expected {', '.join(known)}, found {name!r}")
            return 2
    for name in names or known:
        path = known[name].with_suffix(".ipynb")
        write(execute(read(known[name]), fast=False), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
