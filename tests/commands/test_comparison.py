"""`jsharp evaluate --compare` on records made by hand: no model."""

import json
import math
import shutil

import numpy as np
import pytest
from tiny_checkpoint import write

from jsharp.commands import evaluate
from jsharp.commands.comparison import locate
from jsharp.stats import bootstrap

B, N = 12, 4


def made(seed: int, *, marked: bool = True) -> list[dict]:
    """Responses to B prompts: three texts, of which the first is right."""
    rng = np.random.default_rng(seed)
    lines = []
    for b in range(B):
        for i in range(-1, N):
            text = int(rng.integers(3))
            lines.append(
                {
                    "id": f"p{b}",
                    "prompt": f"prompt {b}",
                    "prompt_ids": [b, 1],
                    "sample_id": i,
                    "completion": "abc"[text],
                    "completion_ids": [text] * (1 + text),
                    "finish_reason": "stop",
                    "logprob_base": float(np.float32(-rng.exponential())),
                    "logprob_sampler": -1.0,
                    "num_tokens": 1 + text,
                    "entropy": float(np.float32(rng.random())),
                    "certainty": float(np.float32(rng.random())),
                    "answer": "abc"[text] if text < 2 else None,
                    "correct": text == 0 if marked else None,
                    "seed": seed,
                    "model": "made",
                }
            )
    return lines


def finished(directory, lines, *, base="b", marked_by="exact", longest=64):
    """A run's directory as evaluate leaves it."""
    directory.mkdir()
    write(directory / "responses.jsonl", lines)
    run = {"command": "evaluate", "model/w": "m", "base/w": base}
    run |= {"questions": "asked", "marked_by": marked_by}
    run |= {"max_completion_length": longest}
    (directory / "responses.jsonl.run.json").write_text(json.dumps({"run": run}))
    return directory


@pytest.fixture
def pair(tmp_path):
    return [finished(tmp_path / str(seed), made(seed)) for seed in (0, 5)]


def compare(*args) -> int:
    return evaluate.main(["--compare", *map(str, args)])


def of_each(lines, field):
    """[B N] of the samples and [B] of the greedy ones."""
    table = np.array([line[field] for line in lines], float).reshape(B, 1 + N)
    return table[:, 1:], table[:, 0]


def test_differences_by_hand(pair, tmp_path, capsys):
    assert compare(*pair) == 0
    shown = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert compare(*pair, "--output-dir", tmp_path / "out") == 0
    assert capsys.readouterr().out == shown
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = {(row["by"], row["k"]): row for row in found["rows"]}
    assert (found["prompts"], found["num_generations"]) == (B, N)
    (old, old_greedy), (new, new_greedy) = (of_each(made(i), "correct") for i in (0, 5))
    gain = lambda v: (v[..., 1] - v[..., 0]).mean(1)
    paired = lambda *x: bootstrap(np.stack(x, 1), gain, level=0.05, seed=0)
    one = rows["sample", 1]
    expected = paired(old.mean(1), new.mean(1))
    assert one["accuracy"] == pytest.approx(list(expected))
    covered = paired(old.any(1).astype(float), new.any(1).astype(float))
    assert rows["coverage", N]["accuracy"] == pytest.approx(list(covered))
    for name in ("logprob_base", "num_tokens"):
        means = [of_each(made(i), name)[0].mean(1) for i in (0, 5)]
        assert one[name] == pytest.approx(list(paired(*means)))
    over = paired(old_greedy, new.mean(1))
    assert one["gain"] == pytest.approx(list(over))
    lift = 100 * over.estimate / old_greedy.mean()
    assert one["percent_lift"][0] == pytest.approx(lift)
    assert f" {lift:+.1f} " in shown
    won = int(((new_greedy > 0) & (old_greedy == 0)).sum())
    lost = int(((new_greedy == 0) & (old_greedy > 0)).sum())
    tails = [math.comb(won + lost, i) for i in range(won + lost + 1)]
    p_value = sum(t for t in tails if t <= tails[won]) / 2 ** (won + lost)
    assert won and lost and won != lost
    assert found["greedy"] == {
        "won": won,
        "lost": lost,
        "p_value": pytest.approx(p_value),
    }
    assert (
        f"greedy: {won} prompts won, {lost} lost, sign test p = {p_value:.3g}" in shown
    )


def test_a_run_does_not_differ_from_itself(pair, tmp_path):
    assert compare(pair[0], pair[0], "--output-dir", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["greedy"] == {"won": 0, "lost": 0, "p_value": 1.0}
    for row in found["rows"]:
        assert row["accuracy"] == [0, 0, 0]
        assert row["logprob_base"] in ([0, 0, 0], None)


def test_two_bases_have_no_common_log_probability(pair, tmp_path, capsys):
    other = finished(tmp_path / "other", made(1), base="another")
    assert compare(pair[0], other, "--output-dir", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "the runs were scored under two bases: logprob_base is not compared" in said
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert all(row["logprob_base"] is None for row in found["rows"])
    assert all(row["accuracy"] is not None for row in found["rows"])


def test_a_training_run_is_its_last_step(pair, tmp_path, capsys):
    steps = tmp_path / "run" / "eval"
    steps.mkdir(parents=True)
    run = {"command": "train: eval", "model/w": "b"}
    for step, source in ((9, pair[0]), (10, pair[1])):
        shutil.copy(source / "responses.jsonl", steps / f"{step}.jsonl")
        (steps / f"{step}.jsonl.run.json").write_text(json.dumps({"run": run}))
    assert locate(tmp_path / "run") == steps / "10.jsonl"
    assert compare(*pair) == 0
    shown = capsys.readouterr().out
    assert compare(pair[0], tmp_path / "run") == 0  # its base is the model it began as
    assert capsys.readouterr().out == shown
    assert compare(steps / "9.jsonl", steps / "10.jsonl") == 0
    assert capsys.readouterr().out == shown


def test_without_marks_only_measures_are_compared(tmp_path, capsys):
    runs = [finished(tmp_path / str(i), made(i, marked=False)) for i in (0, 1)]
    assert compare(*runs, "--output-dir", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["greedy"] is None and "sign test" not in capsys.readouterr().out
    for row in found["rows"]:
        assert row["accuracy"] is None and row["logprob_base"] is not None


def without_last(lines):
    return [line for line in lines if line["sample_id"] < N - 1]


def renamed(lines, field, value):
    return [x | {field: value} if x["id"] == "p3" else x for x in lines]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_last, "has num_generations 4, "),
        (lambda x: x[: -1 - N], "has a number of prompts 12, "),
        (lambda x: renamed(x, "id", "q"), "has the id 'p3', "),
        (lambda x: renamed(x, "prompt_ids", [1]), "of id 'p3' the prompt_ids [3, 1], "),
        (lambda x: renamed(x, "prompt", "?"), "of id 'p3' the prompt 'prompt 3', "),
        (lambda x: made(1, marked=False), "has marks True, "),
        (lambda x: x[:-1], "expected as many samples of each prompt, found [3, 4]"),
        (lambda x: x[1:], "id 'p0': expected sample_id -1 and then 0, 1, "),
        (lambda x: x[:3] + x[4:], "id 'p0': expected sample_id -1 and then 0, 1, "),
        (lambda x: [{"id": 1}], "responses.jsonl, line 1: prompt: found none"),
        (lambda x: [], "expected as many samples of each prompt, found none"),
    ],
)
def test_what_differs_is_named(pair, tmp_path, capsys, change, message):
    other = finished(tmp_path / "other", change(made(1)))
    assert compare(pair[0], other, "--output-dir", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_other_marks_are_named(pair, tmp_path, capsys):
    other = finished(tmp_path / "other", made(1), marked_by="math")
    assert compare(pair[0], other) == 2
    assert "has marked_by 'exact', " in capsys.readouterr().err


def test_another_longest_response_is_named(pair, tmp_path, capsys):
    other = finished(tmp_path / "other", made(1), longest=512)
    assert compare(pair[0], other) == 2
    assert "has max_completion_length 64, " in capsys.readouterr().err


def test_options_that_ask_for_work_are_refused(pair, capsys):
    assert compare(*pair, "--task", "game24") == 2
    expected = "--task must be left out with --compare, found game24"
    assert expected in capsys.readouterr().err


def test_a_directory_that_holds_no_run(pair, tmp_path, capsys):
    assert compare(pair[0], tmp_path) == 2
    assert "--compare: expected a directory of `jsharp eval" in capsys.readouterr().err
    for text, message in (("3\n", "id: found none"), ('{"id"', "not JSON")):
        (pair[1] / "responses.jsonl").write_text(text)
        assert compare(*pair) == 2
        assert f"responses.jsonl, line 1: {message}" in capsys.readouterr().err
