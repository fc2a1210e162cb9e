"""A killed run's output: taken up at every byte, and nobody else's file touched."""

import json
import os

import pytest

from jsharp.commands import stream
from jsharp.commands.stream import Found, Plan

IDENTITY = {"seed": 0, "top_p": 0.1, "model/config.json": "c0ffee"}
MADE = {"device": "cpu"}
PLAN = Plan(ids=[0, "b", 2, 3, 4], size=2, each=2)


def _records(chunk):
    text = ["é\n", '"\\', "\u2028"]
    return [
        {"id": name, "sample_id": i % 2, "x": 0.1 + i, "text": text[chunk]}
        for i, name in enumerate(PLAN.lines(chunk))
    ]


def _work(path, plan=PLAN, identity=IDENTITY, *, chunks=None, overwrite=False):
    """Append up to `chunks` chunks; the first one that was computed."""
    with stream.hold(path, identity, plan, MADE, overwrite=overwrite) as output:
        begun = output.found.chunks
        for chunk in range(plan.chunks)[begun:chunks]:
            output.append(_records(chunk))
    return begun


@pytest.fixture
def whole(tmp_path):
    """The bytes of a run without a break, and where its chunks end."""
    path = tmp_path / "whole.jsonl"
    _work(path)
    sizes = [sum(len(stream.line(r)) for r in _records(c)) for c in range(3)]
    return path.read_bytes(), [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]


def test_a_plan_cuts_the_input_in_its_order():
    assert PLAN.chunks == 3
    assert [list(PLAN.records(c)) for c in range(3)] == [[0, 1], [2, 3], [4]]
    assert PLAN.lines(0) == [0, 0, "b", "b"] and PLAN.lines(2) == [4, 4]


def test_cut_at_any_byte_the_run_ends_in_the_same_bytes(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # speed only
    content, ends = whole
    path = tmp_path / "cut.jsonl"
    _work(path)
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        wanted = sum(end <= size for end in ends) - 1
        assert stream.find(path, IDENTITY, PLAN, overwrite=False) == Found(
            wanted, ends[wanted]
        )
        assert _work(path) == wanted
        assert path.read_bytes() == content


def test_a_chunk_half_on_the_disk_is_computed_again(tmp_path, whole):
    """A power cut may leave zeros, or a length without its content."""
    content, ends = whole
    path = tmp_path / "zeros.jsonl"
    _work(path)
    lines = content.splitlines(True)
    for torn in (
        content[: ends[1] + 9] + bytes(40),
        b"".join([*lines[:5], bytes(len(lines[5]) - 1) + b"\n", *lines[6:8]]),
    ):
        path.write_bytes(torn)
        assert _work(path) == 1
        assert path.read_bytes() == content


def test_lines_are_as_written_elsewhere(tmp_path):
    record = {"id": "é", "x": 0.1 + 0.2, "y": 1e-300, "n": 3, "text": "\U0001f600"}
    text = stream.line({"z": None, **record})
    assert text.endswith(b"\n") and text.count(b"\n") == 1
    assert text.decode().startswith('{"z": null, "id": "é", "x": 0.30000000000000004')
    assert json.loads(stream.line({"half": "\ud83d"})) == {"half": "\ud83d"}
    with pytest.raises(FloatingPointError, match="id 7: a number is not finite"):
        stream.line({"id": 7, "logprob": float("nan")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed: .* was begun with 0, got 1"),
        ({"top_p": 0.2}, "top_p: .* was begun with 0.1, got 0.2"),
        ({"model/config.json": "bad"}, "model/config.json: .* 'c0ffee', got 'bad'"),
        ({"top_k": 3}, "top_k: .* was begun with None, got 3"),
    ],
)
def test_other_settings_are_refused_and_overwrite_starts_anew(
    tmp_path, whole, change, message
):
    path = tmp_path / "whole.jsonl"
    other = IDENTITY | change
    with pytest.raises(ValueError, match=message):
        stream.find(path, other, PLAN, overwrite=False)
    with pytest.raises(ValueError, match="replace it by --overwrite"):
        _work(path, identity=other)
    assert path.read_bytes() == whole[0]
    assert _work(path, identity=other, overwrite=True, chunks=1) == 0
    assert path.read_bytes() == whole[0][: whole[1][1]]
    assert _work(path, identity=other) == 1
    assert path.read_bytes() == whole[0]


def _other_id(lines):
    return [*lines[:2], lines[2].replace(b'"b"', b'"c"'), *lines[3:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_id, "lines 1 to 4 are not what this run wrote"),
        (lambda lines: lines[4:], "lines 1 to 4 are not what this run wrote"),
        (lambda lines: lines * 2, "expected 10 lines, found more"),
        (lambda lines: [b"\xff\n", *lines[1:]], "lines 1 to 4 are not what"),
    ],
)
def test_a_file_that_was_changed_is_refused_untouched(tmp_path, whole, change, message):
    path = tmp_path / "whole.jsonl"
    changed = b"".join(change(whole[0].splitlines(True)))
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=message):
        _work(path)
    assert path.read_bytes() == changed


def test_a_file_of_no_run_is_refused(tmp_path):
    path = tmp_path / "precious.jsonl"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match="no precious.jsonl.run.json says which run"):
        _work(path)
    assert path.read_text() == "mine\n" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "precious.jsonl.run.json").write_text("[]")
    with pytest.raises(ValueError, match="expected what a run is"):
        _work(path)
    assert path.read_text() == "mine\n"


def test_two_processes_never_write_one_file(tmp_path):
    path = tmp_path / "shared.jsonl"
    with stream.hold(path, IDENTITY, PLAN, MADE, overwrite=False) as output:
        output.append(_records(0))
        with pytest.raises(BlockingIOError, match="another process is writing it"):
            _work(path)
        with pytest.raises(BlockingIOError, match="another process is writing it"):
            _work(path, overwrite=True)
    assert _work(path) == 1


def test_what_it_ran_on_is_kept_once_each(tmp_path):
    path = tmp_path / "made.jsonl"
    for made in (MADE, MADE, {"device": "tpu"}):
        with stream.hold(path, IDENTITY, PLAN, made, overwrite=False) as output:
            if not output.found.chunks:
                output.append(_records(0))
    assert stream.made_before(path) == [MADE, {"device": "tpu"}]
