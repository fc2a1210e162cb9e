"""Stopped anywhere and started again, a run ends in the bytes of an unbroken one."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_run import RULE, SIZES, contents, lines, steps

from jsharp import run_directory
from jsharp.commands import stream
from jsharp.lm import checkpoint as checkpoints
from jsharp.train import run

COMMON = ("--save-steps", 2, "--eval-steps", 3, "--chunk-size", 3, "--seed", 7)
HELD_OUT = ("--eval-limit", 4, "--eval-generations", 2, "--grader", "exact")
LINEAR = ("--lr-scheduler-type", "linear", "--warmup-steps", 2)
RUNS = {
    "sft": ("-n", 2, "--num-train-epochs", 5),
    "xpo": ("--rounds", 3, "--num-train-epochs", 2, "--lora-r", 2, *LINEAR),
    "rloo": ("-n", 2, "--num-train-epochs", 3, "--beta", 0.1),
}


class Killed(BaseException):
    """As by SIGKILL: nobody catches it, nothing more is written."""


def nth(call, wanted: int, act):
    """`call`, but before the `wanted`th time something happens."""
    count = 0

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        if count == wanted:
            act()
        return call(*args, **kwargs)

    return counted


def die() -> None:
    raise Killed


def tell() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def words(prompts):
    return (*COMMON, *HELD_OUT, "--prompts", prompts, "--eval-prompts", prompts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train, words):
    """whole("sft"): the directory of a run without a break."""

    @functools.cache
    def run_of(name: str) -> Path:
        directory = tmp_path_factory.mktemp(name) / "run"
        assert train(name, directory, *words, *RUNS[name]) == 0
        return directory

    return run_of


# What is interrupted, before which call of it, and how; each after the one before.
BREAKS = [
    (stream.Output, "append", 1, tell),  # in the first evaluation
    (run, "_fit", 1, die),  # with all drawn
    (run_directory, "append", 6, die),  # between two checkpoints
    (run, "_check_finite", 1, tell),  # in a step
    (checkpoints, "save", 2, die),  # before the last checkpoint
    (run, "export", 1, die),
]
OFFLINE = [(stream.Output, "append", 3, die)]  # between two chunks of draws


@pytest.mark.parametrize("name", RUNS)
def test_every_phase(tmp_path, train, words, whole, monkeypatch, capsys, name):
    expected, directory = whole(name), tmp_path / "run"
    options = (*words, *RUNS[name])
    sizes = []
    for place, call, count, act in [
        *BREAKS[:1],
        *OFFLINE * (name == "sft"),
        *BREAKS[1:],
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(place, call, nth(getattr(place, call), count, act))
            if act is die:
                with pytest.raises(Killed):
                    train(name, directory, *options)
            else:
                assert train(name, directory, *options) == 143
                assert "the same command goes on" in capsys.readouterr().err
                done = len(steps(directory))
                assert (directory / "checkpoints" / str(done)).is_dir()
        sizes.append(len(contents(directory)["metrics"]))
    assert len(set(sizes)) > 3  # or it was always the same place
    assert not (directory / "hf").exists()
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "torn')
    assert train(name, directory, *options) == 0
    assert contents(directory) == contents(expected)
    total = lines(directory / "metrics.jsonl")[-1]["step"]
    assert [line["step"] for line in steps(directory)] == [*range(1, total + 1)]


def test_the_rate_falls_to_the_end_of_the_run(whole):
    """Of 10 steps (1, 2 and 2 batches, twice) 2 warm up, and the others go to zero."""
    found = [line["learning_rate"] for line in steps(whole("xpo"))]
    expected = [0.25, 0.5, *(0.5 * (1 - t / 8) for t in range(8))]
    assert found == pytest.approx(expected)
    assert [line["epoch"] for line in steps(whole("xpo"))] == [
        *(1, 2, 0.5, 1, 1.5, 2, 0.5, 1, 1.5, 2)
    ]
    epochs = [line["epoch"] for line in steps(whole("rloo"))]
    assert epochs == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])


def test_who_draws(whole):
    """rloo from the policy of its step; xpo from the policy, then from the base; the
    first evaluation is of the base, and the last one is not."""
    assert max(line["sharpen/drift"] for line in steps(whole("rloo"))) < 1e-4
    gap = lambda line: abs(np.subtract(line["logprob_sampler"], line["logprob_base"]))
    made = [
        sorted((whole(name) / "rounds").glob("*examples.jsonl"))[-1] for name in RUNS
    ]
    _, xpo, rloo = (np.array([gap(line) for line in lines(path)]) for path in made)
    assert (rloo > 1e-4).all()
    assert (xpo[:, 0] > 1e-4).all() and (xpo[:, 1] < 1e-4).all()
    for name in RUNS:
        first, *_, last = sorted(
            (whole(name) / "eval").glob("*.jsonl"), key=lambda path: int(path.stem)
        )
        assert max(gap(line) for line in lines(first) if line["sample_id"] >= 0) < 1e-4
        assert max(gap(line) for line in lines(last) if line["sample_id"] >= 0) > 1e-3


def test_a_finished_run_says_the_same_again(whole, train, words, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole("sft"), directory)
    assert train("sft", directory, *words, *RUNS["sft"]) == 0
    assert contents(directory) == contents(whole("sft"))


def test_sigkill(tmp_path, train, words, whole, checkpoint):
    """Another process, killed by kill -9 behind its first checkpoint."""
    directory, options = tmp_path / "run", (*words, *RUNS["sft"])
    command = [sys.executable, "-m", "jsharp", "train", "sft", *SIZES, *RULE, *options]
    command += ["--model-name-or-path", checkpoint.directory]
    command += ["--output-dir", directory]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not (directory / "checkpoints" / "2").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (directory / "hf").exists()
    assert train("sft", directory, *options) == 0
    assert contents(directory) == contents(whole("sft"))
