"""Runs that take no time: the real child process around a command that is none.

    python reproduce_fakes.py PARENT MARKER RESUMED INPUTS WORDS ...

does what `experiments.reproduce.child` does, where jsharp is `entry` below and JAX is
not imported.
"""

import signal
import sys
import time
import types
from pathlib import Path

SURROUNDINGS = {"commit": "c0ffee", "versions": {"jax": "0"}, "device": "toy (x)"}


def instead_of(process):
    """The function in the place of `work.process`, which it is given."""

    def fake(directory, run, *, resumed):
        words = process(directory, run, resumed=resumed)
        return [sys.executable, __file__, *words[4:]]

    return fake


def entry():
    """jsharp KIND ARGUMENT ... --output-dir NAME, in OUTPUT_DIR; "events" has a line.

    toy SECONDS takes them; toy wait is over once the file "go" is there; toy stubborn
    waits likewise and does not stop when told to; toy fail fails.
    """
    kind, argument, *_, name = sys.argv[1:]
    assert kind == "toy"
    if argument == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _note(f"begin {name}")
    if argument == "fail":
        print("a long story, and the end of it", file=sys.stderr)
        sys.exit(1)
    if argument in ("wait", "stubborn"):
        while not Path("go").exists():
            time.sleep(0.01)
    else:
        time.sleep(float(argument))
    Path(name, "answer").write_text(f"answer of {name}\n")
    _note(f"end {name}")
    sys.exit(0)


def _note(line):
    with Path("events").open("a") as file:
        file.write(f"{line}\n")


def events(directory):
    path = directory / "events"
    return path.read_text().splitlines() if path.exists() else []


def until(reached, seconds=30.0):
    """Wait for it; fails where it does not come."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


if __name__ == "__main__":
    provenance = types.ModuleType("jsharp.provenance")
    provenance.__dict__["surroundings"] = lambda: SURROUNDINGS
    sys.modules["jsharp.provenance"] = provenance
    from experiments.reproduce import child
    from jsharp import cli

    cli.entry = entry
    child.main()
