"""`jsharp reproduce` in a directory that holds runs and results; inputs, refusals."""

import shutil

import pytest
from fabricated_experiments import FIRST, SECOND, experiment, reproduce, toy, use
from reproduce_fakes import events

from experiments.reproduce import store
from experiments.reproduce.experiment import Check
from experiments.reproduce.work import Run
from jsharp import files, run_directory


def test_a_run_of_another_command_is_refused(monkeypatch, tmp_path, capsys):
    use(monkeypatch, FIRST)
    assert reproduce(tmp_path, "first") == 0
    use(monkeypatch, experiment("first", toy("one", "0.01")))
    before = events(tmp_path)
    assert reproduce(tmp_path, "first") == 2
    assert "another --output-dir" in capsys.readouterr().err
    assert events(tmp_path) == before


def test_a_deleted_run_may_have_another_command(monkeypatch, tmp_path):
    use(monkeypatch, FIRST)
    assert reproduce(tmp_path, "first") == 0
    use(monkeypatch, experiment("first", toy("one", "0.01")))
    shutil.rmtree(tmp_path / "one")
    assert reproduce(tmp_path, "first") == 0
    made = files.read_json(tmp_path / "report/results/first.made.json")
    assert [run["resumed"] for run in made["runs"]] == [False]


def test_a_config_that_an_experiment_has_no_cells_for_is_refused(
    monkeypatch, tmp_path, capsys
):
    def runs(config):
        raise ValueError("--swept: expected one model at least")

    use(monkeypatch, FIRST, SECOND._replace(runs=runs))
    for name in ("second", "all"):
        assert reproduce(tmp_path / "out", name) == 2
        assert "--swept: expected one model at least" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert reproduce(tmp_path / "out", "first") == 0


def preparing(*runs):
    """Writes the file that its runs read, the number of answers in it."""

    def prepare(config):
        path = config.output_dir / "input"
        path.write_text(f"{len(events(config.output_dir))}")

    return experiment("prepared", *runs)._replace(prepare=prepare)


def test_inputs_are_written_before_the_runs_and_under_the_lock(monkeypatch, tmp_path):
    use(monkeypatch, preparing(Run("one", ("toy", "0", "input"))))
    with run_directory.alone(tmp_path):
        assert reproduce(tmp_path, "all") == 2
    assert not list(tmp_path.iterdir())
    assert reproduce(tmp_path, "all") == 0
    found = files.read_json(tmp_path / "made/one.json")["inputs"]
    assert (tmp_path / "input").read_text() == "0" and found.keys() == {"input"}
    assert reproduce(tmp_path, "all", "--report-only") == 0
    assert (tmp_path / "input").read_text() == "0"


def test_a_refused_command_writes_no_input(monkeypatch, tmp_path):
    use(monkeypatch, preparing(toy("one")), experiment("other", toy("one", "0.01")))
    for words in (["all"], ["prepared", "--jobs", "0"], ["prepared", "nothing"]):
        assert reproduce(tmp_path / "out", *words) == 2
        assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    words = ["prepared", "--report-dir", str(tmp_path / "file")]
    assert reproduce(tmp_path / "out", *words) == 2
    assert not (tmp_path / "out" / "input").exists()


def test_an_input_that_is_another_now_is_refused_before_any_work(
    monkeypatch, tmp_path, capsys
):
    use(monkeypatch, preparing(Run("one", ("toy", "0", "input"))))
    assert reproduce(tmp_path, "all") == 0
    before = events(tmp_path)
    assert reproduce(tmp_path, "all") == 2
    assert f"or delete {tmp_path / 'one'}" in capsys.readouterr().err
    assert events(tmp_path) == before


def test_numbers_of_another_version_keep_the_others(monkeypatch, tmp_path, capsys):
    """They lack what is drawn, told and judged."""
    judge = lambda found: [Check("found", found["lengths"][0] > 0, "none", "no")]
    use(monkeypatch, FIRST._replace(judge=judge), SECOND)
    assert reproduce(tmp_path, "all") == 0
    directory = tmp_path / "report"
    names = ["first", "second"]
    content = files.read_json(directory / "results" / "first.json")
    old = {**content, "found": {"sizes": [1]}}
    store.write(directory, "first", old, {"runs": [], "bases": {}}, names)
    (directory / "results.md").unlink()
    for figure in directory.glob("figures/second*"):
        figure.unlink()
    capsys.readouterr()
    assert reproduce(tmp_path, "all", "--report-only") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "first.json: not what this version of first reads (KeyError: " in said
    assert "run `jsharp reproduce first` again" in said
    assert {p.name for p in store.figures(directory, "second", names)} == {
        "second-lengths.png"
    }
    page = (directory / "results.md").read_text()
    assert "## second: " in page and "## first: " not in page
    assert "Not shown: first: " in page and "Not run" not in page


@pytest.mark.parametrize("part", ["measure", "draw"])
def test_a_broken_experiment_keeps_the_others(part, monkeypatch, tmp_path, capsys):
    use(monkeypatch, FIRST, SECOND)
    assert reproduce(tmp_path, "all") == 0
    assert "first: the title of first" in capsys.readouterr().err

    def broken(argument):
        raise RuntimeError("of its own")

    use(monkeypatch, FIRST._replace(**{part: broken}), SECOND)
    directory = tmp_path / "report"
    for path in directory.glob("figures/second*"):
        path.unlink()
    assert reproduce(tmp_path, "all") == 1
    said = capsys.readouterr().err
    assert "jsharp reproduce: first: RuntimeError: of its own" in said
    assert "first: the title" not in said and "second: the title" in said
    assert (directory / "figures" / "second-lengths.svg").exists()
    # No figure is left beside numbers that it may not be of.
    kept = part == "measure"
    assert (directory / "figures" / "first-lengths.svg").exists() == kept
    page = (directory / "results.md").read_text()
    assert ("No figure: " in page) != kept and "## first: " in page
