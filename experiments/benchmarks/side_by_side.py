"""Two ways to do the same work, timed alternately in one process on the same cores."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


class Side(NamedTuple):
    """One way to do a piece of work: `run(i)` does `amount` of it."""

    run: Callable[[int], Any]
    amount: float


class Row(NamedTuple):
    """The simulator beside one other way, or beside what limits it."""

    work: str
    unit: str
    rate: float  # of the simulator, a second
    peer: str
    peer_rate: float
    ratio: float  # median over paired runs
    goal: str = ""
    met: bool | None = None


Seconds = dict[str, np.ndarray]  # of each side, [repeats]


def measure(sides: Mapping[str, Side], *, repeats: int) -> Seconds:
    """Seconds of each side per unit of work, in alternating runs after a warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            jax.block_until_ready(side.run(i))
            spent[name].append((time.perf_counter() - start) / side.amount)
    return {name: np.array(found[1:]) for name, found in spent.items()}


def compare(
    work: str,
    unit: str,
    seconds: Seconds,
    goals: Mapping[str, float] | None = None,
    *,
    ours: str = "simulator",
) -> list[Row]:
    """A row for each other side; `goals` names the least ratio to some of them."""
    rows = []
    for peer, taken in seconds.items():
        if peer == ours:
            continue
        ratio = float(np.median(taken / seconds[ours]))
        least = (goals or {}).get(peer)
        rate, peer_rate = (float(1 / np.median(s)) for s in (seconds[ours], taken))
        met = None if least is None else ratio >= least
        goal = "" if least is None else f"ratio >= {least:g}"
        rows.append(Row(work, unit, rate, peer, peer_rate, ratio, goal, met))
    return rows


def cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to(cores: int) -> None:
    """Start again on `cores` cores, before any thread pool has counted more of them."""
    if sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > cores:
            os.sched_setaffinity(0, allowed[:cores])
            os.execv(sys.executable, sys.orig_argv)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| work | a second | beside | a second | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        met = {None: "", True: "yes", False: "NO"}[r.met]
        lines.append(
            f"| {r.work} | {r.rate:,.0f} {r.unit} | {r.peer} | {r.peer_rate:,.0f} "
            f"| {r.ratio:.3g} | {r.goal} | {met} |"
        )
    return "\n".join(lines)
