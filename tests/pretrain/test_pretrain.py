"""Pretraining: batches by seed and step, exact resumption, honest refusals."""

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from jax.experimental.compilation_cache import compilation_cache

import jsharp.tasks
from jsharp import run_directory
from jsharp.lm import huggingface
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Policy, Response
from jsharp.pretrain import command as pretrain
from jsharp.pretrain import config as pretrain_config
from jsharp.pretrain import demonstrations, recipe

TINY = pretrain.Config(
    output_dir=Path("tiny"),
    tasks=("arithmetic",),
    weights=(1.0,),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    max_completion_length=40,
    max_steps=9,
    batch_size=4,
    warmup_steps=2,
    logging_steps=1,
    save_steps=3,
    eval_steps=9,
    eval_prompts=32,
    num_generations=2,
)
MODEL = Path("hf/model.safetensors")


_CACHE = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """One on-disk compilation cache for all runs of this file, also the killed one."""
    names = ("jax_compilation_cache_dir", *_CACHE)
    before = {name: getattr(jax.config, name) for name in names}
    cache = str(tmp_path_factory.mktemp("compiled"))
    for name, value in {names[0]: cache, **_CACHE}.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(getattr(jax.config, name)) for name in names}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, compile_once):
    config = _at(tmp_path_factory.mktemp("uninterrupted"))
    assert pretrain.pretrain(config) == 0
    return config.output_dir


def _at(directory, **changes):
    return dataclasses.replace(TINY, output_dir=directory, **changes)


def _untimed(directory):
    drop = ("step_time", "tokens_per_sec")
    lines = run_directory.read(directory)
    return [{k: v for k, v in line.items() if k not in drop} for line in lines]


def _assert_same_end(directory, reference):
    assert (directory / MODEL).read_bytes() == (reference / MODEL).read_bytes()
    assert _untimed(directory) == _untimed(reference)


def test_a_run_killed_without_warning_ends_in_the_same_bytes(
    tmp_path, uninterrupted, compile_once
):
    """kill -9 between checkpoints, in another process; the same command goes on."""
    words = shlex.split(pretrain_config.command(_at(tmp_path)))[2:-1]
    command = [sys.executable, "-m", "jsharp", "pretrain", *words, str(tmp_path)]
    environment = os.environ | compile_once
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while len(run_directory.read(tmp_path)) < 5 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / MODEL).exists()
    with (tmp_path / run_directory.METRICS).open("a") as file:
        file.write('{"step": 99, "lo')  # a line torn by the kill
    assert pretrain.pretrain(_at(tmp_path)) == 0
    _assert_same_end(tmp_path, uninterrupted)


def test_sigterm_saves_and_the_same_command_goes_on(
    tmp_path, uninterrupted, monkeypatch, capsys
):
    draw = pretrain.batch

    def batch(run, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(run, step)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(pretrain, "batch", batch)
    assert pretrain.pretrain(_at(tmp_path)) == 143
    assert "saved at step 5" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "checkpoints/5").is_dir() and not (tmp_path / MODEL).exists()
    monkeypatch.undo()
    assert pretrain.pretrain(_at(tmp_path)) == 0
    _assert_same_end(tmp_path, uninterrupted)


def test_metrics_have_one_line_a_step_and_the_names_of_trl(uninterrupted):
    lines = run_directory.read(uninterrupted)
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, 10))
    names = "step loss learning_rate grad_norm step_time tokens_per_sec".split()
    assert all(list(line) == names for line in trained)
    # 14 digits and signs and the end token: an untrained model is nearly uniform.
    assert abs(trained[0]["loss"] - np.log(15)) < 0.1
    assert trained[0]["learning_rate"] == pytest.approx(TINY.learning_rate / 2)
    assert trained[-1]["learning_rate"] == pytest.approx(TINY.learning_rate / 10)
    graded = [line for line in lines if "eval/arithmetic/greedy" in line]
    assert [line["step"] for line in graded] == [9]


def test_the_model_travels_with_tokenizer_recipe_and_card(uninterrupted):
    directory = uninterrupted / "hf"
    found = huggingface.load(directory)
    tokenizer = Tokenizer.load(directory)
    assert found.end == (0,) and found.config.vocab_size == tokenizer.vocab_size
    made = json.loads((directory / recipe.FILE).read_text())
    assert made["step"] == 9 and made["seed"] == 0
    assert made["command"].startswith("jsharp pretrain --tasks arithmetic")
    assert made["held_out"]["arithmetic"]["prompts"] == 256
    assert made["versions"]["jax"] and made["device"] and made["training_seconds"] >= 0
    assert made["command"] in (directory / "README.md").read_text()


def test_the_recorded_command_gives_the_config_back():
    words = shlex.split(pretrain_config.command(TINY))
    assert words[:2] == ["jsharp", "pretrain"]
    assert tyro.cli(pretrain.Config, args=words[2:]) == TINY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed: expected 0 to 2^31 - 1, got -1"),
        ({"save_total_limit": 0}, "save_total_limit: expected at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number"),
        ({"max_grad_norm": 0.0}, "max_grad_norm: expected a finite number above 0"),
        ({"weight_decay": -0.1}, "weight_decay: expected >= 0, got -0.1"),
        ({"weights": (0.5, 0.5)}, "weights: expected one for each of tasks"),
        ({"weights": (0.5,)}, "weights: expected positive shares that sum to 1"),
        ({"tasks": ("chess",)}, "no task 'chess'; expected one of"),
        ({"warmup_steps": 9}, "warmup_steps: expected between 1 and max_steps - 1 = 8"),
        ({"save_steps": 0}, "save_steps: expected at least 1, got 0"),
        ({"max_completion_length": 31}, "max_completion_length: expected at least 32"),
        ({"eval_prompts": 257}, "eval_prompts: expected at most the 256 held-out"),
        ({"num_attention_heads": 3}, "num_attention_heads 3"),
    ],
)
def test_bad_fields_are_refused_before_anything_is_written(
    tmp_path, capsys, change, message
):
    assert pretrain.pretrain(_at(tmp_path / "run", **change)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_under_its_own_config_only(uninterrupted, capsys):
    before = (uninterrupted / MODEL).stat().st_mtime_ns
    assert pretrain.pretrain(_at(uninterrupted, learning_rate=1e-3)) == 2
    error = capsys.readouterr().err
    assert "learning_rate: " in error and "has 0.0015, got 0.001" in error
    assert pretrain.pretrain(_at(uninterrupted, resume=False)) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (uninterrupted / MODEL).stat().st_mtime_ns == before


def test_a_loss_that_is_not_finite_stops_with_the_step_named(tmp_path, capsys):
    assert pretrain.pretrain(_at(tmp_path, learning_rate=1e38)) == 1
    error = capsys.readouterr().err
    assert re.search(r"step 2: the loss is \S+ and its gradient's norm nan", error)
    assert not (tmp_path / MODEL).exists()


def test_words_are_tokens_and_a_lesson_knows_its_longest_prompt():
    """ProntoQA has words: in characters its demonstrations would not fit in 40."""
    names = ("game24", "arithmetic", "prontoqa")
    every = [jsharp.tasks.load(name) for name in names]
    some = tuple(
        t._replace(train=t.train[:60], held_out=t.held_out[:20]) for t in every
    )
    tokenizer = demonstrations.tokenizer_of(some)
    assert tokenizer.id("<|end|>") == pretrain.END
    for task in some:
        lesson = demonstrations.lesson(task, tokenizer)
        lengths = [
            len(tokenizer.encode(task.prompt(p))) for p in task.train + task.held_out
        ]
        assert lesson == (task, max(lengths))
        demonstrations.check_horizon(task, tokenizer, 40)
    prompt, text = some[2].prompt(some[2].train[0]), some[2].solutions(some[2].train[0])
    assert len(text[0]) > 40 and lengths[0] == len(tokenizer.encode(prompt))
    with pytest.raises(ValueError, match="for the demonstrations of prontoqa, got 10"):
        demonstrations.check_horizon(some[2], tokenizer, 10)


def test_batches_are_functions_of_seed_and_step_over_training_problems_only():
    both = dataclasses.replace(TINY, tasks=("game24", "arithmetic"), weights=(0.5, 0.5))
    run = pretrain.prepare(both)
    again = pretrain.prepare(run.config)
    other = pretrain.prepare(dataclasses.replace(run.config, seed=1))
    decode = lambda row, length: run.tokenizer.decode(row[:length].tolist())
    tasks = [lesson.task for lesson in run.lessons]
    trained = {task.prompt(p): (task, p) for task in tasks for p in task.train}
    seen = set()
    for step in range(12):
        prompts, response = pretrain.batch(run, step)
        twin = pretrain.batch(again, step)
        assert np.array_equal(response.tokens, twin[1].tokens)
        assert np.array_equal(prompts.tokens, twin[0].tokens)
        assert response.tokens.shape[-1] % 8 == 0
        for b in range(4):
            text = decode(np.asarray(prompts.tokens[b]), prompts.length[b])
            row, length = np.asarray(response.tokens[b, 0]), int(response.length[b, 0])
            task, problem = trained[text]
            assert row[length - 1] == pretrain.END
            assert task.correct(problem, decode(row, length - 1))
            seen.add((step, task.name))
    assert {name for _, name in seen} == {"game24", "arithmetic"}
    assert len(seen) == 12  # one task a batch
    tokens = lambda run, step: np.asarray(pretrain.batch(run, step)[0].tokens)
    assert not any(np.array_equal(tokens(run, t), tokens(other, t)) for t in range(4))


def _response(tokenizer, texts):
    """Responses [B n] of the texts, each with its end token, padded with id 1."""
    rows = [[[*tokenizer.encode(text), pretrain.END] for text in row] for row in texts]
    tokens = np.ones((len(rows), len(rows[0]), 40), np.int32)
    for b, row in enumerate(rows):
        for i, ids in enumerate(row):
            tokens[b, i, : len(ids)] = ids
    length = np.array([[len(ids) for ids in row] for row in rows], np.int32)
    return Response(jnp.asarray(tokens), jnp.asarray(length), jnp.zeros(length.shape))


def test_grades_by_hand(key):
    """A stub draws [right, wrong]; problem 2 prefers wrong, problem 3 lacks right."""
    run = pretrain.prepare(TINY)
    (lesson,), tokenizer = run.lessons, run.tokenizer
    task = lesson.task
    problems = task.held_out[:4]
    right = [task.solutions(problem)[0] for problem in problems]
    wrong = [text[:-1] + ("0" if text[-1] != "0" else "1") for text in right]
    pairs = [*zip(right[:3], wrong[:3], strict=True), (wrong[3], wrong[3])]
    drawn = _response(tokenizer, pairs)
    score = jnp.asarray([[-1.0, -2.0], [-1.0, -2.0], [-2.0, -1.0], [-1.0, -2.0]])
    policy = Policy(
        init=lambda key: (),
        sample=lambda key, params, prompts, n: drawn,
        log_prob=lambda params, prompts, response: score,
    )
    greedy = lambda params, prompts: _response(tokenizer, [[text] for text in right])
    grade = recipe.grader(policy, greedy, tokenizer, end=0, n=2)
    assert grade(key, (), lesson, problems) == {
        "greedy": 1.0,
        "one_sample": 3 / 8,
        "best_of_n": 2 / 4,
        "coverage": 3 / 4,
    }
