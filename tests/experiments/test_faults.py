"""The fault report sees what was lost, on workers that take milliseconds."""

import signal
import sys

import jax.numpy as jnp
import pytest

from experiments import faults
from experiments.faults import Config, Job
from experiments.same_run import differences
from jsharp import files
from jsharp.lm import checkpoint

# Counts to 40 in a file; `good` goes on behind the last whole line.
GOOD = """
import pathlib, sys, time
path = pathlib.Path(sys.argv[1]) / "count.jsonl"
path.parent.mkdir(parents=True, exist_ok=True)
kept = path.read_bytes() if path.exists() else b""
kept = kept[: kept.rfind(b"\\n") + 1]
path.write_bytes(kept)
with path.open("ab", buffering=0) as file:
    for i in range(kept.count(b"\\n"), 40):
        file.write(b'{"step": %d' % i)
        time.sleep(0.005)
        file.write(b"}\\n")
"""
# It trusts a torn line.
BAD = GOOD.replace('kept = kept[: kept.rfind(b"\\n") + 1]\n', "")


def reported(tmp_path, worker, **counts):
    config = Config(out=tmp_path, per_run=2)
    job = Job("count", ("-c", worker, "{out}"), **counts)
    report = faults.run(config, [job])
    assert files.read_json(tmp_path / "faults.json") == report
    return report, faults.markdown(report, [job])


def test_what_takes_up_its_work_is_the_same(tmp_path):
    report, text = reported(tmp_path, GOOD, kills=3, terms=1)
    runs = report["runs"]
    assert [each["different"] for each in runs] == [[]] * len(runs)
    stops = [stop for each in runs for stop in each["stops"]]
    statuses = [stop["status"] for stop in stops]
    assert statuses == 3 * [-signal.SIGKILL] + [-signal.SIGTERM]
    assert report["whole"]["count"]["different"] == []
    assert f"3 SIGKILLs and 1 SIGTERMs in {len(runs)} runs; {len(runs)} of" in text
    assert all(stop["found"] in text for stop in stops)


def test_what_trusts_a_torn_line_is_reported(tmp_path):
    report, text = reported(tmp_path, BAD, kills=4)
    torn = [x for x in report["runs"] if "torn" in str(x["stops"])]
    assert torn and all("count.jsonl: differs at" in x["different"][0] for x in torn)
    assert "count.jsonl: differs at byte" in text


def test_runs_that_are_done_are_kept(tmp_path, monkeypatch):
    report, _ = reported(tmp_path, GOOD, kills=1)
    monkeypatch.setattr(faults, "_start", pytest.fail)
    assert reported(tmp_path, GOOD, kills=1)[0] == report


def test_a_job_that_fails_without_a_break_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="count: status 1.*no such work"):
        reported(tmp_path, "raise SystemExit('no such work')", kills=1)


def test_the_report_stops_thirty_times(tmp_path):
    work = faults.jobs(tmp_path)
    assert sum(job.kills for job in work) == 30
    assert {job.name.split()[0] for job in work} == {"sample", "train", "evaluate"}
    assert all("{out}" in " ".join(job.words) for job in work)
    assert sys.executable and all(job.words[:2] == ("-m", "jsharp") for job in work)


def run_of(directory, *, leaf=1.0, steps=(2, 4), line="same"):
    files.write_text(directory / "metrics.jsonl", line)
    files.write_json(directory / "results.json", {"made": str(directory), "a": 1})
    files.write_text(directory / "speed.jsonl", str(directory))
    state = {"params": jnp.array([leaf, 2.0])}
    for step in steps:
        checkpoint.save(directory / "checkpoints", step, state)
    return directory


def test_same_runs_differ_in_nothing(tmp_path):
    one, other = run_of(tmp_path / "one"), run_of(tmp_path / "other")
    assert differences(one, other) == []


def test_every_difference_is_seen(tmp_path):
    one = run_of(tmp_path / "one")
    other = run_of(tmp_path / "other", line="some", leaf=1.0000001)
    files.write_text(other / "more.txt", "")
    (other / "results.json").unlink()
    assert differences(one, other) == [
        "results.json: missing",
        "more.txt: unexpected",
        "metrics.jsonl: differs at byte 1 of 4",
        "checkpoints/2: ['state']['params'] differs",
        "checkpoints/4: ['state']['params'] differs",
    ]


def test_steps_may_differ_only_before_the_last_and_only_if_told(tmp_path):
    one = run_of(tmp_path / "one")
    other = run_of(tmp_path / "other", steps=(3, 4))
    assert differences(one, other) == ["checkpoints: steps [3, 4], expected [2, 4]"]
    assert differences(one, other, more_steps=True) == []
    short = run_of(tmp_path / "short", steps=(2,))
    assert differences(one, short, more_steps=True) != []


def test_steps_computed_twice_are_counted(tmp_path):
    lines = [f'{{"step": {i}, "step_time": 0.{k}}}' for k, i in enumerate((1, 2, 3, 2))]
    files.write_text(tmp_path / "speed.jsonl", "\n".join(lines) + "\n")
    assert faults.steps_again(tmp_path) == 1
    assert faults.steps_again(tmp_path / "none") == 0


def test_the_phase_is_the_newest_file(tmp_path):
    assert faults.found(tmp_path) == "nothing"
    files.write_text(tmp_path / "a.jsonl", "{}\n{}")
    assert faults.found(tmp_path) == "a.jsonl: 2 lines, the last one torn"
    files.write_text(tmp_path / "checkpoints" / "12" / "state" / "d", "x")
    assert faults.found(tmp_path) == "checkpoints/12"
