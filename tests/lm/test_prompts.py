"""Prompts files: what is read, and one clear error for each bad line."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers

from jsharp.lm.chat import Chat
from jsharp.lm.prompts import Completion, Prompt, Reader
from jsharp.lm.tokenizer import Tokenizer, character_tokenizer

FIXTURES = Path(__file__).parent / "fixtures" / "tokenizers"
USER = {"role": "user", "content": "hi"}


def reader(name: str = "llama3", **options) -> Reader:
    folder = FIXTURES / name
    return Reader(chat=Chat.load(folder, Tokenizer.load(folder)), **options)


@pytest.fixture
def llama3():
    return reader()


def written(folder: Path, *lines, name: str = "prompts.jsonl") -> Path:
    """A file of lines: records, or the bytes of a line as they are."""
    rows = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in lines]
    path = folder / name
    open_ = gzip.open if name.endswith(".gz") else open
    with open_(path, "wb") as file:
        file.write(b"".join(row + b"\n" for row in rows))
    return path


def test_texts_and_messages_become_the_ids_of_the_model(llama3, tmp_path):
    records = [
        {"prompt": "Once"},
        {"id": "q7", "prompt": [USER], "answer": "2", "level": [1]},
        {"prompt": "given", "prompt_ids": [5, 9], "answer": 2.5},
        {"prompt_ids": [3]},
    ]
    found = list(llama3.prompts(written(tmp_path, *records)))
    tokenizer, begin = llama3.chat.tokenizer, llama3.chat.tokenizer.special_id
    assert [p.id for p in found] == ["1", "q7", "3", "4"]
    assert [p.line for p in found] == [1, 2, 3, 4]
    assert [p.raw for p in found] == records
    assert [p.raw.get("answer") for p in found] == [None, "2", 2.5, None]
    assert [p.prompt for p in found] == ["Once", [USER], "given", None]
    assert found[0].ids == [begin("bos_token"), *tokenizer.encode("Once")]
    assert found[1].ids == llama3.chat.encode([USER])
    assert [p.ids for p in found[2:]] == [[5, 9], [3]]


def test_records_at_hand_are_read_as_those_of_a_file(llama3, tmp_path):
    records = [{"prompt": "Once"}, {"id": "q7", "prompt": [USER], "answer": "2"}]
    found = list(llama3.records(records, "task x"))
    assert found == list(llama3.prompts(written(tmp_path, *records)))
    for bad in ({"prompt": ""}, {"id": "1", "prompt": "again"}, {"prompt_ids": [-1]}):
        with pytest.raises(ValueError, match="^task x, number 2: ") as told:
            list(llama3.records([records[0], bad], "task x"))
        path = written(tmp_path, records[0], bad)
        with pytest.raises(ValueError) as same:
            list(llama3.prompts(path))
        assert str(told.value) == str(same.value).replace(
            f"{path}, line", "task x, number"
        )


def test_special_tokens_can_be_left_out(tmp_path):
    path = written(tmp_path, {"prompt": "Once"})
    (bare,) = reader(special=False).prompts(path)
    (whole,) = reader().prompts(path)
    assert whole.ids[1:] == bare.ids


def test_tools_and_variables_reach_the_template(tmp_path):
    tools = [{"type": "function", "function": {"name": "add"}}]
    path = written(tmp_path, {"prompt": [USER], "tools": tools})
    qwen = reader("qwen2", variables={"enable_thinking": False})
    (found,) = qwen.prompts(path)
    text = qwen.chat.tokenizer.decode(found.ids)
    assert "<tools>" in text and text.endswith("<think>\n\n</think>\n\n")


def test_a_completion_keeps_the_ids_that_were_sampled(llama3, tmp_path):
    tokenizer = llama3.chat.tokenizer
    text = "Hello"
    cut = [i for c in text for i in tokenizer.encode(c)]
    assert tokenizer.decode(cut) == text and tokenizer.encode(text) != cut
    path = written(
        tmp_path,
        {"id": "a", "prompt": "x", "completion": text, "completion_ids": cut},
        {"id": "a", "prompt": "x", "completion": text},
        {"prompt_ids": [4], "completion_ids": [7, 1]},
    )
    found = list(llama3.completions(path))
    assert [f.ids for f in found] == [cut, tokenizer.encode(text), [7, 1]]
    assert [f.completion for f in found] == [text, text, None]
    assert [f.prompt.id for f in found] == ["a", "a", "3"]
    assert all(type(f) is Completion and type(f.prompt) is Prompt for f in found)


def test_files_are_streamed_plain_or_packed(llama3, tmp_path):
    """The first record is there although the line after it is bad."""
    for name in ("p.jsonl", "p.jsonl.gz"):
        path = written(tmp_path, {"prompt": "a"}, b"{", name=name)
        records = llama3.prompts(path)
        assert next(records).prompt == "a"
        with pytest.raises(ValueError, match=f"{name}, line 2: expected a JSON object"):
            next(records)


def test_blank_lines_hold_no_record_but_are_counted(llama3, tmp_path):
    mark = b"\xef\xbb\xbf"
    path = written(tmp_path, mark + b'{"prompt": "a"}\r', b"", b"  ", {"prompt": "b"})
    assert [p.id for p in llama3.prompts(path)] == ["1", "4"]
    assert llama3.check(path) == 2


def test_unicode_line_separators_do_not_end_a_line(llama3, tmp_path):
    text = "a\u2028b\x85c\x0bd"
    path = written(tmp_path, json.dumps({"prompt": text}, ensure_ascii=False).encode())
    assert [p.prompt for p in llama3.prompts(path)] == [text]


GOOD = {"prompt": "a"}
CASES = [
    (b"{", "expected a JSON object, got b'{"),
    (b"[1]", r"expected a JSON object, got \[1\]"),
    (b'"text"', "expected a JSON object, got 'text'"),
    (b'{"prompt": NaN}', "NaN is not JSON"),
    (b'{"prompt": "a", "prompt": "b"}', "the key 'prompt' occurs twice"),
    (b'{"prompt": "\xff"}', "expected a JSON object, .*'utf-8' codec"),
    (b"[" * 100_000, "expected a JSON object, .*recursion"),
    (b'{"prompt": "a\\ud800"}', r"prompt: no token for \[.*ud800"),
    ({}, "prompt: expected a string that is not empty or a list of messages, got None"),
    ({"prompt": ""}, "prompt: expected a string that is not empty .*, got ''"),
    ({"prompt": 3}, "prompt: expected a string that is not empty .*, got 3"),
    ({"prompt": []}, "prompt: expected at least one message, got none"),
    ({"prompt": ["a"]}, "prompt: message 0: expected an object, got 'a'"),
    ({"prompt": [{"content": "a"}]}, "message 0: role: expected a string .*, got None"),
    ({"prompt": [USER, {"role": "user"}]}, "message 1: content: expected a string or"),
    ({"prompt": [USER, {"role": "assistant", "content": "a"}]}, "prompt: the last "),
    ({"prompt": [USER], "tools": "add"}, "prompt: expected tools as a list, got 'add'"),
    ({"prompt": "<|begin_of_text|>a"}, "prompt: expected no '<.begin_of_text.>' at"),
    ({"prompt": "a " * 40}, "prompt: expected at most 30 tokens, got "),
    ({"prompt": "a", "id": 1.5}, "id: expected an integer, or a string .* got 1.5"),
    ({"prompt": "a", "id": True}, "id: expected an integer, or a string .* got True"),
    ({"prompt": "a", "id": ""}, "id: expected an integer, or a string .* got ''"),
    ({"prompt": "a", "id": 1}, "id: expected a new one, got '1' again"),
    ({"prompt": "a", "id": "1"}, "id: expected a new one, got '1' again"),
    ({"prompt": 3, "prompt_ids": [3]}, "prompt: expected a string or a list of me"),
    ({"prompt_ids": "3"}, "prompt_ids: expected a list of integers, got '3'"),
    ({"prompt_ids": [True]}, r"prompt_ids: expected a list of integers, got \[True\]"),
    ({"prompt_ids": [1.0]}, r"prompt_ids: expected a list of integers, got \[1.0\]"),
    ({"prompt_ids": []}, "prompt_ids: expected at least 1 token, got none"),
    ({"prompt_ids": [0, 500]}, "prompt_ids: expected ids from 0 to 499, got 500"),
    ({"prompt_ids": [-1]}, "prompt_ids: expected ids from 0 to 499, got -1"),
    ({"prompt_ids": [1] * 31}, "prompt_ids: expected at most 30 tokens, got 31"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), CASES)
def test_a_bad_line_is_named(tmp_path, line, message):
    """By the reader and by the check, the good lines around it notwithstanding."""
    strict = reader(max_prompt_tokens=30, vocab_size=500)
    path = written(tmp_path, GOOD, line, GOOD)
    for read in (strict.check, lambda p: list(strict.prompts(p))):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, line 2: ")
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_the_limits_themselves_are_allowed(tmp_path):
    limits = {"max_prompt_tokens": 3, "max_completion_tokens": 2, "vocab_size": 500}
    ids = {"prompt_ids": [0, 1, 499], "completion_ids": [499, 0]}
    path = written(tmp_path, ids)
    assert reader(**limits).check(path) == 1
    assert reader(**limits).check(path, completions=True) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "completion: expected it, or completion_ids, found neither"),
        ({"completion": 3}, "completion: expected a string, got 3"),
        ({"completion": ""}, "completion: expected at least 1 token, got none"),
        ({"completion": "a" * 90}, "completion: expected at most 4 tokens, got"),
        ({"completion_ids": [500]}, "completion_ids: expected ids from 0 to 499"),
        ({"completion_ids": []}, "completion_ids: expected at least 1 token, got none"),
        ({"completion": 3, "completion_ids": [1]}, "completion: expected a string"),
        ({"completion": "a", "prompt": ""}, "prompt: expected a string"),
    ],
)  # fmt: skip
def test_a_bad_completion_is_named(tmp_path, fields, message):
    strict = reader(max_completion_tokens=4, vocab_size=500)
    path = written(tmp_path, GOOD | {"completion": "b"}, GOOD | fields)
    with pytest.raises(ValueError, match=f"prompts.jsonl, line 2: {message}"):
        list(strict.completions(path))
    with pytest.raises(ValueError, match=f"prompts.jsonl, line 2: {message}"):
        strict.check(path, completions=True)


def test_a_text_of_which_nothing_is_left_is_refused(tmp_path):
    """Without special tokens around it, a text may encode to nothing."""
    tokenizer = Tokenizer.load(FIXTURES / "phi3")
    tokenizer.inner.normalizer = None
    tokenizer.inner.model.byte_fallback = False
    bare = Reader(chat=Chat(tokenizer, {}), special=False)
    tokenizer.inner.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    with pytest.raises(ValueError, match="line 1: prompt: expected at least 1 token"):
        bare.check(written(tmp_path, {"prompt": " "}))


def test_the_templates_own_refusal_has_the_line_of_the_file(tmp_path):
    path = written(tmp_path, {"prompt": [USER]}, {"prompt": [USER, USER]})
    with pytest.raises(ValueError, match="must alternate") as caught:
        reader("mistral").check(path)
    place = f"{path}, line 2: prompt: {FIXTURES / 'mistral' / 'tokenizer_config.json'}"
    assert str(caught.value).startswith(place)


def test_messages_without_a_template_are_refused(tmp_path):
    plain = Reader(chat=Chat(character_tokenizer("abc"), {}))
    path = written(tmp_path, {"prompt": "abc"}, {"prompt": [USER]}, {"prompt": "xyz"})
    with pytest.raises(ValueError) as caught:
        plain.check(path)
    second, third = str(caught.value).split("\n")
    assert "line 2: prompt: no chat template" in second
    assert "line 3: prompt: no token for ['x', 'y', 'z'] in 'xyz'" in third


def test_the_check_lists_the_first_bad_lines_and_stops(llama3, tmp_path):
    path = written(tmp_path, *[GOOD, {}] * 50)
    with pytest.raises(ValueError) as caught:
        llama3.check(path)
    lines = str(caught.value).split("\n")
    assert len(lines) == 20 and lines[-1].startswith(f"{path}, line 40: prompt")


def test_no_file_no_record_a_torn_file(llama3, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*absent.jsonl"):
        llama3.check(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="empty.jsonl: expected at least one record"):
        llama3.check(written(tmp_path, b"", name="empty.jsonl"))
    path = written(tmp_path, *[GOOD | {"n": i} for i in range(999)], name="p.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="p.jsonl.gz, after line .*: torn gzip"):
        llama3.check(path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match="p.jsonl.gz, after line 0: torn gzip"):
        llama3.check(path)


def test_reading_holds_few_records_at_a_time(llama3, tmp_path):
    """A reader that had taken in the whole file would not see it shrink."""
    path = written(tmp_path, *[{"prompt": "a" * 100}] * 5000)
    records = llama3.prompts(path)
    assert len(list(itertools.islice(records, 10))) == 10
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected a JSON object"):
        list(records)
