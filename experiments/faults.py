"""The fault report: what is killed at random instants ends in the bytes of a run whole.

    python -m experiments.faults --out DIR          about ten minutes on two idle cores

Jobs (sample, train, evaluate, on a tiny random model) run without a break, twice; then
again and again in fresh directories, each process ended by SIGKILL at an instant
uniform over the time of a run without a break, and started again by the same command.
After PER_RUN kills a process is left to its end, and the run's files are compared with
those of the run without a break. Some of training are told to stop by SIGTERM instead.

DIR gets faults.json, rewritten after every run, and faults.md, besides the runs
themselves. Killed, the same command goes on with the runs that are missing.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.fault_jobs import Job, jobs, prepare
from experiments.same_run import COMPARED, SPEED, differences
from experiments.stages import claim_directory
from jsharp import files
from jsharp.provenance import source, surroundings

Record = dict[str, Any]

KILL, TERM = signal.SIGKILL, signal.SIGTERM
_CACHED = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Kill sample, train and evaluate at random instants; compare what they end with.

    Example: python -m experiments.faults --out faults
    """

    out: Path
    """Where everything goes."""
    seed: int = 0
    """What the instants depend on."""
    per_run: int = 3
    """Most times that one run is stopped."""


def run(config: Config, work: Sequence[Job]) -> Record:
    """Every run that is not done yet; what faults.json then holds."""
    path = config.out / "faults.json"
    report = files.read_json(path) if path.exists() else {}
    report = {
        "config": {"seed": config.seed, "per_run": config.per_run},
        "made": {**surroundings(), "source": source(), "cores": os.cpu_count()},
        "whole": report.get("whole", {}),
        "runs": report.get("runs", []),
    }
    for number, job in enumerate(work):
        home = config.out / "runs" / job.name.replace(" ", "-")
        if job.name not in report["whole"]:
            report["whole"][job.name] = _whole(job, home, config.out)
            files.write_json(path, report)
        for name, number_of_signal, most in _due(config, job, report["runs"]):
            seed = (config.seed, number, number_of_signal, int(name.split("-")[1]))
            seconds = _duration(report, job)
            instants = np.random.default_rng(seed).uniform(0, seconds, most).tolist()
            done = _stopped(job, home / name, config.out, instants, number_of_signal)
            made = {"job": job.name, "name": name, "of": seconds, **done}
            report["runs"].append(made)
            files.write_json(path, report)
            _say(job, report["runs"][-1])
    return report


def _due(
    config: Config, job: Job, runs: list[Record]
) -> Iterator[tuple[str, int, int]]:
    """The runs that a job lacks: name, signal, and how often to stop it at most."""
    for number, wanted in ((KILL, job.kills), (TERM, job.terms)):
        for i in itertools.count():
            mine = [x for x in runs if x["job"] == job.name and x["signal"] == number]
            left = wanted - sum(len(each["stops"]) for each in mine)
            if left <= 0:
                break
            if i >= len(mine):
                yield f"{number.name}-{i}", number, min(config.per_run, left)


def _duration(report: Record, job: Job) -> float:
    """Seconds without a break: of the last run that ended before it was stopped."""
    runs = [x for x in report["runs"] if x["job"] == job.name and not x["stops"]]
    return runs[-1]["seconds"] if runs else report["whole"][job.name]["seconds"][1]


def _whole(job: Job, home: Path, out: Path) -> Record:
    """The run without a break, and once more, when nothing is left to compile."""
    seconds = []
    for name in ("whole", "again"):
        done = _stopped(job, home / name, out, [], KILL)
        if done["status"]:
            log = (home / name / "log.txt").read_text()
            raise RuntimeError(f"{job.name}: status {done['status']}: {log[-2000:]}")
        seconds.append(done["seconds"])
    command = " ".join(job.words).replace(str(out), "DIR")
    different = done["different"]
    return {"command": command, "seconds": seconds, "different": different}


def _stopped(
    job: Job, directory: Path, out: Path, instants: Sequence[float], number: int
) -> Record:
    """One run, its process stopped after each of the seconds, then left to its end."""
    shutil.rmtree(directory, ignore_errors=True)
    target, stops = directory / "out", []
    began = time.monotonic()
    for instant in [*instants, None]:
        status = _status(_start(job, target, out), instant, number)
        if instant is None or status in (0, 1, 2):
            break
        stops.append({"second": instant, "status": status, "found": found(target)})
    reference = directory.with_name("whole") / "out"
    different = differences(reference, target, more_steps=number == TERM)
    again, most = steps_again(target), job.interval * len(stops)
    if again > most:
        different.append(f"{SPEED}: {again} steps computed again, at most {most}")
    return {
        "signal": int(number),
        "stops": stops,
        "status": status,
        "seconds": time.monotonic() - began,
        "again": again,
        "different": different,
    }


def _status(
    process: subprocess.Popen[bytes], instant: float | None, number: int
) -> int:
    """How the process ends, of itself or by the signal after that many seconds."""
    try:
        return process.wait(instant)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return process.wait()
    except BaseException:
        process.kill()
        raise


def _start(job: Job, target: Path, out: Path) -> subprocess.Popen[bytes]:
    target.parent.mkdir(parents=True, exist_ok=True)
    words = [word.replace("{out}", str(target)) for word in job.words]
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    with (target.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *words],
            stdout=log,
            stderr=log,
            env=os.environ | _CACHED | compiled,
        )


def found(directory: Path) -> str:
    """What was written last: the phase that a stop hit."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    if not paths:
        return "nothing"
    newest = max(paths, key=lambda path: path.stat().st_mtime_ns)
    name = newest.relative_to(directory).as_posix()
    if name.startswith("checkpoints/"):
        return "/".join(name.split("/")[:2])
    if newest.name.endswith(".jsonl"):
        content = newest.read_bytes()
        torn = ", the last one torn" if content and content[-1:] != b"\n" else ""
        return f"{name}: {len(content.splitlines())} lines{torn}"
    return name


def steps_again(directory: Path) -> int:
    """Training steps that were computed before, by a process that lost them."""
    path = directory / SPEED
    lines = path.read_bytes().splitlines() if path.exists() else []
    counts = Counter(lines and [line.split(b",")[0] for line in lines])
    return sum(counts.values()) - len(counts)


def _say(job: Job, done: Record) -> None:
    stops = ", ".join(f"{each['second']:.1f} s" for each in done["stops"])
    same = done["different"] or "the same bytes"
    print(f"{job.name}: {done['name']} at {stops}: {same}", file=sys.stderr)


def markdown(report: Record, work: Sequence[Job]) -> str:
    """faults.md of faults.json."""
    runs, made = report["runs"], report["made"]
    kills, terms = (_stops(runs, number) for number in (KILL, TERM))
    same = sum(not each["different"] and not each["status"] for each in runs)
    return "\n".join(
        [
            "# Fault report",
            "",
            f"{kills} SIGKILLs and {terms} SIGTERMs in {len(runs)} runs; {same} of "
            f"{len(runs)} runs ended with status 0 in the bytes of the run without a "
            "break.",
            "",
            f"Commit {made['commit']}, source {made['source']}, {made['device']}, "
            f"{made['cores']} cores, seed {report['config']['seed']}.",
            "",
            COMPARED,
            "",
            "Instants are uniform over the time that the job takes without a break "
            "(with its programs in JAX's cache of compiled ones, as all processes here "
            "but the first of a job); a run that ended before it was stopped counts as "
            "a run, and gives the time anew.",
            "",
            *_by_job(report, work),
            "",
            *_by_stop(runs),
            "",
            "The jobs:",
            "",
            *(f"    python {each['command']}" for each in report["whole"].values()),
            "",
        ]
    )


def _stops(runs: Sequence[Record], number: int) -> int:
    return sum(len(each["stops"]) for each in runs if each["signal"] == number)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _by_job(report: Record, work: Sequence[Job]) -> list[str]:
    """A row for each job; what it may compute again is the interval for each kill."""
    head = ("job", "seconds", "runs", "SIGKILL", "SIGTERM", "same", "steps again")
    rows = [_row(*head, "at most"), "|" + "---|" * 8]
    for job in work:
        mine = [each for each in report["runs"] if each["job"] == job.name]
        kills, terms = (_stops(mine, number) for number in (KILL, TERM))
        seconds = report["whole"][job.name]["seconds"][1]
        same = sum(not each["different"] for each in mine)
        again = sum(each["again"] for each in mine)
        most = job.interval * (kills + terms)
        row = (job.name, f"{seconds:.1f}", len(mine), kills, terms, same, again, most)
        rows.append(_row(*row))
    return rows


def _by_stop(runs: Sequence[Record]) -> list[str]:
    head = ("job", "run", "stopped at, s", "status", "written last", "the run ended")
    rows = [_row(*head), "|" + "---|" * 6]
    for each in runs:
        ended = "; ".join(each["different"]) or "the same"
        for stop in each["stops"]:
            at = f"{stop['second']:.2f} of {each['of']:.2f}"
            last = stop["found"]
            rows.append(
                _row(each["job"], each["name"], at, stop["status"], last, ended)
            )
    return rows


def main(config: Config) -> int:
    """0 where every run ended in the same bytes, else 1."""
    claim_directory(config.out, {"seed": config.seed, "per_run": config.per_run})
    prepare(config.out)
    work = jobs(config.out)
    report = run(config, work)
    files.write_text(config.out / "faults.md", markdown(report, work))
    return int(any(each["different"] or each["status"] for each in report["runs"]))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
