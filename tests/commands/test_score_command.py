"""`jsharp score`: against the whole-sequence oracle, and fed by `jsharp sample`."""

import random
import re

import numpy as np
import pytest
from tiny_checkpoint import read, write

END = 0
GIVEN = [
    {"prompt": "ab", "completion": "cd"},
    {"prompt": "ab", "completion_ids": [3, 4, END], "completion": "other", "kept": 1},
    {"prompt": "ab", "completion": "é", "id": "x"},
    {"id": "x", "prompt_ids": [5, 5, 2], "completion_ids": [6]},
    {"prompt": "dcba", "completion": " " * 17, "num_tokens": 17},
]
TOKENS = ("token_logprobs", "token_best_logprobs", "token_entropies", "token_ranks")


def _oracle(law, record):
    """The next-token laws of a record, [H V], and its completion's ids."""
    prompt, drawn = record["prompt_ids"], record["completion_ids"]
    return law([*prompt, *drawn])[len(prompt) - 1 : -1], drawn


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Where the first test leaves its files: input and output."""
    directory = tmp_path_factory.mktemp("score")
    return write(directory / "given.jsonl", GIVEN), directory / "scored.jsonl"


OPTIONS = ("--per-token", "--statistics", "--batch-size", 4)


def test_every_number_is_that_of_the_whole_sequence(scored, call, law, checkpoint):
    path, output = scored
    status, said = call("score", path, "--output", output, *OPTIONS)
    assert status == 0 and "5 responses" in said and "logprob_base" not in said
    records = read(output)
    assert [r["id"] for r in records] == ["1", "2", "x", "x", "5"]
    for given, record in zip(GIVEN, records, strict=True):
        before = [*(() if "id" in given else ("id",)), *given]
        added = [
            k for k in ("prompt_ids", "completion_ids", "num_tokens") if k not in given
        ]
        new = ["logprob", *TOKENS, "token_logsumexps", "token_certainties"]
        assert list(record) == [*before, *added, *new]
        assert given.items() <= record.items()
        laws, drawn = _oracle(law, record)
        assert record["num_tokens"] == len(drawn)
        if "completion_ids" not in given:
            assert drawn == checkpoint.tokenizer.encode(given["completion"])
        chosen = laws[np.arange(len(drawn)), drawn]
        entropy = -(np.exp(laws) * laws).sum(-1)
        close = lambda x: pytest.approx(x, abs=2e-5)
        assert record["logprob"] == close(chosen.sum())
        assert record["logprob"] == pytest.approx(
            sum(record["token_logprobs"]), abs=1e-9
        )
        assert record["token_logprobs"] == close(chosen)
        assert record["token_best_logprobs"] == close(laws.max(-1))
        assert record["token_entropies"] == close(entropy)
        assert record["token_ranks"] == (laws > chosen[:, None]).sum(-1).tolist()
        assert len(record["token_logsumexps"]) == len(drawn)
        certainty = -np.log(laws.shape[1]) - laws.mean(-1)
        assert record["token_certainties"] == close(certainty)


def test_cut_anywhere_it_ends_in_the_same_bytes(scored, call):
    path, output = scored
    whole = output.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in (0, 7, ends[1], ends[3] - 1, ends[3], ends[3] + 1, len(whole) - 1):
        output.write_bytes(whole[:size])
        assert call("score", path, "--output", output, *OPTIONS)[0] == 0
        assert output.read_bytes() == whole
    status, said = call("score", path, "--output", output, *OPTIONS[1:])
    assert status == 2 and "per_token: " in said and "--overwrite" in said
    assert output.read_bytes() == whole


def test_what_was_sampled_scores_as_it_was_drawn(tmp_path, prompts, call):
    drawn, output = tmp_path / "drawn.jsonl", tmp_path / "scored.jsonl"
    options = (
        "-n",
        3,
        "--max-completion-length",
        6,
        "--chunk-size",
        2,
        "--batch-size",
        4,
    )
    assert call("sample", prompts, "--output", drawn, *options)[0] == 0
    before = read(drawn)
    before[0]["logprob_base"] = None  # nothing to compare with
    write(drawn, before)
    status, said = call("score", drawn, "--output", output, "--batch-size", 4)
    assert status == 0
    after = read(output)
    assert [{k: r[k] for k in r if k != "logprob"} for r in after] == before
    drift = max(abs(r["logprob"] - r["logprob_base"]) for r in after[1:])
    told = re.search(r"within (\S+) nats of logprob_base \(14 compared\)", said)
    assert told and float(told[1]) == pytest.approx(drift, rel=0.06) and drift < 2e-5


def test_order_and_neighbours_do_not_matter(tmp_path, scored, call):
    path, output = scored
    shuffled = GIVEN * 2
    random.Random(1).shuffle(shuffled)
    other = write(tmp_path / "shuffled.jsonl", [{**r, "id": "z"} for r in shuffled])
    again = tmp_path / "again.jsonl"
    assert call("score", other, "--output", again, *OPTIONS)[0] == 0
    one = {tuple(r["completion_ids"]): r["logprob"] for r in read(output)}
    for record in read(again):
        wanted = one[tuple(record["completion_ids"])]
        assert record["logprob"] == pytest.approx(wanted, abs=1e-5)


def test_append_end_ends_texts_only(tmp_path, scored, call, law):
    output = tmp_path / "ended.jsonl"
    given = [{k: v for k, v in r.items() if k != "num_tokens"} for r in GIVEN]
    path = write(tmp_path / "given.jsonl", given)
    options = ("--append-end", "--batch-size", 4)
    assert call("score", path, "--output", output, *options)[0] == 0
    rows = zip(GIVEN, read(scored[1]), read(output), strict=True)
    for line, before, record in rows:
        wanted = before["completion_ids"] + [END] * ("completion_ids" not in line)
        assert record["completion_ids"] == wanted
        assert record["num_tokens"] == len(wanted)
        laws, drawn = _oracle(law, record)
        total = laws[np.arange(len(drawn)), drawn].sum()
        assert record["logprob"] == pytest.approx(total, abs=2e-5)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a"}, "completion: expected it, or completion_ids, found neither"),
        (
            {"prompt": "a", "completion_ids": [1.0]},
            "completion_ids: expected a list of",
        ),
        ({"prompt": "a", "completion_ids": []}, "completion_ids: expected at least 1"),
        ({"prompt": "a", "completion_ids": [9]}, "completion_ids: expected ids from 0"),
        ({"prompt": "a", "completion": "q"}, "completion: no token for ['q']"),
        ({"prompt": "a", "completion": "b", "num_tokens": 2}, "num_tokens: expected 1"),
        ({"prompt": "a", "completion": "b", "logprob": 0}, "logprob: the output has"),
        (
            {"prompt": "a", "completion": "b" * 32},
            "expected prompt and completion to fit",
        ),
    ],
)
def test_a_bad_line_is_named_before_anything_is_written(
    tmp_path, call, record, message
):
    path = write(tmp_path / "given.jsonl", [GIVEN[0], record])
    status, said = call("score", path, "--output", tmp_path / "out.jsonl")
    assert status == 2 and f"jsharp score: {path}, line 2: {message}" in said
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_is_not_finite_is_no_score(tmp_path, scored, call, monkeypatch):
    from jsharp.commands import score

    monkeypatch.setattr(
        score,
        "_measure",
        lambda params, prompts, response, **_: {
            "token_logprobs": np.full(response.tokens.shape, np.nan, np.float32)
        },
    )
    output = tmp_path / "out.jsonl"
    status, said = call("score", scored[0], "--output", output)
    assert status == 1 and "id '1': a number is not finite" in said
    assert output.read_bytes() == b""
