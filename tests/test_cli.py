"""The front door: help, hints, laziness."""

import subprocess
import sys

import pytest

from jsharp import cli


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)


def test_a_misspelt_command_is_refused_with_a_hint(capsys):
    assert cli.main(["verfy"]) == 2
    error = capsys.readouterr().err
    assert "no command 'verfy'; perhaps you meant 'verify'" in error


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("jsharp 0.")


TRAIN = [f"train {name}" for name in ("sft", "ada-sft", "rlhf", "xpo", "rloo")]


@pytest.mark.parametrize("name", [*cli.COMMANDS, *TRAIN])
def test_every_command_explains_itself(name, capsys):
    try:
        status = cli.main([*name.split(), "--help"])
    except SystemExit as stop:
        status = stop.code
    assert status == 0
    assert f"usage: jsharp {name}" in capsys.readouterr().out


def test_help_imports_neither_jax_nor_flax():
    code = (
        "import sys; from jsharp.cli import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax', 'tyro')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert run.returncode == 0, run.stderr
