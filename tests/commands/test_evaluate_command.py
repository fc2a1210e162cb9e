"""`jsharp evaluate` on a tiny model: its records by the oracle, its rows by hand."""

import itertools
import json
import operator
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from tiny_checkpoint import CONFIG, read, write

from jsharp.commands import evaluate, mode
from jsharp.lm import huggingface, transformer

N, HORIZON = 3, 3
PROMPTS = [
    {"id": "one", "prompt": "ab", "answer": ""},
    {"id": "two", "prompt": "dcba dcb", "answer": "ab"},
    {"id": "three", "prompt": "a", "answer": "ccc"},
    {"id": "four", "prompt": "cc", "answer": "ccc"},
    {"id": "five", "prompt": "da d", "answer": "cba"},
    {"id": "six", "prompt": "b", "answer": "c"},
]
SIZES = ("--max-completion-length", HORIZON, "--batch-size", 4)
OPTIONS = ("-n", N, *SIZES, "--chunk-size", 2, "--grader", "exact")
FIELDS = (
    "id prompt prompt_ids sample_id completion completion_ids finish_reason "
    "logprob_base logprob_sampler num_tokens entropy certainty answer correct seed "
    "model logprob"
).split()


class Runs(NamedTuple):
    """Directories of three evaluations, and what they were given."""

    own: Path  # the checkpoint, its own base
    base: Path  # another model, with the checkpoint as its base
    model: Path  # the checkpoint, with the other as its base, and its modes
    other: Path
    prompts: Path
    modes: Path


def command(main, *args) -> int:
    return main([str(arg) for arg in args])


def arguments(runs: Runs, name: str, checkpoint) -> list:
    """The whole command line of a run."""
    ours, theirs = checkpoint.directory, runs.other
    models = {"own": (ours, None), "base": (theirs, ours), "model": (ours, theirs)}
    asked, base = models[name]
    given = ["--prompts", runs.prompts, "--output-dir", getattr(runs, name), *OPTIONS]
    given += ["--model-name-or-path", asked]
    given += ["--base-model-name-or-path", base] if base else []
    return given + (["--modes", runs.modes] if name == "model" else [])


def _write_modes(runs: Runs, checkpoint) -> None:
    """What `jsharp mode` could have found for the other model, of five prompts."""
    input_file = write(runs.modes.with_name("input.jsonl"), PROMPTS[:5])
    sizes = {"max_completion_length": HORIZON, "model_name_or_path": str(runs.other)}
    config = mode.Config(input=input_file, output=runs.modes, **sizes)
    beside = runs.modes.with_name("modes.jsonl.run.json")
    beside.write_text(json.dumps({"run": mode.prepare(config).identity}))
    ties = [[[3, 3, 3]], [[1, 3, 5], [0]], [[0]], [[3, 3, x] for x in range(7)], [[0]]]
    lines = [
        {
            "id": prompt["id"],
            "prompt_ids": checkpoint.tokenizer.encode(prompt["prompt"]),
            "exact": prompt["id"] != "three",
            "mass_lower": 0.125,
            "mass_upper": 0.25 + 0.0625 * i,
            "ties": some,
        }
        for i, (prompt, some) in enumerate(zip(PROMPTS[:5], ties, strict=True))
    ]
    write(runs.modes, lines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, checkpoint):
    directory = tmp_path_factory.mktemp("evaluate")
    names = ("own", "base", "model", "other", "prompts.jsonl", "modes.jsonl")
    runs = Runs(*(directory / name for name in names))
    params = transformer.init(jax.random.key(4), CONFIG)
    huggingface.save(runs.other, CONFIG, params, end=(0,), pad=0)
    checkpoint.tokenizer.save(runs.other)
    write(runs.prompts, PROMPTS)
    _write_modes(runs, checkpoint)
    for name in ("own", "base", "model"):
        assert command(evaluate.main, *arguments(runs, name, checkpoint)) == 0
    return runs


def _log_prob(law, prompt, drawn):
    laws = law([*prompt, *drawn])[len(prompt) - 1 : -1]
    return laws, laws[np.arange(len(drawn)), drawn].sum()


@pytest.mark.parametrize(
    ("name", "fields"),
    [("own", ("logprob", "logprob_base")), ("base", ("logprob_base",))]
    + [("model", ("logprob",))],
)
def test_every_record_is_that_of_the_oracle(runs, law, name, fields):
    records = read(getattr(runs, name) / "responses.jsonl")
    given = itertools.product(PROMPTS, range(-1, N))
    for (prompt, sample), record in zip(given, records, strict=True):
        assert list(record) == FIELDS
        assert (record["id"], record["sample_id"]) == (prompt["id"], sample)
        assert record["answer"] == record["completion"].strip()
        assert record["correct"] == (record["answer"] == prompt["answer"])
        drawn = record["completion_ids"]
        laws, total = _log_prob(law, record["prompt_ids"], drawn)
        for field in fields:
            assert record[field] == pytest.approx(total, abs=2e-5)
        for field in {"logprob", "logprob_base"} - set(fields):
            assert record[field] != pytest.approx(total, abs=1e-3)
        if sample < 0 and "logprob" in fields:
            assert drawn == laws.argmax(-1).tolist()


def _by_subsets(group, k, score, value):
    """The mean over k-subsets of the mean value of those of the largest score."""
    means = []
    for some in itertools.combinations(group, k):
        top = max(map(score, some))
        means.append(np.mean([value(r) for r in some if score(r) == top]))
    return np.mean(means)


def _vote(group):
    """The chance that an answer of the most votes, drawn at random, is right."""
    votes = Counter(record["answer"] for record in group)
    most = [a for a, count in votes.items() if count == max(votes.values())]
    marked = {record["answer"]: record["correct"] for record in group}
    return np.mean([marked[answer] for answer in most])


SCORES = {
    "log-probability": lambda r: r["logprob_base"],
    "length-normalised": lambda r: r["logprob_base"] / r["num_tokens"],
    "self-certainty": lambda r: r["certainty"],
    "negative-entropy": lambda r: -r["entropy"],
}


def test_every_row_is_that_of_the_records(runs):
    records = read(runs.model / "responses.jsonl")
    results = json.loads((runs.model / "results.json").read_text())
    groups = [records[i + 1 : i + 1 + N] for i in range(0, len(records), N + 1)]
    rows = {(row["by"], row["k"]): row for row in results["rows"]}
    joint = {("majority", N), ("perplexity-consistency", N)}
    every = [*SCORES, "coverage"]
    assert set(rows) == joint | {("greedy", 1), ("sample", 1)} | set(
        itertools.product(every, range(1, N + 1))
    )
    greedy = [r for r in records if r["sample_id"] == -1]
    right = np.mean([r["correct"] for r in greedy])
    assert 0 < right < 1
    for name in ("logprob_base", "logprob", "num_tokens"):
        mean = np.mean([r[name] for r in greedy])
        assert rows["greedy", 1][name][0] == pytest.approx(mean)
    for by, score in SCORES.items():
        for k in range(1, N + 1):
            row = rows[by, k]
            fields = {"accuracy": "correct", "logprob": "logprob"}
            fields |= {"logprob_base": "logprob_base", "num_tokens": "num_tokens"}
            for name, field in fields.items():
                value = operator.itemgetter(field)
                each = [_by_subsets(group, k, score, value) for group in groups]
                assert row[name][0] == pytest.approx(np.mean(each), abs=1e-6)
            gain = row["accuracy"][0] - right
            assert row["gain"][0] == pytest.approx(gain, abs=1e-12)
            assert row["percent_lift"][0] == pytest.approx(100 * gain / right)
    vote = np.mean([_vote(group) for group in groups])
    assert rows["majority", N]["accuracy"][0] == pytest.approx(vote)
    covered = np.mean([any(r["correct"] for r in group) for group in groups])
    assert rows["coverage", N]["accuracy"][0] == pytest.approx(covered)
    assert rows["coverage", N]["logprob"] is None
    assert results["num_generations"] == N and results["prompts"] == len(PROMPTS)
    assert results["made"]["device"] and {row["accuracy"][0] for row in rows.values()}


def test_the_mass_on_the_modes_of_the_base(runs, law):
    modes, masses = read(runs.modes), read(runs.model / "masses.jsonl")
    results = json.loads((runs.model / "results.json").read_text())["sharpened"]
    assert [line["id"] for line in masses] == [prompt["id"] for prompt in PROMPTS]
    assert masses[5]["mass"] is None and masses[5]["ties"] == []
    every = []
    for found, line in zip(modes, masses, strict=False):
        total = [_log_prob(law, found["prompt_ids"], tie)[1] for tie in found["ties"]]
        assert line["logprobs"] == pytest.approx(total, abs=2e-5)
        every.append(np.exp(total).sum())
        assert line["mass"] == pytest.approx(every[-1], abs=1e-5)
    exact = [0, 1, 3, 4]  # the third's search ended too early, the sixth is not there
    counts = [results[name] for name in ("prompts", "with_mode", "exact")]
    assert counts == [6, 5, 4]
    assert results["mass"][0] == pytest.approx(np.mean([every[i] for i in exact]))
    base = np.mean([modes[i]["mass_upper"] for i in exact])
    assert results["base_mass"][0] == pytest.approx(base)
    fractions = []
    for line in results["fractions"]:
        sharp = sum(every[i] >= 1 - line["delta"] for i in exact)
        assert line["fraction"][0] == pytest.approx(sharp / 4)
        assert line["bounds"] == pytest.approx([sharp / 6, (sharp + 2) / 6])
        fractions.append(sharp)
    assert [line["delta"] for line in results["fractions"]] == [0.5, 0.1, 0.01]
    assert fractions[0] > fractions[1]


def test_cut_anywhere_it_ends_in_the_same_bytes(runs, checkpoint):
    names = ("responses.jsonl", "masses.jsonl", "results.json")
    whole = {name: (runs.model / name).read_bytes() for name in names}
    lines = [i + 1 for i, byte in enumerate(whole[names[0]]) if byte == ord("\n")]
    for name, size in [(names[0], lines[7] - 1), (names[0], 0), (names[1], 30)]:
        (runs.model / name).write_bytes(whole[name][:size])
        (runs.model / "results.json").unlink()
        assert command(evaluate.main, *arguments(runs, "model", checkpoint)) == 0
        for other in names:
            assert (runs.model / other).read_bytes() == whole[other]


def test_a_finished_directory_prints_its_table_at_once(
    runs, checkpoint, monkeypatch, capsys
):
    monkeypatch.setattr(evaluate, "load", None)
    monkeypatch.setattr(evaluate, "picks_of", None)
    assert command(evaluate.main, *arguments(runs, "model", checkpoint)) == 0
    said = capsys.readouterr().out
    results = json.loads((runs.model / "results.json").read_text())
    row = next(row for row in results["rows"] if row["by"] == "sample")
    estimate, low, high = (f"{100 * x:.1f}" for x in row["accuracy"])
    shown = next(line for line in said.splitlines() if "one sample" in line)
    assert f" {estimate} [{low}, {high}] " in shown
    assert f" {row['logprob_base'][0]:.2f} " in shown
    assert f"any of {N} is right" in said and "best of 3 by" in said
    assert "4 of 6 prompts have an exact mode" in said
    low, high = results["sharpened"]["fractions"][0]["bounds"]
    assert f"on {100 * low:.1f} to {100 * high:.1f} % of all" in said


def test_another_level_is_judged_anew_without_drawing(runs, checkpoint, monkeypatch):
    before = json.loads((runs.own / "results.json").read_text())
    monkeypatch.setattr(evaluate, "load", None)
    given = arguments(runs, "own", checkpoint)
    assert command(evaluate.main, *given, "--level", 0.5) == 0
    after = json.loads((runs.own / "results.json").read_text())
    for old, new in zip(before["rows"], after["rows"], strict=True):
        assert old["logprob"] is None or old["logprob"][0] == new["logprob"][0]
    wide, narrow = (x["rows"][1]["logprob"] for x in (before, after))
    assert wide[1] < narrow[1] < narrow[2] < wide[2]
    assert command(evaluate.main, *given) == 0
    assert json.loads((runs.own / "results.json").read_text()) == before


def test_without_a_grader_nothing_is_right_or_wrong(runs, checkpoint, tmp_path, capsys):
    given = [x for x in arguments(runs, "own", checkpoint)][: -2 - len(OPTIONS)]
    given[-1] = tmp_path / "out"
    given += [*OPTIONS[:-2], "--model-name-or-path", checkpoint.directory]
    assert command(evaluate.main, *given) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {row["by"] for row in rows} >= {"greedy", "sample", *SCORES}
    assert "coverage" not in {row["by"] for row in rows}
    for row in rows:
        assert row["accuracy"] is row["gain"] is row["percent_lift"] is None
        assert row["logprob_base"] is not None
    assert "accuracy" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("-n", 0), "--num-generations must be at least 1, found 0"),
        (("--level", 1), "--level must be between 0 and 1, found 1"),
        (("--deltas", 1.5), "--deltas must be between 0 and 1, found 1.5"),
        (("--seed", -1), "--seed must be 0 to 2^31 - 1, found -1"),
        (("--prompts", "none.jsonl"), "none.jsonl"),
        (("--grader", "vibes"), "--grader must be one of exact"),
        (("--base-model-name-or-path", "none"), "--base-model-name-or-path: expected"),
        (("--modes", "none.jsonl"), "--modes: expected the output of `jsharp mode`"),
        (("--task", "game24"), "--task must be given, or else --prompts"),
        (("--max-completion-length", 40), "--max-completion-length must leave room"),
    ],
)
def test_a_bad_option_is_named(runs, checkpoint, tmp_path, capsys, changed, message):
    given = {"--prompts": runs.prompts, "--output-dir": tmp_path / "out", "-n": N}
    given |= {"--grader": "exact", "--max-completion-length": HORIZON}
    given |= {"--model-name-or-path": checkpoint.directory, changed[0]: changed[1]}
    assert command(evaluate.main, *itertools.chain(*given.items())) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
