"""`jsharp diagnose`: on a model small enough to enumerate every response."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

from jsharp.commands.batches import Given
from jsharp.commands.responses import Speaker, score
from jsharp.lm import huggingface, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import Tokenizer, character_tokenizer
from theory.diagnose_command import main

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
    modes = found["maximisers"]
    assert {id: mode["completion_ids"] for id, mode in modes.items()} == stars
    for line in lines(place / "out" / "pilot.jsonl"):
        assert modes[line["id"]]["prompt_ids"] == line["prompt_ids"]
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
    evaluated = evaluation(place, "evaluated")
    path = str(place / "out" / "diagnosis.json")
    assert main(["--check", path, str(evaluated), "-n", "1"]) == 0
    said = capsys.readouterr().out
    rows = {row.split()[0]: row.split() for row in said.splitlines() if row.strip()}
    # A draw of the base is best of 1: the very figures that were predicted.
    assert [rows[name][-1] for name in ("accuracy", "log_prob", "length")] == [
        "within"
    ] * 3
    assert "hits are over 3 of 3 prompts" in said
    assert main(["--check", path, str(evaluated), "-n", "3"]) == 2
    assert "one of N = [1, 2, 4]" in capsys.readouterr().err
    assert main(["--check", str(place / "prompts.jsonl"), str(evaluated)]) == 2
    assert "expected a diagnosis" in capsys.readouterr().err
    assert main(["--check", path, str(place / "model")]) == 2
    assert "expected a file of responses, found no" in capsys.readouterr().err


def evaluation(place, name: str, **changed):
    """A directory of `jsharp evaluate` with the pilot's draws; its run `changed`."""
    directory = place / name
    directory.mkdir()
    shutil.copy(place / "out" / "pilot.jsonl", directory / "responses.jsonl")
    content = json.loads((place / "out" / "pilot.jsonl.run.json").read_text())
    # As `jsharp evaluate` has it: the base beside a model of its own.
    run = {k.replace("model/", "base/"): v for k, v in content["run"].items()}
    run |= {"command": "evaluate", "model/config.json": "sharpened", **changed}
    path = directory / "responses.jsonl.run.json"
    path.write_text(json.dumps(content | {"run": run}))
    return directory


def test_check_refuses_another_base(place, capsys):
    path = str(place / "out" / "diagnosis.json")
    other = evaluation(place, "other", **{"base/config.json": "another"})
    assert main(["--check", path, str(other)]) == 2
    said = capsys.readouterr().err
    assert "expected the base that was diagnosed" in said and "'another'" in said
    (other / "responses.jsonl.run.json").unlink()
    assert main(["--check", path, str(other)]) == 2
    assert "expected the run of the responses, found no" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["questions", "marked_by"])
def test_check_does_not_match_hits_of_other_prompts(place, capsys, changed):
    path = str(place / "out" / "diagnosis.json")
    other = evaluation(place, f"other-{changed}", **{changed: "another"})
    assert main(["--check", path, str(other)]) == 0
    said = capsys.readouterr().out
    hits = next(row for row in map(str.strip, said.splitlines()) if row[:4] == "hits")
    assert "other prompts" in said and hits.endswith("not measured")
    assert "hits are over" not in said


def test_it_refuses_draws_that_are_not_of_the_law_they_are_scored_by(place, capsys):
    """As bfloat16 gives them: a sampler's log-probability half a nat off."""
    shutil.copytree(place / "out", place / "apart")
    records = lines(place / "apart" / "pilot.jsonl")
    records[-1]["logprob_sampler"] += 0.5
    text = "".join(json.dumps(record) + "\n" for record in records)
    (place / "apart" / "pilot.jsonl").write_text(text)
    found = (place / "apart" / "diagnosis.json").read_bytes()
    assert main(arguments(place, "apart")) == 1
    said = capsys.readouterr().err
    assert "within 0.0001 nats, found 0.5 between them" in said
    assert (place / "apart" / "diagnosis.json").read_bytes() == found


def test_its_weights_are_float32_whatever_the_checkpoint_has(place):
    content = json.loads((place / "out" / "pilot.jsonl.run.json").read_text())
    assert content["run"]["dtype"] == "float32"


BAD = {
    "--dtype": ("bfloat16", "--dtype must be float32, whose rounding bounds allow"),
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


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "MODEL PROMPTS",
        "Example: jsharp diagnose embedded game24",
        "--check",
        "percentile bootstraps over prompts: approximate, too narrow for few prompts",
        "Sharpening by SFT can only teach what the draws contain",
        "assume that the target is in Pi",
    ):
        assert words in printed
