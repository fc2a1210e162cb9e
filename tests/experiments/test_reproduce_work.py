"""Runs: their order, their failures, their going on, and that none is left behind."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest
import reproduce_fakes
from reproduce_fakes import events, until
from rich.console import Console

from experiments.reproduce import work
from experiments.reproduce.work import Pool, Run, in_order, made
from jsharp import files
from jsharp.commands import model

QUIET = Console(quiet=True)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(work, "process", reproduce_fakes.instead_of(work.process))


def toy(name, argument="0", *needs):
    return Run(name, ("toy", argument), needs)


def carry_out(directory, runs, jobs=1):
    with Pool(directory, runs, jobs=jobs, console=QUIET) as pool:
        return pool.wait(runs)


def alive(pid):
    """Whether it runs: a process that ended and was not asked after does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_run_says_where_its_output_goes():
    assert Run("a/b", ("train", "sft")).text == "jsharp train sft --output-dir a/b"
    assert Run("m", ("mode", "x y")).text == "jsharp mode 'x y' --output m/output.jsonl"


def test_each_run_once_and_behind_what_it_needs():
    base = toy("base")
    middle = toy("middle", "0", base)
    last = toy("last", "0", middle, base)
    assert in_order([last, middle, base, last]) == [base, middle, last]


def test_two_commands_of_one_name_are_refused():
    other = Run("a", ("toy", "1"))
    with pytest.raises(ValueError, match=r"(?s)a: two commands.*toy 0 .*toy 1 "):
        in_order([toy("b", "0", toy("a")), other])


def test_a_finished_run_of_another_command_is_refused(tmp_path, fake):
    assert carry_out(tmp_path, [toy("a")]) == {}
    said = f"(?s)toy 1 .*toy 0 .*another --output-dir, or delete {tmp_path / 'a'}"
    with pytest.raises(ValueError, match=said):
        made(tmp_path, toy("a", "1"))
    assert made(tmp_path, toy("b")) is None


def test_a_run_whose_folder_was_deleted_is_begun_anew(tmp_path, fake):
    carry_out(tmp_path, [toy("a")])
    shutil.rmtree(tmp_path / "a")
    assert made(tmp_path, toy("a", "1")) is None
    with Pool(tmp_path, [toy("a", "wait")], jobs=1, console=QUIET) as pool:
        until(lambda: len(events(tmp_path)) == 3)
        assert made(tmp_path, toy("a")) is None, "no marker of the run before"
        (tmp_path / "go").touch()
        assert pool.wait([toy("a", "wait")]) == {}
    found = made(tmp_path, toy("a", "wait"))
    assert found is not None and not found["resumed"]


@pytest.fixture
def reading(tmp_path):
    """A run of the checkpoint "base", and of the file of an absolute path."""
    files.write_json(tmp_path / "base/config.json", {"layers": 1})
    (tmp_path / "base/model.safetensors").write_bytes(b"weights")
    (tmp_path / "base/notes").mkdir()
    (tmp_path / "data.jsonl").write_text("{}\n")
    return Run("a", ("toy", "0", "base", str(tmp_path / "data.jsonl"), "pretrain"))


def test_a_run_says_what_it_read(tmp_path, fake, reading):
    assert carry_out(tmp_path, [reading]) == {}
    found = made(tmp_path, reading)
    assert found is not None and found["inputs"] == {
        "base/config.json": model.digest(tmp_path / "base/config.json"),
        "base/model.safetensors": hashlib.sha256(b"weights").hexdigest()[:16],
        str(tmp_path / "data.jsonl"): model.digest(tmp_path / "data.jsonl"),
    }


@pytest.mark.parametrize(
    "name", ["data.jsonl", "base/config.json", "base/model.safetensors", "base/a.json"]
)
def test_a_run_of_another_input_is_refused(tmp_path, fake, reading, name):
    carry_out(tmp_path, [reading])
    (tmp_path / name).write_text("[1, 2]\n")
    with pytest.raises(ValueError, match=rf"run a: .*{name} is .*delete {tmp_path}/a"):
        made(tmp_path, reading)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError) if name != "base/a.json" else nullcontext():
        made(tmp_path, reading)


def test_an_input_is_read_once(tmp_path, reading, monkeypatch):
    seen = []
    digest = lambda path: seen.append(path.name) or str(len(seen))
    monkeypatch.setattr(model, "digest", digest)
    assert work.inputs(tmp_path, reading) == work.inputs(tmp_path, reading)
    assert sorted(seen) == ["config.json", "data.jsonl", "model.safetensors"]


def test_a_finished_run_says_what_it_was(tmp_path, fake):
    run = toy("a/b.c", "0.3")
    carry_out(tmp_path, [run])
    found = made(tmp_path, run)
    assert found is not None and 0.3 <= found.pop("seconds") < 30
    surroundings = reproduce_fakes.SURROUNDINGS
    assert found.pop("inputs") == {} and not found.pop("resumed")
    assert found == {"command": run.text, **surroundings}
    assert (tmp_path / "a/b.c/answer").read_text() == "answer of a/b.c\n"


def test_a_finished_run_is_not_run_again(tmp_path, fake):
    runs = [toy("a"), toy("b", "0", toy("a"))]
    carry_out(tmp_path, runs[:1])
    carry_out(tmp_path, runs)
    carry_out(tmp_path, runs)
    assert events(tmp_path) == ["begin a", "end a", "begin b", "end b"]


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_what_is_needed_ends_before_it_is_read(tmp_path, fake, jobs):
    base, other = toy("base", "0.1"), toy("other", "0.1")
    runs = [toy(f"{need.name}-{i}", "0", need) for i in "12" for need in (base, other)]
    assert carry_out(tmp_path, runs, jobs) == {}
    seen = events(tmp_path)
    assert len(seen) == 12
    for run in runs:
        assert seen.index(f"end {run.needs[0].name}") < seen.index(f"begin {run.name}")


@pytest.mark.parametrize("jobs", [1, 2])
def test_at_most_as_many_at_once_as_jobs(tmp_path, fake, jobs):
    runs = [toy(name, "wait") for name in "abcd"]
    with Pool(tmp_path, runs, jobs=jobs, console=QUIET) as pool:
        until(lambda: len(events(tmp_path)) >= jobs)
        time.sleep(0.5)
        assert len(events(tmp_path)) == jobs
        (tmp_path / "go").touch()
        assert pool.wait(runs) == {}
    steps = [1 if line.startswith("begin") else -1 for line in events(tmp_path)]
    assert max(sum(steps[:i]) for i in range(len(steps) + 1)) == jobs


def test_a_run_that_must_wait_takes_no_place(tmp_path, fake):
    """a waits for the file that is written once c has ended, behind b that needs a."""
    runs = [toy("a", "wait"), toy("b", "0", toy("a", "wait")), toy("c")]
    with Pool(tmp_path, runs, jobs=2, console=QUIET) as pool:
        until(lambda: "end c" in events(tmp_path))
        (tmp_path / "go").touch()
        assert pool.wait(runs) == {}
    assert events(tmp_path)[-2:] == ["begin b", "end b"]


def test_waiting_for_some_does_not_wait_for_all(tmp_path, fake):
    runs = [toy("a"), toy("b", "wait")]
    with Pool(tmp_path, runs, jobs=1, console=QUIET) as pool:
        assert pool.wait(runs[:1]) == {}
        assert "end b" not in events(tmp_path)
        (tmp_path / "go").touch()
        assert pool.wait(runs) == {}


def test_a_failure_costs_what_needs_it_and_no_other(tmp_path, fake):
    bad = toy("bad", "fail")
    second = toy("second", "0", bad)
    runs = [second, toy("third", "0", second), toy("good")]
    failed = carry_out(tmp_path, runs)
    assert list(failed) == ["bad", "second", "third"]
    assert bad.text in failed["bad"] and "ended with 1" in failed["bad"]
    assert failed["bad"].endswith("the end of it\n")
    assert failed["third"] == f"{toy('third').text}\nnot begun: second failed"
    assert events(tmp_path) == ["begin bad", "begin good", "end good"]
    assert made(tmp_path, bad) is None, "a failed run is run again"


def test_a_run_that_cannot_begin_fails(tmp_path, fake):
    (tmp_path / "a").write_text("no folder")
    failed = carry_out(tmp_path, [toy("a"), toy("b")])
    assert "FileExistsError" in failed["a"] and list(failed) == ["a"]


def test_a_killed_run_goes_on_and_says_so(tmp_path, fake):
    run = toy("a", "wait")
    with Pool(tmp_path, [run], jobs=1, console=QUIET) as pool:
        until(lambda: events(tmp_path))
        next(iter(pool._children)).kill()
        assert "ended with -9" in pool.wait([run])["a"]
    (tmp_path / "go").touch()
    assert carry_out(tmp_path, [run]) == {}
    found = made(tmp_path, run)
    assert found is not None and found["resumed"]


@pytest.mark.parametrize(("kind", "least"), [("wait", 0.0), ("stubborn", 0.5)])
def test_leaving_ends_what_is_at_work(tmp_path, fake, monkeypatch, kind, least):
    monkeypatch.setattr(work, "GRACE", 0.5 if kind == "stubborn" else 60.0)
    runs = [toy("a", kind), toy("b", kind), toy("c")]
    start = 0.0
    with pytest.raises(KeyboardInterrupt):
        with Pool(tmp_path, runs, jobs=2, console=QUIET) as pool:
            until(lambda: len(events(tmp_path)) == 2)
            children = [child.pid for child in pool._children]
            start = time.monotonic()
            raise KeyboardInterrupt
    assert least <= time.monotonic() - start < 20
    assert len(children) == 2 and not any(map(alive, children))
    assert not any(thread.is_alive() for thread in pool._threads)
    assert sorted(events(tmp_path)) == ["begin a", "begin b"], "no other has begun"


def test_an_interrupt_ends_the_waiting(tmp_path, fake):
    """Ctrl-C comes while the main thread waits for a run."""
    runs = [toy("a", "wait")]

    def interrupt():
        until(lambda: events(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        with Pool(tmp_path, runs, jobs=1, console=QUIET) as pool:
            thread.start()
            pool.wait(runs)
    thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is of Linux")
def test_no_child_outlives_a_killed_parent(tmp_path, fake):
    run = toy("a", "wait")
    words = work.process(tmp_path, run, resumed=False)
    (tmp_path / "a").mkdir()
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, subprocess, sys; words = sys.argv[1:]; "
            "words[2] = str(os.getpid()); child = subprocess.Popen(words); "
            "print(child.pid, flush=True); child.wait()",
            *words,
        ],
        cwd=tmp_path,
        env=work._environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: events(tmp_path))
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not alive(child))
    assert made(tmp_path, run) is None


def test_a_child_of_another_parent_does_nothing(tmp_path, fake):
    """Its parent ended before it could tie itself to it."""
    words = work.process(tmp_path, toy("a"), resumed=False)
    words[2] = "1"  # who is not its parent
    environment = work._environment(tmp_path)
    done = subprocess.run(words, cwd=tmp_path, env=environment)
    assert done.returncode == 128 + signal.SIGKILL and not events(tmp_path)


def test_a_real_command(tmp_path):
    """The front door itself: its version, and a command that it does not have."""
    version, wrong = Run("version", ("--version",)), Run("wrong", ("sharpne",))
    failed = carry_out(tmp_path, [version, wrong])
    assert list(failed) == ["wrong"]
    assert "no command 'sharpne'" in failed["wrong"] and "with 2" in failed["wrong"]
    found = files.read_json(tmp_path / "made/version.json")
    assert found["command"] == "jsharp --version --output-dir version"
    keys = {"seconds", "resumed", "inputs", "commit", "versions", "device"}
    assert keys < found.keys()
    assert (tmp_path / "made/version.log").read_text().startswith("jsharp ")
