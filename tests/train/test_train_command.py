"""`jsharp train`: what it refuses, what it says, and how it takes a run up again."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands.tiny_checkpoint import CONFIG, write
from tiny_run import PROMPTS, contents, lines, steps

from jsharp import run_directory
from jsharp.lm import huggingface
from jsharp.train import command
from jsharp.train import config as configs
from jsharp.train import run as run_module
from jsharp.train.checks import check
from jsharp.train.config import ALGORITHMS
from jsharp.train.trainee import trainee

FEW = ("-n", 2, "--num-train-epochs", 1)


def parse(*words):
    return command.parse([str(word) for word in words])[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sft -n 0", "--num-generations must be at least 1, found 0"),
        ("sft --beta 1", "--beta"),
        ("sft --learning-rate nan", "--learning-rate must be finite and above 0"),
        ("rloo --learning-rate 0", "--learning-rate must be finite and above 0"),
        ("rlhf --beta 0", "--beta must be finite and above 0, found 0.0"),
        ("rlhf -n 3", "--num-generations must be even: they make pairs, found 3"),
        ("rloo -n 1", "--num-generations must be at least 2: leave-one-out, found 1"),
        ("rloo --rounds 2", "--rounds must be 1"),
        ("rloo --rebase", "--rebase must be left out here: every round draws"),
        ("xpo --draws x", "--draws must be left out here: every round draws"),
        ("sft --rebase", "--rebase must be left out where --rounds is 1, found True"),
        ("sft --rounds 2 --draws x", "--draws must be left out where --rounds is"),
        ("sft --draws nowhere", "--draws must be a file of draws, found none at now"),
        ("ada-sft --delta 1", "--delta must be below 1, found 1.0"),
        ("ada-sft --block 3", "--block must be a divisor of 64, found 3"),
        ("sft --reward best", "--reward must be one of log-probability, length-norm"),
        ("sft --batch-size 4 --gradient-accumulation-steps 3", "must be a divisor of"),
        ("sft --save-total-limit 0", "--save-total-limit must be at least 1, found 0"),
        ("sft --lora-alpha 2", "--lora-alpha must be left out where --lora-r is 0"),
        ("sft --lora-r 1 --lora-targets x_proj", "--lora-targets: target 'x_proj' na"),
        ("sft --seed -1", "--seed must be 0 to 2^31 - 1, found -1"),
        (
            "sft --task game24 --prompts x",
            "--task must be given, or else --prompts, found --task",
        ),
        ("sft --grader best", "--grader must be one of exact, last_number, choice"),
        ("sft --eval-data x", "--eval-data must be left out with --prompts, found x"),
        ("sft --limit 0", "--limit must be above 0, found 0"),
        ("sft --max-completion-length 32", "--max-completion-length must leave room"),
        ("sft --chat-template-kwargs 3", "--chat-template-kwargs must be a JSON objec"),
        ("xpo --rounds 9", "--rounds must be at most the 7 prompts, found 9"),
        ("sft --report-to wandb", "report_to: wandb needs the package wandb"),
        ("sft --model-name-or-path nowhere", "--model-name-or-path: expected a chec"),
        ("sft --prompts nowhere", "nowhere"),
    ],
)
def test_refused_before_any_work(tmp_path, train, capsys, monkeypatch, words, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    name, *options = words.split()
    try:
        status = train(name, tmp_path / "run", *options)
    except SystemExit as error:  # of tyro
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rlfh", "no algorithm 'rlfh'; perhaps you meant 'rlhf'"),
        ("sft --preset papr", "--preset must be one of default, paper, found 'papr'"),
        ("sft --preset", "--preset must be one of default, paper, found ''"),
    ],
)
def test_parse_refuses(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        command.main(words.split())
    assert message in capsys.readouterr().err


def test_a_task_from_files_needs_its_training_problems():
    words = ("sft", "--output-dir", "x", "--task", "gsm8k", "--eval-data", "y")
    with pytest.raises(ValueError, match="--train-data must be the file of training"):
        check(parse(*words))
    with pytest.raises(ValueError, match="--eval-prompts must be left out with --tas"):
        check(
            parse(
                "sft", "--output-dir", "x", "--task", "game24", *("--eval-prompts", "y")
            )
        )
    config = parse(
        "sft", "--output-dir", "x", "--task", "gsm8k", *("--train-data", "y")
    )
    check(config)
    assert config.held_out is None  # no file of them


PAPER = {
    "num_generations": 50,
    "max_completion_length": 512,
    "lora_r": 16,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "max_grad_norm": 0.1,
    "weight_decay": 0.1,
    "batch_size": 4,
    "num_train_epochs": 30,
}


def test_the_preset_of_the_paper():
    """N = 50, rank 16, 3e-4 to zero linearly, clip 0.1, batch 4, 30 epochs."""
    config = parse("sft", "--preset", "paper", "--output-dir", "x")
    found = {name: getattr(config, name) for name in PAPER}
    assert found == PAPER
    mine = parse(
        "sft", "--output-dir", "x", "-n", 3, "--preset=paper", *("--lora-r", 0)
    )
    assert (mine.num_generations, mine.lora_r, mine.batch_size) == (3, 0, 4)
    for name in ALGORITHMS:
        check(parse(name, "--preset", "paper", "--output-dir", "x", "--task", "game24"))


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_usage(capsys, words):
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in ALGORITHMS) and "--preset" in said


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help(capsys, name):
    with pytest.raises(SystemExit, match="0"):
        command.main([name, "--help"])
    said = capsys.readouterr().out
    assert f"jsharp train {name} --task" in " ".join(said.split())
    assert "--output-dir" in said


@pytest.fixture(scope="module")
def run(tmp_path_factory, train):
    directory = tmp_path_factory.mktemp("begun") / "run"
    assert train("sft", directory, *FEW) == 0
    return directory


def again(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", 1), "seed: "),
        (("--reward", "majority"), "reward: "),
        (("--prompts", "other"), "prompts: "),
        (("--no-resume",), "already holds a run"),
        (("--model-name-or-path", "other"), "model/model.safetensors: "),
    ],
)
def test_another_config_is_refused(tmp_path, run, train, capsys, words, message):
    directory = again(run, tmp_path)
    other = {
        "--prompts": lambda: write(tmp_path / "other.jsonl", PROMPTS[::-1]),
        "--model-name-or-path": lambda: run / "hf",
    }
    if words[0] in other:
        words = (words[0], other[words[0]]())
    before = contents(directory)
    assert train("sft", directory, *FEW, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert contents(directory) == before
    # Nothing of a finished run is left to change.
    assert train("sft", directory, *FEW, *words, "--allow-changes") == 2
    assert contents(directory) == before


class Killed(BaseException):
    pass


def test_an_allowed_change_draws_the_round_anew(tmp_path, train, capsys, monkeypatch):
    directory, words = tmp_path / "run", (*FEW, "--num-train-epochs", 2)
    words = (*words, "--save-steps", 1)
    check = run_module._check_finite

    def die_at_3(work, step, *args):
        if step == 3:
            raise Killed
        check(work, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_check_finite", die_at_3)
        with pytest.raises(Killed):
            train("sft", directory, *words)
    other = [line | {"id": f"other {line['id']}"} for line in PROMPTS[::-1]]
    changed = (*words, "--prompts", write(tmp_path / "other.jsonl", other))
    assert train("sft", directory, *changed) == 2
    assert "but with --allow-changes" in capsys.readouterr().err
    longer = ("--allow-changes", "--num-train-epochs", 3)
    assert train("sft", directory, *changed, *longer) == 2
    assert "its own config only\n" in capsys.readouterr().err
    assert train("sft", directory, *changed, "--allow-changes") == 0
    made = lines(directory / "rounds" / "00000.examples.jsonl")
    assert {line["id"] for line in made} <= {line["id"] for line in other}
    assert [line["step"] for line in steps(directory)] == [1, 2, 3, 4]
    kept = [json.loads((directory / f"config.json{n}").read_text()) for n in ("", ".1")]
    assert kept[0]["train_questions"] != kept[1]["train_questions"]


def test_adapters_of_single_layers_are_refused():
    two = dataclasses.replace(CONFIG, num_hidden_layers=2)
    targets = ("layers.0.self_attn.q_proj",)
    config = configs.Sft(output_dir=Path("x"), lora_r=2, lora_targets=targets)
    with pytest.raises(ValueError, match="--lora-targets: expected each projection in"):
        trainee(config, two)


def test_another_algorithm_is_refused(tmp_path, run, train, capsys):
    assert train("rlhf", again(run, tmp_path), *FEW) == 2
    assert "algorithm: " in capsys.readouterr().err


def test_where_it_saves_does_not_matter(tmp_path, run, train):
    directory = again(run, tmp_path)
    assert train("sft", directory, *FEW, "--save-steps", 1) == 0
    assert contents(directory) == contents(run)


def test_two_at_once_are_refused(tmp_path, run, train, capsys):
    directory = again(run, tmp_path)
    with run_directory.alone(directory):
        assert train("sft", directory, *FEW) == 2
    assert "another process works there" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert train("sft", tmp_path / "file", *FEW) == 2
    assert "--output-dir must be a directory" in capsys.readouterr().err


def test_a_loss_that_is_not_finite(tmp_path, train, capsys, monkeypatch):
    """The reward of an example of step 4 overflows; step 2 was saved, step 3 not."""
    words = ("-n", 2, "--beta", 0.3, "--num-train-epochs", 2, "--save-steps", 2)
    append = run_directory.append

    def stop_at_3(directory, line):
        if line["step"] == 3:
            raise KeyboardInterrupt
        append(directory, line)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "append", stop_at_3)
        assert train("rlhf", tmp_path, *words) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    path = tmp_path / "rounds" / "00000.examples.jsonl"
    made = lines(path)
    last = np.random.default_rng((0, 0, 1)).permutation(7)[4:]  # of the second epoch
    bad = last[1]
    made[bad]["reward"] = [1e30, 0.0]
    write(path, made)
    assert train("rlhf", tmp_path, *words) == 1
    said = capsys.readouterr().err
    ids = ", ".join(repr(made[i]["id"]) for i in last)
    assert "step 4: loss is inf" in said and f"of prompts {ids};" in said
    assert f"last good checkpoint: {tmp_path / 'checkpoints' / '2'}" in said
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2"]
    assert not (tmp_path / "hf").exists()


def test_texts_without_answers_and_messages_by_the_template(
    tmp_path, train, checkpoint, capsys
):
    """No grader: nothing is marked. Messages: the template's text, then its ids."""
    model = tmp_path / "model"
    shutil.copytree(checkpoint.directory, model)
    template = "{% for m in messages %}{{ m['content'] }}d{% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    asked = [
        {"id": "text", "prompt": "ab"},
        {"id": "chat", "prompt": [{"role": "user", "content": "ab"}], "answer": 3},
    ]
    path = write(tmp_path / "some.jsonl", asked)
    words = ("--prompts", path, "--eval-prompts", path, "--model-name-or-path", model)
    assert train("sft", tmp_path / "run", *FEW, *words, "--eval-generations", 2) == 0
    drawn = lines(tmp_path / "run" / "rounds" / "00000.draws.jsonl")
    encode = checkpoint.tokenizer.encode
    assert [line["prompt_ids"] for line in drawn[::2]] == [encode("ab"), encode("abd")]
    assert drawn[2]["prompt"] == asked[1]["prompt"]
    assert {line["correct"] for line in drawn} == {None}
    assert [line["answer"] for line in drawn] == [
        line["completion"].strip() for line in drawn
    ]
    (first, *_) = lines(tmp_path / "run" / "metrics.jsonl")
    assert "eval/logprob_base" in first and "eval/accuracy" not in first


def test_what_a_run_leaves(run, train, tmp_path):
    """The names that other commands read."""
    names = {p.name for p in run.iterdir()}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "speed.jsonl",
        "checkpoints",
        "hf",
        "rounds",
    }
    assert {p.name for p in (run / "rounds").iterdir()} == {
        "00000.draws.jsonl",
        "00000.draws.jsonl.run.json",
        "00000.examples.jsonl",
        "00000.examples.jsonl.run.json",
    }
    pinned = json.loads((run / "config.json").read_text())
    assert pinned["algorithm"] == "sft" and "output_dir" not in pinned
    loaded = huggingface.load(run / "hf")
    assert loaded.end == (0,) and loaded.config.dtype == "float32"
    assert [line["step"] for line in lines(run / "speed.jsonl")] == [1, 2]
