"""Responses as records: drawn, scored under the base, marked; against the oracle."""

import jax
import numpy as np
import pytest
from tiny_checkpoint import CONFIG, write

from jsharp.commands.questions import Source, read
from jsharp.commands.responses import FIELDS, Speaker, candidates, respond
from jsharp.commands.settings import ModelSettings
from jsharp.lm import transformer

N, HORIZON = 3, 5
ASKED = [
    {"id": "one", "prompt": "ab", "answer": "a"},
    {"prompt": "é", "answer": ""},
    {"prompt": "dcb a", "answer": "b"},
]


@pytest.fixture(scope="module")
def speaker(checkpoint):
    return Speaker(CONFIG, checkpoint.tokenizer, (0,), 0, HORIZON, slots=4)


@pytest.fixture(scope="module")
def questions(checkpoint, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("asked") / "asked.jsonl", ASKED)
    source = Source(prompts=path, grader="exact")
    settings = ModelSettings()
    return read(source, settings, checkpoint.directory, room=HORIZON, taken=())


@pytest.fixture(scope="module")
def ask(checkpoint, speaker, questions):
    """ask(places, n) -> records; drawn from other weights than those that score."""
    params = transformer.init(jax.random.key(8), CONFIG)

    def asked(places, n=N, **options):
        told = {"seed": 5, "model": "tiny", **options}
        key, base = jax.random.key(5), checkpoint.params
        return respond(key, params, base, speaker, questions, places, n, **told)

    return asked


@pytest.fixture(scope="module")
def records(ask):
    return ask([0, 1, 2])


def test_a_record_says_what_the_base_makes_of_it(records, law, checkpoint):
    assert [(r["id"], r["sample_id"]) for r in records] == [
        (name, i) for name in ("one", "2", "3") for i in range(N)
    ]
    for record, asked in zip(
        records, [a for a in ASKED for _ in range(N)], strict=True
    ):
        assert list(record) == ["id", "prompt", "prompt_ids", *FIELDS]
        ids, drawn = record["prompt_ids"], record["completion_ids"]
        assert ids == checkpoint.tokenizer.encode(asked["prompt"])
        rows = law([*ids, *drawn])[len(ids) - 1 : -1]
        exact = rows[np.arange(len(drawn)), drawn].sum()
        assert record["logprob_base"] == pytest.approx(exact, abs=2e-5)
        entropy = -(np.exp(rows) * rows).sum(-1).mean()
        certainty = (-np.log(CONFIG.vocab_size) - rows.mean(-1)).mean()
        assert record["entropy"] == pytest.approx(entropy, abs=1e-5)
        assert record["certainty"] == pytest.approx(certainty, abs=1e-5)
        # Drawn from another model, whose log-probability is another.
        assert abs(record["logprob_sampler"] - record["logprob_base"]) > 1e-3
        assert record["num_tokens"] == len(drawn) <= HORIZON and 0 not in drawn[:-1]
        stopped = drawn[-1] == 0
        assert record["finish_reason"] == ("stop" if stopped else "length")
        text = checkpoint.tokenizer.decode(drawn[:-1] if stopped else drawn)
        assert record["completion"] == text and record["answer"] == text.strip()
        assert record["correct"] is (text.strip() == asked["answer"])
        assert (record["seed"], record["model"]) == (5, "tiny")
    assert {r["finish_reason"] for r in records} == {"stop", "length"}


def test_a_place_draws_by_key_and_place_alone(ask, records):
    assert ask([2]) == records[2 * N :]
    assert [r["completion_ids"] for r in ask([1, 0], 2)] == [
        records[i]["completion_ids"] for i in (N, N + 1, 0, 1)
    ]
    (greedy,) = ask([0], 1, greedy=True)
    assert greedy["sample_id"] == -1


def test_progress_is_told_once_for_each_prompt(ask, records):
    told = []
    ask([0, 1, 2], tick=lambda prompts, tokens: told.append((prompts, tokens)))
    expected = [3, sum(r["num_tokens"] for r in records)]
    assert np.sum(told, axis=0).tolist() == expected


def test_candidates(records):
    groups = [records[i : i + N] for i in range(0, len(records), N)]
    groups[0][1] = groups[0][1] | {"answer": None}
    groups[0][2] = groups[0][2] | {"answer": groups[0][0]["answer"]}
    found = candidates(groups)
    assert found.answer is not None and found.entropy is not None
    assert found.answer[0].tolist() == [0, -1, 0]
    for b, group in enumerate(groups):
        for i, record in enumerate(group):
            size = record["num_tokens"]
            assert int(found.response.length[b, i]) == size
            tokens = found.response.tokens[b, i]
            assert tokens[:size].tolist() == record["completion_ids"]
            assert not tokens[size:].any()
            for name in ("log_prob", "entropy", "certainty"):
                field = "logprob_base" if name == "log_prob" else name
                assert float(getattr(found, name)[b, i]) == np.float32(record[field])
