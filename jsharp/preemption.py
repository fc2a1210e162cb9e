"""Being told to stop: SIGTERM and SIGINT set an event, so that no step is torn."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Stop(threading.Event):
    """Set by a signal; `status` is the exit status that says which."""

    status = 128 + signal.SIGTERM


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """An event that SIGTERM or SIGINT sets, in here.

    A second SIGINT does what it did before: who cannot wait interrupts at once.
    """
    stop = Stop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        del frame
        stop.status = 128 + number
        stop.set()
        if number == signal.SIGINT:
            signal.signal(number, kept[signal.SIGINT])

    kept = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
