"""`jsharp diagnose`: on a model small enough to enumerate every response."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

from jsharp.commands.batches import Given
from jsharp.commands.responses import Speaker, score
from jsharp.commands.results import Sampled
from jsharp.lm import huggingface, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import Tokenizer, character_tokenizer
from theory.diagnose_command import main
from theory.findings import Options, findings
from theory.pilot import known, pilot
from theory.prices import Goal
from theory.signals import lift

ALPHABET, LONGEST = "abc", 2
QUESTIONS = [
    {"id": "first", "prompt": "ab", "answer": "a"},
    {"id": "second", "prompt": "c", "answer": "b"},
    {"id": "third", "prompt": "bca", "answer": "c"},
]
OUTPUTS = ("pilot.jsonl", "modes.jsonl", "diagnosis.json", "profile.csv", "profile.png")


@pytest.fixture(autouse=True)
def exact_numbers():
    """The model is float32, unlike the rest of theory."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, its prompts, and a finished diagnosis."""
    directory = tmp_path_factory.mktemp("diagnose")
    config = TransformerConfig(
        vocab_size=1 + len(ALPHABET),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=16,
        initializer_range=0.8,
        eos_token_id=0,
        pad_token_id=0,
    )
    # Drawn by NumPy: `transformer.init` would compile a program for every shape.
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), config))
    rng = np.random.default_rng(5)
    draw = lambda leaf: rng.normal(0, 0.8, leaf.shape).astype(leaf.dtype)
    params = jax.tree.map(draw, shapes)
    huggingface.save(directory / "model", config, params, end=(0,), pad=0)
    character_tokenizer(ALPHABET).save(directory / "model")
    lines = "".join(json.dumps(question) + "\n" for question in QUESTIONS)
    (directory / "prompts.jsonl").write_text(lines)
    assert main(arguments(directory, "out")) == 0
    return directory


def arguments(place, output: str, *more: str) -> list[str]:
    given = [str(place / "model"), str(place / "prompts.jsonl"), *_OPTIONS]
    return [*given, "--output-dir", str(place / output), *more]


_OPTIONS = ["--grader", "exact", "-n", "4", "--max-completion-length", str(LONGEST)]
_OPTIONS += ["--chunk-size", "1", "--batch-size", "8"]


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def table(place):
    """pi [3 Y] over every response, and the responses, by teacher forcing."""
    loaded = huggingface.load(place / "model")
    tokenizer = Tokenizer.load(place / "model")
    # Four at a time, a prompt after the other: the shapes that the pilot compiled.
    speaker = Speaker(loaded.config, tokenizer, loaded.end, loaded.pad, LONGEST, 4)
    letters = range(1, 1 + len(ALPHABET))
    every = [(0,), *((a, b) for a in letters for b in (0, *letters))]
    records = lines(place / "out" / "pilot.jsonl")
    prompts = list(dict.fromkeys(tuple(record["prompt_ids"]) for record in records))
    of = lambda prompt: score(
        loaded.params, speaker, [Given(prompt, y) for y in every]
    ).log_prob.astype(float)
    pi = np.exp([of(prompt) for prompt in prompts])
    np.testing.assert_allclose(pi.sum(1), 1, atol=1e-5)
    return pi, every, [speaker.text(y) for y in every]


def test_the_pilot_and_the_modes_are_complete(place):
    draws = lines(place / "out" / "pilot.jsonl")
    wanted = [(q["id"], i) for q in QUESTIONS for i in range(-1, 4)]
    assert [(line["id"], line["sample_id"]) for line in draws] == wanted
    for line in draws:
        answer = {q["id"]: q["answer"] for q in QUESTIONS}[line["id"]]
        assert line["correct"] == (line["completion"] == answer)
    modes = lines(place / "out" / "modes.jsonl")
    assert [line["id"] for line in modes] == [q["id"] for q in QUESTIONS]


def test_its_numbers_are_those_of_the_table(place, table):
    pi, every, texts = table
    found = json.loads((place / "out" / "diagnosis.json").read_text())
    best = pi.argmax(1)
    assert found["modes"] == {
        **{"prompts": 3, "draws": 4, "certified": 3, "by_search": 3, "tied": 0}
    }
    cover = np.mean(1 / pi.max(1))
    assert found["coverage"]["C_cov"] == pytest.approx([cover, cover], rel=1e-4)
    stars = {q["id"]: list(every[i]) for q, i in zip(QUESTIONS, best, strict=True)}
    assert found["maximisers"] == stars
    right = [texts[i] == q["answer"] for q, i in zip(QUESTIONS, best, strict=True)]
    assert found["accuracy"]["mode_here"] == [np.mean(right)] * 2
    near = np.where(pi >= 0.5 * pi.max(1, keepdims=True), pi, 0).sum(1)
    low, high = found["coverage"]["C_cov_g"]
    assert low <= np.mean(1 / near) * (1 + 1e-4) and np.mean(1 / near) <= high * 1.0001
    hits = np.mean(1 - (1 - pi.max(1)) ** 4)
    assert found["predictions"]["hits of best of 4"][0] == pytest.approx(hits, rel=1e-4)
    needed = np.ceil(math.log(0.1) / np.log(1 - pi.max(1)))
    assert found["price"]["N"] == [needed.max()] * 2  # eps = 0.1 of 3 prompts: all
    drawn = lines(place / "out" / "pilot.jsonl")
    mean = np.mean([line["correct"] for line in drawn if line["sample_id"] >= 0])
    assert found["accuracy"]["sample"][0] == pytest.approx(mean)


def test_without_a_search_the_bounds_hold(place, table, capsys):
    pi, *_ = table
    assert main(arguments(place, "blind", "--mode-budget", "0")) == 0
    assert not (place / "blind" / "modes.jsonl").exists()
    found = json.loads((place / "blind" / "diagnosis.json").read_text())
    low, high = found["coverage"]["C_cov"]
    assert low < np.mean(1 / pi.max(1)) <= high * (1 + 1e-4)
    same = [(place / out / "pilot.jsonl").read_bytes() for out in ("out", "blind")]
    assert same[0] == same[1]
    assert "these prompts" in capsys.readouterr().out


def test_cut_anywhere_it_ends_in_the_same_bytes(place):
    whole = {name: (place / "out" / name).read_bytes() for name in OUTPUTS}
    for name in OUTPUTS[:2]:
        shutil.copytree(place / "out", place / "cut", dirs_exist_ok=True)
        (place / "cut" / name).write_bytes(whole[name][: len(whole[name]) * 2 // 3])
        for later in OUTPUTS[OUTPUTS.index(name) + 1 :]:
            (place / "cut" / later).unlink()
        assert main(arguments(place, "cut")) == 0
        assert {n: (place / "cut" / n).read_bytes() for n in OUTPUTS} == whole


def test_check_against_its_own_pilot(place, capsys):
    evaluated = place / "evaluated"
    evaluated.mkdir()
    shutil.copy(place / "out" / "pilot.jsonl", evaluated / "responses.jsonl")
    path = str(place / "out" / "diagnosis.json")
    assert main(["--check", path, str(evaluated), "-n", "1"]) == 0
    said = capsys.readouterr().out
    rows = {row.split()[0]: row.split() for row in said.splitlines() if row.strip()}
    # A draw of the base is best of 1: the very figures that were predicted.
    assert [rows[name][-1] for name in ("accuracy", "log_prob", "length")] == [
        "within"
    ] * 3
    assert main(["--check", path, str(evaluated), "-n", "3"]) == 2
    assert "one of N = [1, 2, 4]" in capsys.readouterr().err
    assert main(["--check", str(place / "prompts.jsonl"), str(evaluated)]) == 2
    assert "expected a diagnosis" in capsys.readouterr().err
    assert main(["--check", path, str(place / "model")]) == 2
    assert "expected a file of responses, found no" in capsys.readouterr().err


BAD = {
    "--eps": ("1", r"--eps must be in [1e-12, 1), found 1.0"),
    "--delta": ("0", "--delta must be in [1e-12, 1), found 0.0"),
    "--gamma": ("1", "--gamma must be in [0, 1), found 1.0"),
    "--num-generations": ("1", "--num-generations must be at least 2, found 1"),
    "--mode-budget": ("-1", "--mode-budget must be at least 0, found -1"),
    "--log-class": ("1e4", "--log-class must be from 0 to 600, found 10000.0"),
    "--limit": ("0", "--limit must be at least 1, found 0"),
    "--seed": ("-1", "--seed must be 0 to 2^31 - 1, found -1"),
}


@pytest.mark.parametrize("option", BAD)
def test_a_bad_option_is_named_before_any_work(place, capsys, option):
    value, message = BAD[option]
    assert main(arguments(place, "refused", f"{option}={value}")) == 2
    assert message in capsys.readouterr().err
    assert not (place / "refused").exists()


def test_bad_input_is_refused(place, capsys):
    model = str(place / "model")
    assert main([model, "nothing", "--output-dir", str(place / "refused")]) == 2
    assert "expected a file of prompts or one of" in capsys.readouterr().err
    another = arguments(place, "out", "--seed", "1")
    assert main(another) == 2
    assert "seed: " in capsys.readouterr().err
    broken = place / "broken"
    broken.mkdir()
    text = (place / "out" / "pilot.jsonl").read_text().splitlines(keepends=True)
    path = broken / "responses.jsonl"
    for kept, message in (
        (text[1:], "expected sample_id -1"),
        (text[:-1], "expected as many samples of each prompt"),
        ([text[0].replace("completion_ids", "x"), *text[1:]], "completion_ids"),
        (
            [
                *text[:1],
                text[1].replace('"logprob_base": -', '"logprob_base": '),
                *text[2:],
            ],
            "expected log-probabilities, found",
        ),
    ):
        path.write_text("".join(kept))
        diagnosis = str(place / "out" / "diagnosis.json")
        assert main(["--check", diagnosis, str(broken)]) == 2
        assert message in capsys.readouterr().err


# ---- What it says


def steps_of(score, correct, greedy, length=None):
    length = np.ones(score.shape, int) if length is None else length
    return lift(score, length, correct, greedy, level=0.05, seed=0)


def said_of(score, correct, length=None, right=None) -> str:
    """The verdict on a pilot of 40 prompts with these scores and marks."""
    rows = [
        [
            {
                "id": str(b),
                "sample_id": i,
                "completion_ids": [i],
                "logprob_base": float(score[b, i]),
                "num_tokens": 1 if length is None else int(length[b, i]),
                "finish_reason": "stop",
                "correct": bool(correct[b, i]),
            }
            for i in range(score.shape[1])
        ]
        for b in range(len(score))
    ]
    draws = pilot(Sampled(rows, [row[0] for row in rows]))
    options = Options(Goal(0.1, 0.1, 0.05, 20.0, 5), 0.5, 0.05, 0, 3.0)
    rewards = {"log-probability": score, "other": correct + 0.0}
    return findings(draws, known(draws), rewards, right, options)["verdict"]


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(0).uniform(-9, -4, (40, 6))


def test_it_says_when_it_helps(scores):
    said = said_of(scores, scores == scores.max(1, keepdims=True))
    assert "is predicted to help: the best of 6 is right on 100.0%" in said
    # 1/pi of the likeliest drawn is e^4 and more; a likelier one is not excluded.
    assert "The pilot's 6 draws a prompt may not be enough for that." in said


def test_it_says_when_it_hurts(scores):
    wrong = scores != scores.max(1, keepdims=True)
    said = said_of(scores, wrong, right=np.zeros(40))
    assert "NOT to help but to hurt: the best of 6 is right on 0.0%" in said
    assert "The mode is LESS right than a draw" in said
    assert "log-probability ranks WRONG above right" in said
    assert "other tells right from wrong better" in said


def test_it_says_when_nothing_is_clear(scores):
    half = np.tile(np.arange(6) % 2 == 0, (40, 1))
    said = said_of(scores, half, right=np.full(40, np.nan))
    assert "is not predicted to change accuracy clearly" in said
    assert "right on 0.0% to 100.0% of these prompts" in said
    assert "NOT to help" not in said and "LESS" not in said


def test_it_says_that_short_responses_win(scores):
    length = np.argsort(np.argsort(-scores, axis=1), axis=1) + 1
    said = said_of(scores, scores > -6, length)
    assert "Length bias: log-probability falls with length" in said
    assert "the best of 6 has 1.0 tokens where a draw has 3.5" in said


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "MODEL PROMPTS",
        "Example: jsharp diagnose embedded game24",
        "--check",
    ):
        assert words in printed
