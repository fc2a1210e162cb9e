"""`jsharp sample`: the records, the refusals, and a run that is taken up again."""

import errno
import json
import re
import shutil

import numpy as np
import pytest
from tiny_checkpoint import PROMPTS, read, write

from jsharp.commands import entries, sample, stream
from jsharp.commands.settings import Settings
from jsharp.lm import huggingface

FIELDS = (
    "id prompt prompt_ids sample_id completion completion_ids finish_reason "
    "logprob_base logprob_sampler num_tokens seed model temperature top_p top_k"
).split()
DRAW = ("-n", 3, "--max-completion-length", 6, "--chunk-size", 2, "--batch-size", 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, checkpoint):
    """The bytes of a run without a break."""
    directory = tmp_path_factory.mktemp("whole")
    path = write(directory / "prompts.jsonl", PROMPTS)
    output = directory / "out.jsonl"
    model = ("--model-name-or-path", checkpoint.directory)
    assert sample.main([str(a) for a in (path, "--output", output, *DRAW, *model)]) == 0
    return output.read_bytes()


def test_the_record_is_as_documented(whole, checkpoint, law):
    records = [json.loads(line) for line in whole.splitlines()]
    assert [(r["id"], r["sample_id"]) for r in records] == [
        (name, i) for name in ("first", "2", "third", "4", "5") for i in range(3)
    ]
    for record, prompt in zip(
        records, [p for p in PROMPTS for _ in range(3)], strict=True
    ):
        extra = [k for k in prompt if k not in FIELDS]
        assert list(record) == FIELDS + extra
        assert [record[k] for k in extra] == [prompt[k] for k in extra]
        assert record["prompt"] == prompt.get("prompt")
        text = prompt.get("prompt", "ccd"[:0])
        ids = prompt.get("prompt_ids") or checkpoint.tokenizer.encode(text)
        drawn = record["completion_ids"]
        assert record["prompt_ids"] == ids and len(drawn) == record["num_tokens"] <= 6
        assert 0 not in drawn[:-1]
        stopped = drawn[-1] == 0
        assert record["finish_reason"] == ("stop" if stopped else "length")
        assert stopped or len(drawn) == 6
        seen = checkpoint.tokenizer.decode(drawn[:-1] if stopped else drawn)
        assert record["completion"] == seen
        rows = law([*ids, *drawn])[len(ids) - 1 : -1]
        exact = rows[np.arange(len(drawn)), drawn].sum()
        assert record["logprob_base"] == pytest.approx(exact, abs=2e-5)
        assert record["logprob_sampler"] == pytest.approx(exact, abs=2e-5)
        assert (record["seed"], record["temperature"]) == (0, 1.0)
        assert record["model"] == str(checkpoint.directory)
    reasons = {record["finish_reason"] for record in records}
    assert reasons == {"stop", "length"}  # or the checks above saw only one
    assert "é".encode() in whole  # UTF-8, not escapes


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.35, 0.5, 0.99])
@pytest.mark.parametrize("edge", ["torn", "line"])
def test_cut_anywhere_it_ends_in_the_same_bytes(
    tmp_path, prompts, call, whole, shift, edge
):
    output = tmp_path / "out.jsonl"
    assert call("sample", prompts, "--output", output, *DRAW, "--overwrite")[0] == 0
    kept = whole[: int(shift * len(whole))]
    kept = kept[: kept.rfind(b"\n") + 1] if edge == "line" else kept
    output.write_bytes(kept)
    status, said = call("sample", prompts, "--output", output, *DRAW)
    assert status == 0 and output.read_bytes() == whole
    assert ("going on behind record" in said) == (kept.count(b"\n") >= 6)


def test_a_response_depends_on_its_prompt_its_number_and_the_seed_alone(
    tmp_path, prompts, call, whole
):
    other = ("-n", 2, "--max-completion-length", 6, "--batch-size", 3, "--limit", 3)
    output = tmp_path / "other.jsonl"
    assert call("sample", prompts, "--output", output, *other)[0] == 0
    drawn = lambda records: {
        (r["id"], r["sample_id"]): r["completion_ids"] for r in records
    }
    before = drawn(map(json.loads, whole.splitlines()))
    again = drawn(read(output))
    assert len(again) == 6 and again.items() <= before.items()
    seeded = tmp_path / "seeded.jsonl"
    call("sample", prompts, "--output", seeded, *other, "--seed", 1)
    assert drawn(read(seeded)) != again


def test_at_temperature_0_it_is_the_argmax_at_every_step(tmp_path, prompts, call, law):
    output = tmp_path / "greedy.jsonl"
    options = ("--temperature", 0, "--max-completion-length", 6)
    assert call("sample", prompts, "--output", output, *options)[0] == 0
    for record in read(output):
        ids = record["prompt_ids"]
        for token in record["completion_ids"]:
            assert token == law(ids)[-1].argmax()
            ids = [*ids, token]
        assert record["finish_reason"] == ("stop" if ids[-1] == 0 else "length")
        assert record["logprob_sampler"] == 0.0 and record["temperature"] == 0.0


def test_truncation_shows_in_the_samplers_log_probability(tmp_path, prompts, call, law):
    output = tmp_path / "cut.jsonl"
    options = ("--temperature", 0.7, "--top-k", 3)
    assert call("sample", prompts, "--output", output, *DRAW, *options)[0] == 0
    for record in read(output):
        prompt, drawn = record["prompt_ids"], record["completion_ids"]
        rows = law([*prompt, *drawn])[len(prompt) - 1 : -1]
        base = own = 0.0
        for row, token in zip(rows, drawn, strict=True):
            warm = np.where(row >= np.sort(row)[-3], row / 0.7, -np.inf)
            base += row[token]
            own += warm[token] - np.log(np.exp(warm).sum())
        assert record["logprob_base"] == pytest.approx(base, abs=2e-5)
        assert record["logprob_sampler"] == pytest.approx(own, abs=2e-5)


def test_a_finished_run_says_so_and_reads_no_weights(
    tmp_path, prompts, call, monkeypatch
):
    output = tmp_path / "out.jsonl"
    status, said = call("sample", prompts, "--output", output, *DRAW)
    assert status == 0
    told = re.search(r"15 responses, (\S+) tokens and (\S+) nats each, (\d+) cut", said)
    assert told and re.search(
        r"; \d+ tokens in \d+\.\d s besides compiling, [\d,]+/s\n", said
    )
    records = read(output)
    assert float(told[1]) == pytest.approx(
        np.mean([r["num_tokens"] for r in records]), abs=0.06
    )
    assert float(told[2]) == pytest.approx(
        np.mean([r["logprob_base"] for r in records]), abs=6e-5
    )
    assert int(told[3]) == sum(r["finish_reason"] == "length" for r in records)
    monkeypatch.setattr(huggingface, "load", None)
    before = output.stat().st_mtime_ns
    status, said = call("sample", prompts, "--output", output, *DRAW)
    assert status == 0 and f"{output} is finished: 15 responses" in said
    assert output.stat().st_mtime_ns == before


def _changed(path):
    path.write_bytes(path.read_bytes().replace(b"1.5", b"2.5"))
    return path


def test_other_inputs_or_weights_are_another_run(
    tmp_path, prompts, call, checkpoint, whole
):
    output = tmp_path / "out.jsonl"
    assert call("sample", prompts, "--output", output, *DRAW)[0] == 0
    weights = checkpoint.directory / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        status, said = call("sample", prompts, "--output", output, *DRAW)
    finally:
        weights.write_bytes(content)
    assert status == 2 and "model/model.safetensors: " in said
    for changes, name in (((), "input"), (("--seed", 3), "seed")):
        given = prompts if changes else _changed(prompts)
        status, said = call("sample", given, "--output", output, *DRAW, *changes)
        assert status == 2 and f"jsharp sample: {name}: {output} was begun" in said
        prompts = write(tmp_path / "prompts.jsonl", PROMPTS)
    assert output.read_bytes() == whole
    assert call("sample", prompts, "--output", output, *DRAW)[0] == 0


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            KeyboardInterrupt(),
            130,
            "interrupted; without --overwrite the same command goes on",
        ),
        (OSError(errno.ENOSPC, "No space"), 1, "out.jsonl: [Errno 28] No space"),
    ],
)
def test_what_stops_it_is_said_and_it_goes_on(
    tmp_path, prompts, call, whole, monkeypatch, error, status, message
):
    append, output = stream.Output.append, tmp_path / "out.jsonl"

    def failing(self, records):
        if self.found.chunks or output.stat().st_size:
            raise error
        append(self, records)

    monkeypatch.setattr(stream.Output, "append", failing)
    found, said = call("sample", prompts, "--output", output, *DRAW)
    assert found == status and message in said
    assert output.read_bytes() == whole[: output.stat().st_size] != b""
    monkeypatch.undo()
    assert call("sample", prompts, "--output", output, *DRAW)[0] == 0
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("[1]", "line 2: expected a JSON object"),
        ('{"prompt": "ab"', "line 2: expected a JSON object"),
        ('{"prompt": "abx"}', "line 2: prompt: no token for ['x']"),
        ('{"prompt": ""}', "line 2: prompt: expected a string that is not empty"),
        ('{"prompt": "a", "id": "first"}', "line 2: id: expected a new one"),
        ('{"prompt": "a", "seed": 3}', "line 2: seed: the output has such a field"),
        ('{"prompt": "a", "x": 1e999}', "line 2: expected finite numbers"),
        ('{"prompt": "abcdabcdabcdabcd abcdabcdabc"}', "line 2: prompt: expected at"),
        ('{"prompt": [{"role": "user", "content": "a"}]}', "line 2: prompt: no chat"),
        ('{"prompt_ids": [7]}', "line 2: prompt_ids: expected ids from 0 to 6, got 7"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_written(
    tmp_path, call, record, message
):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "first", "prompt": "a"}\n' + record + "\n")
    options = ("--output", tmp_path / "out.jsonl", "--max-completion-length", 6)
    status, said = call("sample", path, *options)
    assert status == 2 and f"jsharp sample: {path}, {message}" in said
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--temperature", -1, "temperature: expected a number >= 0, got -1"),
        ("--temperature", "nan", "temperature: expected a number >= 0, got nan"),
        ("--top-p", 0, "top_p: expected a number in (0, 1], got 0"),
        ("--top-k", -1, "top_k: expected an integer >= 0, got -1"),
        ("--num-generations", 0, "--num-generations must be at least 1, found 0"),
        ("--chunk-size", 0, "--chunk-size must be at least 1, found 0"),
        ("--seed", -1, "--seed must be 0 to 2^31 - 1, found -1"),
        ("--limit", 0, "--limit must be above 0, found 0"),
        ("--max-completion-length", 32, "leave room for a prompt in the model's 32"),
        ("--chat-template-kwargs", "[]", "must be a JSON object, found []"),
    ],
)
def test_a_bad_option_is_named(tmp_path, prompts, call, option, value, message):
    given = ("--max-completion-length", 6, option, value)
    status, said = call("sample", prompts, "--output", tmp_path / "out", *given)
    assert status == 2 and message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("prompts.jsonl", "--output must be another file than INPUT"),
        ("packed.jsonl.gz", "--output must be a file that is not packed"),
        (".", "--output must be a file, not a directory"),
    ],
)
def test_a_bad_output_is_refused(tmp_path, prompts, call, output, message):
    before = prompts.read_bytes()
    given = ("--output", tmp_path / output, "--overwrite")
    status, said = call("sample", prompts, *given, "--max-completion-length", 6)
    assert status == 2 and message in said
    assert list(tmp_path.iterdir()) == [prompts] and prompts.read_bytes() == before


def test_a_text_goes_into_the_chat_template_where_asked(tmp_path, checkpoint):
    for path in checkpoint.directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    template = "{% for m in messages %}{{ m.role[0] == 'u' and 'd' }}{{ m.content }}"
    (tmp_path / "chat_template.jinja").write_text(template + "c{% endfor %}")
    text, message = {"prompt": "ab"}, {"prompt": [{"role": "user", "content": "ab"}]}
    ids = {"prompt_ids": [3, 3]}
    path = write(tmp_path / "prompts.jsonl", [text, message, ids])
    read_ids = lambda **options: [
        list(entry.ids)
        for entry in entries.read_prompts(
            Settings(input=path, output=tmp_path / "out", **options),
            tmp_path,
            room=6,
            taken=(),
        )
    ]
    encode = checkpoint.tokenizer.encode
    assert read_ids() == [encode("ab"), encode("dabc"), [3, 3]]
    assert read_ids(chat=True) == [encode("dabc"), encode("dabc"), [3, 3]]


def test_greedy_has_one_response(tmp_path, prompts, call):
    options = ("--temperature", 0, "-n", 2, "--max-completion-length", 6)
    status, said = call("sample", prompts, "--output", tmp_path / "out", *options)
    assert status == 2 and "--num-generations must be 1 at temperature 0" in said


def test_a_damaged_config_is_named(tmp_path, prompts, capsys):
    (tmp_path / "config.json").write_text("[]")
    words = [prompts, "--output", tmp_path / "out", "--model-name-or-path", tmp_path]
    assert sample.main(list(map(str, words))) == 2
    at = tmp_path / "config.json"
    assert f"sample: {at}: expected an object" in capsys.readouterr().err


def test_what_is_not_there_is_named(tmp_path, prompts, call):
    output = ("--output", tmp_path / "out", "--max-completion-length", 6)
    missing = tmp_path / "none.jsonl"
    status, said = call("sample", missing, *output)
    assert status == 2 and f"no file {missing}" in said
    words = [prompts, *output, "--model-name-or-path", tmp_path]
    assert sample.main(list(map(str, words))) == 2


def test_a_float16_checkpoint_needs_a_dtype(tmp_path, prompts, checkpoint, capsys):
    """As the Llama 2 releases are: refused by name, read with --dtype."""
    model = tmp_path / "half"
    shutil.copytree(checkpoint.directory, model)
    raw = json.loads((model / "config.json").read_text())
    half = {**raw, "dtype": "float16", "torch_dtype": "float16"}
    (model / "config.json").write_text(json.dumps(half))
    args = [prompts, "--output", tmp_path / "out.jsonl", *DRAW, "--limit", 1]
    args = [str(a) for a in (*args, "--model-name-or-path", model)]
    assert sample.main(args) == 2
    assert "dtype: expected" in capsys.readouterr().err
    assert sample.main([*args, "--dtype", "float32"]) == 0
    assert len(read(tmp_path / "out.jsonl")) == 3
