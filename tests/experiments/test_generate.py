"""Records of a model's responses, and the arrays read back from them."""

import jax
import numpy as np
import pytest

from experiments.generate import generate, labels, samples
from jsharp.tasks import load


@pytest.fixture(scope="module")
def records(tiny_model):
    task = load("arithmetic")
    batches = generate(
        jax.random.key(0),
        tiny_model,
        tiny_model.params,
        task,
        task.held_out[:4],
        n=3,
        batch=2,
    )
    return [record for batch in batches for record in batch]


def test_every_response_is_recorded_once(records):
    ids = [(r["prompt_id"], r["sample_id"]) for r in records]
    assert sorted(ids) == [(p, i) for p in range(4) for i in range(-1, 3)]


def test_a_record_agrees_with_itself(records, tiny_model):
    task = load("arithmetic")
    for r in records:
        tokens = r["tokens"]
        stopped = tokens[-1] in tiny_model.end
        assert r["finish_reason"] == ("stop" if stopped else "length")
        assert (
            tiny_model.tokenizer.decode(tokens[: len(tokens) - stopped])
            == r["response"]
        )
        assert r["length"] == len(tokens)
        assert r["correct"] == task.correct(
            task.held_out[r["prompt_id"]], r["response"]
        )
        assert r["reward"]["log-probability"] == r["log_prob"]
        assert r["reward"]["length-normalised"] == pytest.approx(
            r["log_prob"] / r["length"], rel=1e-6
        )
        assert r["sampler_log_prob"] == pytest.approx(r["log_prob"], abs=1e-3)


def test_responses_depend_on_the_problem_not_on_the_batch(records, tiny_model):
    task = load("arithmetic")
    (whole,) = generate(
        jax.random.key(0),
        tiny_model,
        tiny_model.params,
        task,
        task.held_out[:4],
        n=2,
        batch=4,
    )
    tokens = {(r["prompt_id"], r["sample_id"]): r["tokens"] for r in records}
    assert all(r["tokens"] == tokens[r["prompt_id"], r["sample_id"]] for r in whole)


def test_arrays_are_in_order_whatever_order_the_records_have(records):
    rng = np.random.default_rng(0)
    found = samples([records[i] for i in rng.permutation(len(records))])
    for r in records:
        p, i = r["prompt_id"], r["sample_id"]
        if i < 0:
            assert found.greedy_log_prob[p] == r["log_prob"]
        else:
            assert found.log_prob[p, i] == r["log_prob"]
            assert found.score["majority"][p, i] == r["reward"]["majority"]


def test_a_missing_record_is_refused(records):
    with pytest.raises(
        ValueError, match="expected samples -1..2 for each of 4 prompts"
    ):
        samples(records[:-1] + records[:1])


def test_labels_number_the_answers():
    found = labels([["7", None, "3"], ["3", "3", None]])
    np.testing.assert_array_equal(found, [[1, -1, 0], [0, 0, -1]])
