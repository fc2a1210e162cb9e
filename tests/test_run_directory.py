"""The directory of a run: its config, its lines, and who may work there."""

import pytest

from jsharp import run_directory

CONFIG = {"seed": 1, "sizes": (1, 2)}


def test_claim(tmp_path):
    claim = lambda config, **how: run_directory.claim(tmp_path, config, **how)
    claim(CONFIG, resume=False)
    claim(CONFIG, resume=True)
    with pytest.raises(ValueError, match="output_dir: .* already holds a run"):
        claim(CONFIG, resume=False, allow_changes=True)
    other = CONFIG | {"seed": 2}
    with pytest.raises(ValueError, match="seed: .* has 1, got 2; .*config only$"):
        claim(other, resume=True)
    with pytest.raises(ValueError, match="only, but with --allow-changes$"):
        claim(other, resume=True, allow_changes=False)
    claim(other, resume=True, allow_changes=True)
    claim(other, resume=True)
    (tmp_path / run_directory.CONFIG).write_text("[1]")
    with pytest.raises(ValueError, match=r"expected the config of a run, found \[1\]"):
        claim(other, resume=True)


def test_forget_after(tmp_path):
    lines = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    lines[2:2] = [{"step": 2, "round": 1}]
    for line in lines:
        run_directory.append(tmp_path, line)
    with (tmp_path / run_directory.METRICS).open("a") as file:
        file.write('{"step": 2, "torn')
    run_directory.forget_after(tmp_path, 2)
    assert run_directory.read(tmp_path) == lines[:3]
    run_directory.forget_after(tmp_path, 2, keep=lambda line: "loss" in line)
    assert run_directory.read(tmp_path) == lines[:2]


def test_alone(tmp_path):
    directory = tmp_path / "some" / "run"
    with run_directory.alone(directory):
        with pytest.raises(BlockingIOError, match="run: another process works there"):
            with run_directory.alone(directory):
                pass
    with run_directory.alone(directory):  # and free again
        with pytest.raises(BlockingIOError, match="^mine$"):
            raise BlockingIOError("mine")
