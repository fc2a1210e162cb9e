"""The demo's plumbing on a tiny model: stages, refusals, the page."""

import hashlib
import shutil

import pytest

from experiments import demo
from jsharp.lm import embedded
from theory import verify

TINY = ["--prompts", "4", "--batch-size", "2", "--max-steps", "2"]
TINY += ["--num-generations", "3", "--max-completion-length", "12"]


@pytest.fixture(scope="module")
def small(tiny_directory):
    """The demo over a tiny model and over one claim."""
    with pytest.MonkeyPatch.context() as patch:
        claims = verify.select(["Lem 4.1"])
        run = verify.run
        patch.setattr(embedded, "directory", lambda: tiny_directory)
        patch.setattr(verify, "run", lambda seed: run(seed, claims))
        yield


def hashes(directory):
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
    }


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo") / "whole"
    assert demo.main([str(directory), *TINY]) == 0
    return directory


def test_everything_is_written(whole):
    expected = {
        "claims.json",
        "curve.json",
        "metrics.json",
        "index.html",
        "config.json",
    }
    expected |= {"responses-base.jsonl", "responses-sharpened.jsonl"}
    assert expected <= {p.name for p in whole.iterdir()}
    assert len(list((whole / "figures").glob("*.png"))) == 5
    assert (whole / "sharpened" / "model.safetensors").exists()
    assert not list(whole.rglob("*.partial"))


def test_the_page_stands_alone(whole):
    text = (whole / "index.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 5
    assert "<script" not in text and 'src="http' not in text
    assert "Lem 4.1" in text and "best of 3, majority" in text


@pytest.mark.parametrize("cut", ["sharpened", "figures"])
def test_an_interrupted_demo_ends_with_the_same_bytes(whole, small, tmp_path, cut):
    """What a kill during the stage `cut` leaves: the stages before, and a torn part."""
    order = ["config.json", "surroundings.json", "claims.json"]
    order += ["responses-base.jsonl", "sharpened"]
    order += ["responses-sharpened.jsonl", "metrics.json", "curve.json", "figures"]
    for name in order[: order.index(cut)]:
        copy = shutil.copytree if (whole / name).is_dir() else shutil.copy
        copy(whole / name, tmp_path / name)
    torn = tmp_path / f"{cut}.partial"
    if "." in cut:
        torn.write_text('{"prompt_id": 0, "pro')
    else:
        torn.mkdir()
    assert demo.main([str(tmp_path), *TINY]) == 0
    assert hashes(tmp_path) == hashes(whole)


def test_another_config_is_refused(whole, capsys):
    assert demo.main([str(whole), *TINY, "--seed", "1"]) == 2
    assert "seed:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompts", "5", "--batch-size", "2"], "prompts: expected a multiple"),
        (["--prompts", "4096"], "prompts: game24 has 256 held-out problems"),
        (["--num-generations", "1"], "num_generations: expected 2 to 10000, found 1"),
        (["--max-steps", "0"], "max_steps: expected 1 to 1000000, found 0"),
        (["--max-completion-length", "0"], "max_completion_length: expected 1 to 512"),
        (["--seed", "-1"], "seed: expected 0 to 2147483647, found -1"),
        (["--seed", "99999999999999999999"], "seed: expected 0 to 2147483647"),
        (["--learning-rate", "nan"], "learning_rate: expected a finite number above 0"),
        (["--task", "chess"], "no task 'chess'; expected one of arithmetic, game24"),
    ],
)
def test_bad_input_is_refused_before_any_work(flags, message, tmp_path, capsys):
    assert demo.main([str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    assert demo.main([str(tmp_path), *TINY]) == 2
    assert "holds files of no run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["junk", "[]", "{}"])
def test_a_damaged_config_is_refused_by_name(text, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    assert demo.main([str(tmp_path), *TINY]) == 2
    assert "config.json" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert demo.main([str(tmp_path / "out"), *TINY]) == 2
    assert "jsharp demo:" in capsys.readouterr().err
