"""Progress: rates and the time left count work, not compilation."""

import io
import time

import jax.monitoring
import pytest
from rich.console import Console

from jsharp.commands.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """The time, in the hands of the test."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def _meter(**sizes):
    return Meter(Console(file=io.StringIO()), "work", **sizes)


def test_time_spent_compiling_is_left_out_once(clock):
    meter = _meter(total=10, done=4)
    with meter.running():
        span = jax.monitoring.record_event_time_span
        span("/jax/core/compile/trace", 1002.0, 1003.0)  # inside the next
        span("/jax/core/compile/trace", 1001.0, 1004.0)
        span("/jax/core/compile/backend", 1004.0, 1006.0)
        span("/jax/checkpoint/read", 1006.0, 1008.0)
        clock[0] = 1010.0
        assert meter.seconds == pytest.approx(10 - 3 - 2)
        meter.tick(2, 30)
        assert meter.rate == pytest.approx(30 / 5) and meter.tokens == 30
    span("/jax/core/compile/backend", 1008.0, 1009.0)  # it listens no longer
    assert meter.seconds == pytest.approx(5)


def test_a_terminal_shows_what_is_done_and_what_is_left(clock):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    meter = Meter(console, "sample", total=10, done=4)
    with meter.running():
        clock[0] = 1060.0
        meter.tick(2, 3000)
        meter._bar.refresh()
    shown = screen.getvalue()
    assert "compiling" in shown and "6/10" in shown
    assert "50 tokens/s, 0:02:00 left" in shown  # 4 records at 30 s each


def test_no_terminal_no_bar(clock):
    screen = io.StringIO()
    meter = Meter(Console(file=screen), "sample", total=2, done=0)
    with meter.running():
        clock[0] += 1
        meter.tick(2, 5)
    assert screen.getvalue() == ""


def test_compiling_is_heard():
    """The names and the kind of jax's events, which no documentation promises."""
    meter = _meter(total=1, done=0)
    started = time.time()
    with meter.running():
        jax.jit(lambda x: jax.numpy.sin(x) @ x.T)(jax.numpy.ones((3, 3)))
        assert meter.seconds < 0.9 * (time.time() - started)
