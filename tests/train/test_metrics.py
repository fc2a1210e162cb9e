"""The metrics sinks: what their readers find after a kill and a resumption."""

import importlib.machinery
import struct
import sys
import types

import pytest

from jsharp import run_directory
from jsharp.train import metrics

CONFIG = {"learning_rate": 3e-4, "tasks": ["game24"]}


def line(step: int) -> dict:
    return {"step": step, "loss": 2.0**-step, "phase": "warm", "rewards/chosen": step}


def work(directory, names, first: int, last: int, *, closed: bool) -> None:
    """Steps first..last of a run, the record before the sinks, as a trainer does."""
    opened = metrics.sinks(names, directory, CONFIG)
    for step in range(first, last + 1):
        lines = [line(step)]
        if step == 3:
            lines.append({"step": 3, "eval/accuracy": 0.5})
        for each in lines:
            run_directory.append(directory, each)
            for sink in opened:
                sink.write(step, each)
    for sink in opened if closed else ():
        sink.close()


def expected(last: int) -> list[tuple[int, str, float]]:
    """What each step shows, once; a power of two is the same in float32."""
    shown = []
    for step in range(1, last + 1):
        shown += [
            (step, "train/loss", 2.0**-step),
            (step, "train/rewards/chosen", step),
        ]
        shown += [(3, "eval/accuracy", 0.5)] * (step == 3)
    return shown


def events(path):
    """The events of a TFRecord file: length, its CRC, the bytes, their CRC."""
    from tensorboardX.proto.event_pb2 import Event

    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        (size,) = struct.unpack("<Q", raw[at : at + 8])
        found.append(Event.FromString(raw[at + 12 : at + 12 + size]))
        at += 16 + size
    return found


def test_tensorboard_shows_each_step_once(tmp_path, monkeypatch):
    """Killed after step 5 with a checkpoint of step 3, then on to step 6."""
    clock = iter(range(1000, 2000))
    monkeypatch.setattr("time.time", lambda: next(clock))  # which names the files
    work(tmp_path, ["tensorboard"], 1, 5, closed=False)
    run_directory.forget_after(tmp_path, 3)
    work(tmp_path, ["tensorboard"], 4, 6, closed=True)
    _, last = sorted((tmp_path / "tensorboard").iterdir())
    second = events(last)
    scalars = [
        (e.step, v.tag, v.simple_value)
        for e in second
        for v in e.summary.value
        if v.tag != "config/text_summary"
    ]
    assert scalars == expected(6)
    # The second file begins with the mark that hides all steps of the first.
    starts = [e.step for e in second if e.session_log.status == e.session_log.START]
    assert starts == [0]
    text = b"".join(
        t for e in second for v in e.summary.value for t in v.tensor.string_val
    )
    assert b"learning_rate" in text and b"game24" in text


class Wandb(types.ModuleType):
    """Keeps what it is told: the arguments of init, and what each run logs."""

    Settings = dict

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
        self.runs = []

    def init(self, **options):
        logged, ended = [], []
        self.runs.append((options, logged, ended))
        return types.SimpleNamespace(
            log=lambda values, step: logged.extend((step, *v) for v in values.items()),
            finish=lambda: ended.append(True),
        )


@pytest.fixture
def wandb(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    return stub


def test_wandb_is_offline_and_told_each_step_once(tmp_path, wandb):
    work(tmp_path, ["wandb"], 1, 5, closed=False)
    run_directory.forget_after(tmp_path, 3)
    work(tmp_path, ["wandb"], 4, 6, closed=True)
    (before, logged, ended), (after, again, closed) = wandb.runs
    assert (logged, again) == (expected(5), expected(6))
    assert (ended, closed) == ([], [True])
    assert before == after and before["mode"] == "offline"
    assert before["config"] == CONFIG and before["dir"] == str(tmp_path)


def test_wandb_follows_the_users_environment(tmp_path, wandb, monkeypatch):
    asked = {"WANDB_MODE": "online", "WANDB_PROJECT": "mine", "WANDB_NAME": "one"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    metrics.sinks(["wandb"], tmp_path, CONFIG)
    ((options, *_),) = wandb.runs
    assert [options[k] for k in ("mode", "project", "name")] == list(asked.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["wandb", "tensorboard"], r"tensorboardX, .*: pip install 'jsharp\[tb\]'"),
        (["wandb", "mlflow"], "expected any of tensorboard, wandb, found 'mlflow'"),
    ],
)
def test_what_cannot_be_opened_is_refused_before_anything_is(
    tmp_path, wandb, monkeypatch, names, message
):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if not installed
    with pytest.raises(ValueError, match=f"report_to: .*{message}"):
        metrics.sinks(names, tmp_path, CONFIG)
    assert not wandb.runs and not list(tmp_path.iterdir())


def test_no_names_no_sinks(tmp_path):
    assert metrics.sinks([], tmp_path, CONFIG) == ()
