"""What a side of the engine's benchmark is, and the memory of its process."""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.engine_model import Size

ADAPTER = "adapter"  # beside the weights, in the layout of PEFT
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Side(NamedTuple):
    """One way to do a piece of work.

    `run(i)` does it and waits for its end; where it returns a number, these are the
    seconds that count. `check()` gives, after at least one run, numbers that any way
    of doing the same work must give too. `program` is the compiled text, if any.
    """

    run: Callable[[int], float | None]
    check: Callable[[], list[float]] = lambda: []
    program: str = ""


@dataclass(frozen=True)
class Job:
    """What the sides of one process work on."""

    sides: tuple[str, ...]
    size: Size
    dtype: str
    directory: str  # of the checkpoint, with base_log_prob.npy beside the weights
    cores: int
    seed: int

    @property
    def base_log_prob(self) -> np.ndarray:
        """Of the pairs of the training work, [batch / 2, 2]."""
        return np.load(Path(self.directory) / "base_log_prob.npy")


class Memory(NamedTuple):
    """Bytes of a device or of this process: in use now, and the most so far."""

    now: int
    peak: int


def host_memory() -> Memory:
    """Of this process; the peak is since it was last forgotten."""
    if STATUS.exists():
        return Memory(_status("VmRSS"), _status("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Memory(peak, peak)


def forget_peak() -> None:
    """Count the host's peak from here; only Linux can, elsewhere it stays."""
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5")


def _status(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return 1024 * next(int(x.split()[1]) for x in lines if x.startswith(field))
