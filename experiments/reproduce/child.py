"""A command of jsharp that says when it is done, and dies with who began it.

    python -m experiments.reproduce.child PARENT MARKER RESUMED INPUTS WORDS ...

PARENT is a process id. MARKER, a file, appears when `jsharp WORDS` ended well: the
command, the seconds of this process, RESUMED (0 or 1: an earlier one had begun the
work), INPUTS (JSON: the digests of what it read), and the commit, versions and device
of this very process.
"""

import ctypes
import json
import os
import runpy
import shlex
import signal
import sys
import time
from pathlib import Path

from jsharp import files

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def die_with(parent: int) -> None:
    """Be killed when the thread that began this process ends, however it ends.

    On Linux only. Elsewhere a command goes on to its end, which harms no file.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(128 + signal.SIGKILL)


def main() -> None:
    parent, marker, resumed, inputs, *words = sys.argv[1:]
    die_with(int(parent))
    start = time.monotonic()
    sys.argv = ["jsharp", *words]
    try:
        runpy.run_module("jsharp", run_name="__main__")
    except SystemExit as leaving:
        if leaving.code:
            raise
    # Imports JAX, which the command does in its own time.
    from jsharp.provenance import surroundings

    made = {
        "command": shlex.join(sys.argv),
        "seconds": round(time.monotonic() - start, 1),
        "resumed": resumed == "1",
        "inputs": json.loads(inputs),
        **surroundings(),
    }
    files.write_json(Path(marker), made)


if __name__ == "__main__":
    main()
