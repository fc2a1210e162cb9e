"""One way to do a work, alone in its process: a line of JSON in, a line of JSON out.

    -> {"sides": [...], ...the job}         <- {"ready": seconds}
    -> {"do": "run", "side": name, "i": 0}  <- {"seconds": s}
    -> {"do": "memory"}                     <- {"start": bytes, "ready": .., "peak": ..}
    -> {"do": "check", "side": name}        <- {"values": [...]}
    -> {"do": "profile", "side": name}      <- {"parts": {...}}

A reply {"error": text} ends the process. Whatever libraries print goes to stderr.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from experiments.benchmarks.engine_model import Size
from experiments.benchmarks.engine_side import Job, forget_peak


class Here:
    """Sides in this process, which answer requests; see the module's docstring."""

    def __init__(self, module: str, job: dict[str, Any]):
        began = time.perf_counter()
        self._module = _module(module)
        sizes = {"size": Size(**job["size"]), "sides": tuple(job["sides"])}
        self._sides = self._module.build(Job(**{**job, **sizes}))
        gc.collect()
        self._start = self._module.memory().peak
        forget_peak()
        self._ready = self._module.memory().now
        self.reply = {"ready": time.perf_counter() - began}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "memory":
            peak = self._module.memory().peak
            return {"start": self._start, "ready": self._ready, "peak": peak}
        side = self._sides[request["side"]]
        if request["do"] == "check":
            return {"values": side.check()}
        if request["do"] == "profile":
            from experiments.benchmarks.engine_profile import parts

            return {"parts": parts(lambda: side.run(0), side.program)}
        start = time.perf_counter()
        seconds = side.run(request["i"])
        return {"seconds": seconds or time.perf_counter() - start}

    def close(self) -> None:
        self._sides.clear()


class Worker:
    """The same in a process of its own, seen from outside.

    Raises RuntimeError with the process's last words where it fails.
    """

    def __init__(self, module: str, job: dict[str, Any]):
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.ask(job)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply = json.loads(line) if line else {"error": self._last_words()}
        if "error" in reply:
            self.close()
            raise RuntimeError(reply["error"])
        return reply

    def close(self) -> None:
        self._process.communicate()
        self._log.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        return f"exit status {code}: {self._log.read()[-2000:]}"


def _module(name: str) -> Any:
    """The sides of one framework; only the one asked for is imported."""
    if name == "torch":
        from experiments.benchmarks import engine_torch

        return engine_torch
    from experiments.benchmarks import engine_jax

    return engine_jax


def main(arguments: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        job = json.loads(sys.stdin.readline())
        sides = Here(arguments[0], job)
        reply(sides.reply)
        for line in sys.stdin:
            reply(sides.ask(json.loads(line)))
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
