"""A cell's responses and picks against brute force; tables against their text."""

import dataclasses
import itertools
import re

import fabricated_responses as fabricated
import numpy as np
import pytest

from experiments.reproduce import inference
from experiments.reproduce.tables import interval, markdown, number
from jsharp.commands.results import RESPONSES
from jsharp.evaluate import ACCURACY


@pytest.fixture
def config(tmp_path):
    config = fabricated.config(
        tmp_path, models=("embedded", "small"), tasks=("game24", "prontoqa")
    )
    for seed, cell in enumerate(config.settings()):
        fabricated.write(config, *cell, fabricated.draw(seed))
    return config


def test_cells_are_those_of_the_settings_in_their_order(config):
    found = [(cell.model, cell.task) for cell in inference.cells(config)]
    # The embedded model has no tokens for prontoqa: no cell.
    assert found == [
        ("embedded", "game24"),
        ("small", "game24"),
        ("small", "prontoqa"),
    ]


def test_a_field_is_that_of_the_samples_and_not_of_greedy(config):
    for seed, cell in enumerate(inference.cells(config)):
        given = fabricated.draw(seed)
        np.testing.assert_array_equal(cell.field("logprob_base"), given.log_prob[:, 1:])
        np.testing.assert_array_equal(cell.field("num_tokens"), given.tokens[:, 1:])
        greedy = cell.pick("greedy", 1).value
        np.testing.assert_array_equal(greedy[ACCURACY], given.right[:, 0])


@pytest.mark.parametrize("reward", ["log-probability", "length-normalised"])
def test_a_pick_of_k_is_the_mean_over_all_subsets(config, reward):
    cell, given = inference.cells(config)[1], fabricated.draw(1)
    score = given.log_prob[:, 1:]
    if reward == "length-normalised":
        score = (score / given.tokens[:, 1:]).astype(np.float32)
    measures = {
        ACCURACY: given.right,
        "logprob_base": given.log_prob,
        "num_tokens": given.tokens,
    }
    for k in (1, 2, 4, 6):
        found = cell.pick(reward, k).value
        for name, value in measures.items():
            expected = [
                np.mean(list(best_of_all(s, v, k)))
                for s, v in zip(score, value[:, 1:], strict=True)
            ]
            np.testing.assert_allclose(found[name], expected, atol=1e-12)


def best_of_all(score, value, k):
    for some in itertools.combinations(range(len(score)), k):
        some = list(some)
        yield value[some][score[some] == score[some].max()].mean()


def test_majority_is_the_vote_of_all_n_with_ties_shared(config):
    cell, given = inference.cells(config)[1], fabricated.draw(1)
    expected = []
    for answer, right in zip(given.answer[:, 1:], given.right[:, 1:], strict=True):
        votes = [sum(x == a for x in answer) if a is not None else 0 for a in answer]
        expected.append(right[np.array(votes) == max(votes)].mean())
    found = cell.pick("majority", 6).value[ACCURACY]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("by, k", [("majority", 3), ("greedy", 2), ("nothing", 1)])
def test_there_is_no_such_pick(config, by, k):
    with pytest.raises(ValueError, match=f"embedded, game24: no best of {k} by {by}"):
        inference.cells(config)[0].pick(by, k)


def test_an_evaluation_that_was_interrupted_is_refused(config, tmp_path):
    path = tmp_path / "evaluate/small/game24" / RESPONSES
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    with pytest.raises(ValueError, match="interrupted"):
        inference.cells(config)


def test_a_run_asks_for_what_the_config_says(tmp_path):
    config = fabricated.config(tmp_path, generations=7, limit=5)
    run = inference.evaluation(config, "embedded", "game24")
    assert run.name == "evaluate/embedded/game24" and not run.needs
    options = dict(zip(run.words[1::2], run.words[2::2], strict=True))
    assert options["--model-name-or-path"] == "embedded"
    assert options["--task"] == "game24"
    assert options["--num-generations"] == "7" and options["--limit"] == "5"
    assert "--data" not in options


def test_a_base_that_is_made_here_is_made_first(tmp_path):
    config = fabricated.config(tmp_path, models=("small",))
    (run,) = inference.evaluations(config)
    assert [need.name for need in run.needs] == ["pretrain/small"]
    assert "pretrain/small/hf" in run.words


def test_a_task_from_files_is_evaluated_on_its_test_file(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    config = dataclasses.replace(
        fabricated.config(tmp_path, models=(f"mine={model}",), tasks=("gsm8k",)),
        data=(f"gsm8k={tmp_path}/train.jsonl,{tmp_path}/test.jsonl",),
    )
    (run,) = inference.evaluations(config)
    words = list(run.words)
    assert words[words.index("--data") + 1] == str(tmp_path / "test.jsonl")
    assert words[words.index("--model-name-or-path") + 1] == str(model)


@pytest.mark.parametrize(
    "value, scale, text",
    [
        ([0.25, 0.125, 0.5], 100, "25.0 [12.5, 50.0]"),
        ([0.25, 0.125, 0.5], 1, "0.25 [0.125, 0.5]"),
        ([-12.345, None, None], 1, "-12.3 [inf, inf]"),
        (None, 100, "none"),
    ],
)
def test_an_interval_as_text(value, scale, text):
    assert interval(value, scale) == text


def test_a_table_has_a_line_a_row_and_a_bar_a_column():
    rows = [
        {"model": "small", "share": ([0.5, 0.25, 0.75], 100), "x": 1 / 3, "k": None},
        {"model": "large", "share": (None, 100), "x": 2.0, "k": 7},
    ]
    assert markdown(rows).splitlines() == [
        "| model | share | x | k |",
        "|---|---|---|---|",
        "| small | 50.0 [25.0, 75.0] | 0.333 |  |",
        "| large | none | 2 | 7 |",
    ]


def test_a_table_of_nothing_is_nothing():
    assert markdown([]) == ""


@pytest.mark.parametrize("other", [{"model": 1}, {"x": 1, "model": 2}])
def test_rows_have_the_same_columns(other):
    with pytest.raises(ValueError, match="expected the columns"):
        markdown([{"model": "small", "x": 1}, other])


@pytest.mark.parametrize("text", ["pi(y|x)", "two\nlines | a bar"])
def test_no_text_ends_a_cell(text):
    line = markdown([{"a": text, "b": "last"}]).splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


@pytest.mark.parametrize(
    "value, text",
    [(1234.4, "1234"), (0.00012345, "0.000123"), (-0.0, "0"), (2.5e7, "2.5e+07")],
)
def test_a_number_as_text(value, text):
    assert number(value) == text


@pytest.mark.parametrize("value, text", [(-0.04, "0.0"), (12.345, "12.3")])
def test_a_percentage_as_text(value, text):
    assert number(value, percent=True) == text
