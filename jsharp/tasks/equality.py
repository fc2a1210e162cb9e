r"""Whether two answers in LaTeX have one value: math-verify, in a process of its own.

math-verify parses and simplifies what a model wrote, and one \boxed{9^{9^{9}}} can take
for ever, in a call that no signal of Python's interrupts. So a helper process does it
under the kernel's limits: for each pair some seconds of its processor's time, which do
not depend on how busy the machine is, and so much memory. Beyond them: not equal.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading

SECONDS = 5  # of processor time for one pair
MEMORY = 4 * 2**30  # bytes of address space

_lock = threading.Lock()
_helpers: list[subprocess.Popen[str]] = []  # one at most


@functools.lru_cache(maxsize=2**16)
def equal(reference: str, answer: str) -> bool:
    """Whether math-verify finds that `answer` is `reference` (the order matters).

    Each is read as the content of a \\boxed{}. RuntimeError where the helper does not
    start.
    """
    with _lock:
        for _ in range(2):  # a helper that something else killed has said nothing
            helper = _helper()
            said = _ask(helper, json.dumps([reference, answer]))
            if said:
                return json.loads(said)
            _stop()
            if helper.returncode == -signal.SIGXCPU:
                break
        return False


def _ask(helper: subprocess.Popen[str], line: str) -> str:
    """The helper's next line; empty where it has died."""
    assert helper.stdin and helper.stdout
    try:
        print(line, file=helper.stdin, flush=True)
    except BrokenPipeError:
        return ""
    return helper.stdout.readline()


def _helper() -> subprocess.Popen[str]:
    if _helpers:
        return _helpers[0]
    helper = subprocess.Popen(
        # -P: this file's folder, with its own math.py, is no place to import from.
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        start_new_session=True,  # Ctrl-C is for the command, which stops this
    )
    _helpers.append(helper)
    if not _ask(helper, "[]"):
        _stop()
        raise RuntimeError(
            "math-verify does not start (pip install 'jsharp[math]'): exit status "
            f"{helper.returncode}"
        )
    return helper


@atexit.register
def _stop() -> None:
    """Close the pipes, at which a helper ends, and wait for it."""
    while _helpers:
        helper = _helpers.pop()
        for pipe in (helper.stdin, helper.stdout):
            try:
                if pipe:
                    pipe.close()
            except BrokenPipeError:
                pass
        helper.wait()


def _serve() -> None:
    """Answer each line, a JSON list [reference, answer], with true or false."""
    import resource

    from math_verify import (  # pyright: ignore[reportMissingImports]  # an extra
        LatexExtractionConfig,
        parse,
        verify,
    )

    replies, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is none
    # Formulas only: for plain text math-verify calls a parser that evaluates.
    kinds = [LatexExtractionConfig()]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            # No clocks: theirs are signals. On the main thread only, and not in time.
            values = [
                parse(
                    rf"\boxed{{{latex}}}",
                    extraction_config=kinds,
                    fallback_mode="no_fallback",
                    parsing_timeout=None,
                )
                for latex in json.loads(line)
            ]
            same = len(values) == 2 and verify(*values, timeout_seconds=None)
        except Exception:
            same = False
        print(json.dumps(bool(same)), file=replies, flush=True)


if __name__ == "__main__":
    _serve()
