"""Options of `jsharp reproduce`: what is refused, what --quick changes, which cells."""

import dataclasses
import json

import pytest

from experiments.reproduce import bases
from experiments.reproduce.config import (
    QUICK,
    Config,
    fractions,
    parse,
    quick_config,
    resolve,
)

DEFAULT = dataclasses.asdict(Config(names=()))


def config(**options):
    return Config(names=("fig3",), **options)


@pytest.fixture
def checkpoint(tiny_directory):
    return tiny_directory


@pytest.fixture
def data(tmp_path):
    for name in ("train.jsonl", "test.jsonl"):
        record = {"question": f"What is in {name}?", "answer": "It is one. #### 1"}
        (tmp_path / name).write_text(json.dumps(record) + "\n")
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
        ({"tasks": ("gsm8k",), "data": ("gsm8k=a,b",)}, "--data: gsm8k: no file .*b$"),
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


def test_a_record_that_is_wrong_is_named(data, tmp_path):
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write('{"question": "2?"}\n')
    with pytest.raises(ValueError, match="--data: gsm8k: .*test.jsonl, line 2: answer"):
        resolve(config(tasks=("gsm8k",), data=(data,), models=("large",)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{}", "architectures: expected"),
        ('{"architectures": ["BertModel"]}', "BertModel"),
        ("{", "config.json"),
    ],
)
def test_a_checkpoint_of_no_known_family_is_named(raw, message, tmp_path):
    (tmp_path / "config.json").write_text(raw)
    with pytest.raises(ValueError, match=f"--models: phi: .*{message}"):
        resolve(config(models=(f"phi={tmp_path}",)))


def test_a_response_that_leaves_no_prompt_is_refused(checkpoint):
    said = "--max-completion-length: expected room .* 2048 positions of phi, found 2048"
    for length, models in ((2048, (f"phi={checkpoint}",)), (10**6, ("embedded",))):
        with pytest.raises(ValueError, match=said if length == 2048 else "of embedded"):
            resolve(config(models=models, max_completion_length=length))


def test_checkpoints_and_data_of_yours(checkpoint, data):
    found = resolve(
        config(models=(f"phi-3.5={checkpoint}",), tasks=("gsm8k",), data=(data,))
    )
    assert found.settings() == [("phi-3.5", "gsm8k")]
    train, test = found.files_of("gsm8k") or ("", "")
    assert train.endswith("train.jsonl") and test.endswith("test.jsonl")
    assert found.settings(found.trained) == [("phi-3.5", "gsm8k")]
    assert found.settings(found.swept) == [("phi-3.5", "gsm8k")]


def test_a_model_has_no_cell_of_a_task_without_tokens():
    cells = resolve(config(models=("embedded", "small"))).settings()
    assert ("embedded", "prontoqa") not in cells and ("small", "prontoqa") in cells
    assert len(cells) == 5


def test_only_those_of_some_models():
    found = resolve(config())
    assert {model for model, _ in found.settings(("embedded",))} == {"embedded"}
    assert {model for model, _ in found.settings(("large",))} == {"large"}


def test_none_that_is_given_is_none():
    found = resolve(parse(["fig9", "--swept", "--trained"]))
    assert found.settings(found.swept) == found.settings(found.trained) == []


def test_quick_changes_what_is_not_given():
    words = "fig3 --limit 3 --tasks prontoqa --quick --models small".split()
    kept = {"limit": 3, "tasks": ("prontoqa",), "models": ("small",)}
    found = resolve(parse(words))
    assert found == quick_config(names=("fig3",), **kept)
    for name, value in {**QUICK, **kept}.items():
        assert getattr(found, name) == value, name
    assert parse(["fig3"]) == config(), "without it nothing is changed"


@pytest.mark.parametrize("name", ["generations", "limit", "epochs"])
def test_quick_leaves_a_default_that_is_given(name):
    found = parse(["fig3", "--quick", f"--{name}", str(DEFAULT[name])])
    assert getattr(found, name) == DEFAULT[name] != QUICK[name]


def test_quick_has_a_directory_of_its_own():
    assert quick_config().output_dir != config().output_dir
    assert str(parse(["fig3", "--quick", "--output-dir", "x"]).output_dir) == "x"


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
