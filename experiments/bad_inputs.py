"""The bad-input report: malformed files, checkpoints, options, each with its message.

    python -m experiments.bad_inputs --out bad_inputs.md            under a minute

Each is given to its command in this process. It must be refused before any work: exit
status 2, no traceback, no file written or changed, and a message that names what is
wrong and where (the words in `says`). The files differ from good ones by one fault.
"""

import contextlib
import io
import runpy
import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from experiments import bad_files
from experiments.bad_cases import GROUPS, Case
from jsharp import files
from jsharp.provenance import source, surroundings


class Outcome(NamedTuple):
    """What a command did; `wrong` is empty where it refused as it should."""

    case: Case
    message: str
    wrong: str


@dataclass(frozen=True, kw_only=True)
class Config:
    """Give every command malformed input, and write down what it says."""

    out: Path
    """The Markdown file to write."""


def ask(case: Case, directory: Path) -> Outcome:
    """Run the command in this process; what is wrong with how it refused."""
    to = directory / "to" / "new"
    words = case.line.format(
        bad=directory,
        model=f"--model-name-or-path {directory / 'model'}",
        to=f"--output {to}.jsonl",
        dir=f"--output-dir {to}",
        new=to,
    ).split()
    before, said = _state(directory), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = _status(words)
    changed = _state(directory) != before
    shutil.rmtree(to.parent, ignore_errors=True)
    message = said.getvalue().replace(f"{directory}/", "")
    flat = " ".join(message.split())
    lacking = [each for each in case.says if each not in flat]
    checks = {
        f"exit status {status}, expected 2": status != 2,
        f"the message lacks {', '.join(map(repr, lacking))}": lacking,
        "a traceback": "Traceback" in message,
        "files were written or changed": changed,
    }
    wrong = "; ".join(text for text, fails in checks.items() if fails)
    return Outcome(case, message.strip(), wrong)


def _status(words: list[str]) -> object:
    """Of `python -m jsharp WORDS`, in this process; a traceback where it raises."""
    before, sys.argv = sys.argv, ["jsharp", *words]
    try:
        runpy.run_module("jsharp", run_name="__main__")
    except SystemExit as stop:
        return stop.code
    except BaseException:
        return traceback.format_exc()
    finally:
        sys.argv = before
    return 0


def _state(directory: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file, with what changes where it is written or replaced."""
    found = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {p: (x.st_size, x.st_mtime_ns, x.st_ino) for p, x in found.items()}


def run() -> dict[str, list[Outcome]]:
    """What every command says to every malformed input, by group."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        bad_files.make(directory)
        return {
            group: [ask(case, directory) for case in cases]
            for group, cases in GROUPS.items()
        }


def markdown(found: dict[str, list[Outcome]]) -> str:
    outcomes = [outcome for some in found.values() for outcome in some]
    good = sum(not outcome.wrong for outcome in outcomes)
    text = [
        "# Bad-input report",
        "",
        f"{len(outcomes)} malformed inputs, {good} refused as they should be: exit "
        "status 2 before any work, no traceback, nothing written, and a message that "
        "names what is wrong and where.",
        "",
        f"Commit {surroundings()['commit']}, source {source()}.",
    ]
    for group, some in found.items():
        text += ["", f"## {group}", ""]
        for case, message, wrong in some:
            line = case.line.format(
                bad=".",
                model="--model-name-or-path model",
                to="--output new.jsonl",
                dir="--output-dir new",
                new="new",
            )
            text += [f"**{case.fault}**{f' (WRONG: {wrong})' if wrong else ''}", ""]
            text += [f"    $ jsharp {line}"]
            text += [f"    {row}".rstrip() for row in message.splitlines()] + [""]
    return "\n".join(text).rstrip() + "\n"


def main(config: Config) -> int:
    """0 where every input was refused as it should be, else 1."""
    found = run()
    files.write_text(config.out, markdown(found))
    bad = [outcome for some in found.values() for outcome in some if outcome.wrong]
    for outcome in bad:
        print(f"{outcome.case.fault}: {outcome.wrong}", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
