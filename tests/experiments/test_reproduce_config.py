"""Options of `jsharp reproduce`: what is refused, what --quick changes, which cells."""

import pytest

from experiments.reproduce import bases
from experiments.reproduce.config import DEFAULT, QUICK, Config, fractions, resolve


def config(**options):
    return Config(names=("fig3",), **options)


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "phi").mkdir()
    (tmp_path / "phi" / "config.json").write_text("{}")
    return tmp_path / "phi"


@pytest.fixture
def data(tmp_path):
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).touch()
    return f"gsm8k={tmp_path}/train.jsonl,{tmp_path}/test.jsonl"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({name: 0}, f"--{name.replace('_', '-')}: expected >= 1, found 0")
            for name, value in DEFAULT.items()
            if type(value) is int
        ),
        ({"seeds": ()}, "--seeds: expected one at least"),
        ({"seeds": (0, -1)}, "--seeds: expected 0 to 2\\^31 - 1, found -1"),
        ({"seeds": (2**31,)}, "--seeds: expected 0"),
        ({"seeds": (1, 1)}, "--seeds: expected each once, found 1 again"),
        ({"models": ("small", "small")}, "--models: expected each once, found 'small'"),
        ({"models": ("smal",)}, "--models: expected embedded.*found 'smal'"),
        ({"models": ()}, "no model that knows one"),
        ({"models": ("x=.",)}, "--models: x: no checkpoint in '.'"),
        ({"tasks": ("game24", "game24")}, "--tasks: expected each once"),
        ({"tasks": ("pronto",)}, "--tasks: .*perhaps you meant 'prontoqa'"),
        ({"tasks": ()}, "no model that knows one"),
        ({"tasks": ("prontoqa",), "models": ("embedded",)}, "no model that knows one"),
        ({"trained": ("medum",)}, "--trained: expected some of .*found 'medum'"),
        ({"swept": ("large", "tiny")}, "--swept: .*found 'tiny'"),
        ({"trained": ("small",), "models": ("large",)}, "--trained: .*found 'small'"),
        ({"data": ("gsm8k=a,b",)}, "--data: expected TASK=TRAIN,TEST with a task of"),
        ({"tasks": ("gsm8k",), "data": ("gsm8k=a",)}, "--data: .*found 'gsm8k=a'"),
        ({"tasks": ("gsm8k",), "data": ("gsm8k=a,b,c",)}, "--data: .*'gsm8k=a,b,c'"),
        ({"tasks": ("gsm8k",), "data": ("gsm8k",)}, "--data: .*found 'gsm8k'"),
        ({"tasks": ("gsm8k",), "data": ("gsm8k=a,b",)}, "--data: gsm8k: no file .*a$"),
        ({"tasks": ("gsm8k",)}, "--data: expected gsm8k=TRAIN,TEST"),
        ({"data": ("game24=a,b",)}, "nothing for one that is generated"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        resolve(config(**options))


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "small", "embedded"])
def test_a_checkpoint_has_a_name_of_its_own(name, checkpoint):
    with pytest.raises(ValueError, match="--models: expected NAME=DIRECTORY with"):
        resolve(config(models=(f"{name}={checkpoint}",)))


def test_two_checkpoints_of_one_name_are_refused(checkpoint):
    models = (f"phi={checkpoint}", f"phi={checkpoint}/")
    with pytest.raises(ValueError, match="--models: expected each once, found 'phi'"):
        resolve(config(models=models))


def test_data_twice_is_refused(data):
    with pytest.raises(ValueError, match="--data: expected each once, found 'gsm8k'"):
        resolve(config(tasks=("gsm8k",), data=(data, data)))


def test_checkpoints_and_data_of_yours(checkpoint, data):
    found = resolve(
        config(models=(f"phi-3.5={checkpoint}",), tasks=("gsm8k",), data=(data,))
    )
    assert found.settings() == [("phi-3.5", "gsm8k")]
    train, test = found.files_of("gsm8k") or ("", "")
    assert train.endswith("train.jsonl") and test.endswith("test.jsonl")
    assert found.settings(DEFAULT["trained"]) == [("phi-3.5", "gsm8k")]


def test_a_model_has_no_cell_of_a_task_without_tokens():
    cells = resolve(config(models=("embedded", "small"))).settings()
    assert ("embedded", "prontoqa") not in cells and ("small", "prontoqa") in cells
    assert len(cells) == 5


def test_only_those_of_some_models():
    found = resolve(config())
    assert {model for model, _ in found.settings(("embedded",))} == {"embedded"}


def test_quick_changes_what_was_not_given():
    found = resolve(config(quick=True, limit=3, tasks=("prontoqa",), models=("small",)))
    kept = {"limit": 3, "tasks": ("prontoqa",), "models": ("small",)}
    for name, value in {**QUICK, **kept}.items():
        assert getattr(found, name) == value, name
    assert resolve(config()) == config(), "nothing else is changed"


def test_the_defaults_are_models_and_tasks_that_there_are():
    found = resolve(config())
    for model in (*found.models, *found.trained, *found.swept):
        assert bases.named(model)[0] == model
    assert {task for _, task in found.settings()} == set(found.tasks)


@pytest.mark.parametrize(
    ("n", "parts", "expected"),
    [(50, (5, 2), (10, 25, 50)), (8, (5, 2), (2, 4, 8)), (1, (5, 2), (1,))],
)
def test_fractions(n, parts, expected):
    assert fractions(n, parts) == expected
