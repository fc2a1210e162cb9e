"""What sample, score and mode share: check, take up, work chunk by chunk, sum up."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from jsharp import files
from jsharp.commands import stream
from jsharp.commands.meter import Meter
from jsharp.commands.stream import Identity, Plan, Record
from jsharp.provenance import source, surroundings

Tick = Callable[[int, int], None]  # (input records, tokens) just finished
Work = Callable[[range, Tick], list[Record]]  # a chunk's places -> its output records


class Job(NamedTuple):
    """A run that is fully checked; `load` reads the weights."""

    output: Path
    overwrite: bool
    identity: Identity
    plan: Plan
    load: Callable[[], Work]
    summary: Callable[[Iterable[Record]], str]


def run(name: str, prepare: Callable[[], Job]) -> int:
    """Do the job of one command; the exit status.

    0 done, 2 refused before any work, 1 failed at work, 130 interrupted.
    """
    status, at = 2, ""
    try:
        job = prepare()
        found = stream.find(job.output, job.identity, job.plan, overwrite=job.overwrite)
        if found.chunks == job.plan.chunks:
            _say(f"{job.output} is finished: {_summary(job)}")
            return 0
        work = job.load()
        made = {**surroundings(), "source": source()}
        with stream.hold(
            job.output, job.identity, job.plan, made, overwrite=job.overwrite
        ) as output:
            status, at = 1, f"{job.output}: "
            _greet(job, output, made)
            _work(name, job, work, output)
    except (ValueError, OSError, FloatingPointError) as error:
        _say(f"jsharp {name}: {at}{error}")
        return status
    except KeyboardInterrupt:
        _say(
            f"jsharp {name}: interrupted; without --overwrite the same command goes on"
        )
        return 130
    return 0


def _work(name: str, job: Job, work: Work, output: stream.Output) -> None:
    plan, begun = job.plan, output.found.chunks
    total, done = len(plan.ids), plan.records(begun).start
    meter = Meter(Console(stderr=True), name, total=total, done=done)
    with meter.running():
        for chunk in range(begun, plan.chunks):
            output.append(work(plan.records(chunk), meter.tick))
    speed = f"{meter.tokens:,} tokens in {meter.seconds:.1f} s besides compiling"
    _say(f"{job.output}: {_summary(job)}; {speed}, {meter.rate:,.0f}/s")


def _greet(job: Job, output: stream.Output, made: Record) -> None:
    """Say where the work goes on, and what is another than before."""
    if not output.found.chunks:
        return
    begun = job.plan.records(output.found.chunks).start
    _say(f"{job.output}: going on behind record {begun} of {len(job.plan.ids)}")
    before = stream.made_before(job.output)[0]
    changed = [k for k in ("source", "versions", "device") if before[k] != made[k]]
    if changed:
        _say(
            f"{job.output}: begun with another {', '.join(changed)}; the last digits "
            "may differ from those of a run without a break"
        )


def _summary(job: Job) -> str:
    return job.summary(files.read_lines(job.output))


def _say(message: str) -> None:
    print(message, file=sys.stderr)
