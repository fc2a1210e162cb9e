"""`jsharp reproduce`: refusals, failures, kills, and the files it leaves."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from fabricated_experiments import (
    BAD,
    FIRST,
    SECOND,
    SLOW,
    experiment,
    made_files,
    reproduce,
    toy,
    use,
)
from reproduce_fakes import events, until

from experiments.reproduce import command, registry, report, store, work
from experiments.reproduce.config import Config, parse, quick_config, resolve
from experiments.reproduce.work import Run
from jsharp import files, run_directory


@pytest.fixture
def known(monkeypatch):
    use(monkeypatch, FIRST, SECOND, BAD, SLOW)


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ([], ["expected names of experiments, or `all`", "  second  the title of"]),
        (["frist"], ["no experiment 'frist'; perhaps you meant 'first'", "  slow "]),
        (["all", "nothing"], ["no experiment 'nothing'; all are:"]),
        (["first", "--models", "tiny"], ["--models: expected embedded", "'tiny'"]),
        (["first", "--models", "x=nowhere"], ["--models: x: no checkpoint in"]),
        (["first", "--tasks", "gams24"], ["--tasks: ", "perhaps you meant 'game24'"]),
        (["first", "--tasks", "gsm8k"], ["--data: expected gsm8k=TRAIN,TEST"]),
        (
            ["first", "--tasks", "gsm8k", "--data", "gsm8k=no.jsonl,no.jsonl"],
            ["--data: gsm8k: no file"],
        ),
        (["first", "--jobs", "0"], ["--jobs: expected >= 1, found 0"]),
        (["first", "--report-only"], ["--report-only: no", "first.json"]),
        (["all", "--report-only"], ["--report-only: no"]),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(
    words, messages, known, tmp_path, capsys
):
    assert reproduce(tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("jsharp reproduce: ")
    assert all(message in said for message in messages), said
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_is_refused(known, tmp_path):
    with pytest.raises(SystemExit) as leaving:
        reproduce(tmp_path / "out", "first", "--sedes", "1")
    assert leaving.value.code == 2


@pytest.mark.parametrize("option", ["--output-dir", "--report-dir"])
def test_a_folder_that_is_a_file_is_refused(option, known, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["first", "--output-dir", str(tmp_path / "out")]
    assert command.main([*words, option, str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert not events(tmp_path / "out")


def test_two_commands_of_one_run_are_refused(monkeypatch, tmp_path, capsys):
    use(monkeypatch, FIRST, experiment("other", toy("one", "0.01")))
    assert reproduce(tmp_path / "out", "all") == 2
    assert "run one: two commands" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_process_at_a_time(known, tmp_path, capsys):
    with run_directory.alone(tmp_path):
        assert reproduce(tmp_path, "first") == 2
    assert "another process works there" in capsys.readouterr().err
    assert not events(tmp_path)
    assert reproduce(tmp_path, "first") == 0


def test_everything_is_written_and_stays_the_same(known, tmp_path, capsys):
    assert reproduce(tmp_path, "first", "second", "first", "--jobs", "2") == 0
    assert "2 of 3 runs after" in capsys.readouterr().err
    directory = tmp_path / "report"
    kinds = [f"{n}{k}" for n in ("first", "second") for k in (".json", "-lengths.png")]
    kinds += ["first-lengths.svg", "second-lengths.svg"]
    before = made_files(directory)
    assert before.keys() == set(kinds)
    assert {"results.md", "results.html"} < {p.name for p in directory.iterdir()}
    found = files.read_json(directory / "results" / "first.json")
    assert found["found"] == {"lengths": [17, 14]}
    made = files.read_json(directory / "results" / "first.made.json")
    assert [run["command"] for run in made["runs"]] == [
        "jsharp toy 0 --output-dir shared",
        "jsharp toy 0 --output-dir one",
    ]
    ran = events(tmp_path)
    assert len(ran) == 6
    assert reproduce(tmp_path, "second", "first") == 0
    assert made_files(directory) == before and events(tmp_path) == ran


def test_the_report_alone_is_of_the_results_alone(known, tmp_path):
    assert reproduce(tmp_path, "second") == 0
    directory = tmp_path / "report"
    before = made_files(directory)
    page = (directory / "results.html").read_bytes()
    for path in [*directory.glob("figures/*"), directory / "results.html"]:
        path.unlink()
    for name in ("shared", "two", "made"):
        (tmp_path / name).rename(tmp_path / f"no {name}")
    assert reproduce(tmp_path, "all", "--report-only") == 0
    assert made_files(directory) == before
    assert (directory / "results.html").read_bytes() == page
    assert reproduce(tmp_path, "second", "first", "--report-only") == 2


def test_a_failed_run_keeps_the_others(known, tmp_path, capsys):
    assert reproduce(tmp_path, "first", "bad", "second") == 1
    said = capsys.readouterr().err
    assert "jsharp toy fail --output-dir broken" in said
    assert "ended with 1" in said and "the end of it" in said
    assert "bad: not made: broken failed" in said
    results = tmp_path / "report" / "results"
    assert {p.name for p in results.glob("*d.json")} == {"second.json"}
    assert (results / "first.json").exists()
    page = (tmp_path / "report" / "results.md").read_text()
    assert "Not run: bad, slow." in page and "## second: " in page


def test_files_that_are_not_as_they_should_be_keep_the_others(
    monkeypatch, tmp_path, capsys
):
    def measure(config):
        raise ValueError("line 7: not JSON")

    use(monkeypatch, FIRST._replace(measure=measure), SECOND)
    assert reproduce(tmp_path, "all") == 1
    assert "jsharp reproduce: first: line 7: not JSON" in capsys.readouterr().err
    assert (tmp_path / "report" / "results" / "second.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_written(monkeypatch, tmp_path, capsys, value):
    use(monkeypatch, FIRST._replace(measure=lambda config: {"lengths": [value]}))
    assert reproduce(tmp_path, "first") == 1
    assert "jsharp reproduce: first: Out of range float" in capsys.readouterr().err
    assert not list(tmp_path.glob("report/results/*"))


def test_a_figure_of_a_foreign_name_is_refused(monkeypatch, tmp_path, capsys):
    draw = lambda found: {"third": plt.figure()}
    use(monkeypatch, FIRST._replace(draw=draw), SECOND)
    assert reproduce(tmp_path, "first") == 1
    assert "expected a figure first..., found 'third'" in capsys.readouterr().err
    assert not plt.get_fignums()


DRIVER = """
import sys
from experiments.reproduce import command, report, work
import fabricated_experiments as fabricated

command.EXPERIMENTS = report.EXPERIMENTS = (fabricated.FIRST, fabricated.SLOW)
work.process = fabricated.PROCESS
sys.exit(command.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted process finds."""
    directory = tmp_path_factory.mktemp("whole")
    (directory / "go").touch()
    with pytest.MonkeyPatch.context() as patch:
        use(patch, FIRST, SLOW)
        assert reproduce(directory, "all") == 0
    return made_files(directory / "report")


@pytest.mark.parametrize(
    ("number", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)]
)
def test_killed_it_leaves_no_child_and_goes_on(
    number, status, whole, known, tmp_path, capsys
):
    path = [os.path.dirname(__file__), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, "all", "--output-dir", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: "begin long" in events(tmp_path))
    until(lambda: (tmp_path / "report/figures/first-lengths.svg").exists())
    process.send_signal(getattr(signal, number))
    _, said = process.communicate()
    assert process.returncode == status, said
    assert number == "SIGKILL" or "stopped; the same command goes on" in said
    (tmp_path / "go").touch()  # what a child that is left would wait for
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "EXPERIMENTS", (FIRST, SLOW))
        patch.setattr(report, "EXPERIMENTS", (FIRST, SLOW))
        assert reproduce(tmp_path, "all") == 0
    counts = {line: events(tmp_path).count(line) for line in events(tmp_path)}
    assert counts["end one"] == counts["begin one"] == 1, "finished runs are kept"
    assert counts["end long"] == 1 and counts["begin long"] == 2
    assert made_files(tmp_path / "report") == whole
    made = files.read_json(tmp_path / "report/results/slow.made.json")
    assert [run["resumed"] for run in made["runs"]] == [False, True]


CONFIGS = [
    Config(names=()),
    quick_config(),
    quick_config(generations=50, tasks=("arithmetic",), swept=()),
    Config(names=(), models=("small", "large"), trained=("large",), swept=()),
    Config(names=(), tasks=("prontoqa", "game24"), seeds=(5, 0), generations=7, jobs=3),
]


def runs_of(each, config):
    """Names and words, or why there are none."""
    try:
        return [(run.name, run.words) for run in work.in_order(each.runs(config))]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_command_in_the_results_makes_the_same_runs(config, tmp_path):
    config = resolve(dataclasses.replace(config, output_dir=tmp_path))
    for each in registry.EXPERIMENTS:
        words = shlex.split(command.command(config, each.name))
        assert words[:3] == ["jsharp", "reproduce", each.name]
        assert ("--quick" in words) == config.quick
        again = resolve(parse([*words[2:], "--output-dir", str(tmp_path)]))
        assert command.identity(again) == command.identity(config)
        assert again.names == (each.name,)
        assert runs_of(each, again) == runs_of(each, config)


def test_each_experiment_once_in_the_order_asked_for(known):
    names = lambda *words: [each.name for each in command.choose(words)]
    assert names("second", "first", "second") == ["second", "first"]
    assert names("second", "all") == ["first", "second", "bad", "slow"]


def test_the_recipes_are_those_of_the_bases_that_runs_use(tmp_path):
    files.write_json(tmp_path / "unused" / "config.json", {})
    files.write_json(tmp_path / "unused" / "recipe.json", {"parameters": 5})
    models = (f"unused={tmp_path / 'unused'}", "small", "medium", "embedded")
    config = Config(names=("x",), output_dir=tmp_path, models=models)
    small = Run("pretrain/small", ("pretrain",))
    recipe = {"parameters": 3}
    files.write_json(tmp_path / "pretrain/small/hf/recipe.json", recipe)
    runs = [small, Run("e", ("evaluate", "--model-name-or-path", "embedded"), (small,))]
    found = command.recipes(config, runs)
    assert found.keys() == {"small", "embedded"} and found["small"] == recipe
    assert found["embedded"]["parameters"] == 1243520


def test_a_small_model_from_beginning_to_end(tiny_directory, tmp_path):
    """Figure 3 of a random model: no fake but its size."""
    words = ["fig3", "--quick", "--models", f"tiny={tiny_directory}", "--tasks"]
    words += ["arithmetic", "--generations", "3", "--limit", "2"]
    words += ["--max-completion-length", "4"]
    assert reproduce(tmp_path, *words) == 0
    content = store.read(tmp_path / "report", "fig3")
    assert content is not None
    (cell,) = content["found"]["cells"]
    assert (cell["model"], cell["prompts"], cell["k"]) == ("tiny", 2, [1, 2, 3])
    log = tmp_path / "evaluate/tiny/arithmetic/responses.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    right = [r["correct"] for r in records if r["sample_id"] >= 0]
    assert len(right) == 6 and cell["sample"][0] == pytest.approx(np.mean(right))
    page = (tmp_path / "report" / "results.html").read_text()
    assert "fig3: accuracy of best-of-N" in page and "data:image/png" in page
