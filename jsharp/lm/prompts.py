"""Prompts and completions from JSON lines: every line is good, or an error names it.

    {"prompt": "Once upon"}
    {"id": "q7", "prompt": [{"role": "user", "content": "1+1?"}], "answer": "2"}
    {"prompt": "1+1=", "completion": "2"}
    {"prompt_ids": [5, 9], "completion_ids": [7, 1], "completion": "2"}

A text is encoded with the special tokens that its tokenizer adds, messages by the chat
template. Ids that a record already has are taken as they are: a sampled response is
never tokenised again.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jsharp.lm.chat import Chat

_SHOWN = 20  # bad lines that one error lists


class Prompt(NamedTuple):
    """A prompt of a file; `raw` is the whole object, with every other key."""

    line: int  # from 1
    id: str
    prompt: str | list[dict[str, Any]] | None  # None where only its ids are given
    ids: list[int]
    raw: dict[str, Any]


class Completion(NamedTuple):
    """A prompt, and a completion of it to be scored."""

    prompt: Prompt
    completion: str | None  # None where only its ids are given
    ids: list[int]


Record = TypeVar("Record", Prompt, Completion)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How the lines of a file become ids, and what is refused.

    `as_message` takes a prompt that is a text for one user message; else `special` adds
    the tokenizer's special tokens around it (never around messages);
    `variables` go to the chat template; `vocab_size` is the model's, which may have
    fewer rows than its tokenizer has tokens. Limits that are None refuse nothing.
    """

    chat: Chat
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    vocab_size: int | None = None
    as_message: bool = False
    special: bool = True
    variables: Mapping[str, Any] = field(default_factory=dict)

    def prompts(self, path: str | Path) -> Iterator[Prompt]:
        """The prompts of a .jsonl or .jsonl.gz file, one by one; their ids differ.

        Raises FileNotFoundError, and ValueError at the first bad line, naming file,
        line, field, what was expected and what was found.
        """
        seen: set[str] = set()
        return _raised(self._scan(Path(path), lambda n, raw: self._first(n, raw, seen)))

    def records(
        self, records: Iterable[dict[str, Any]], source: str
    ) -> Iterator[Prompt]:
        """As `prompts`, of objects at hand; `source` names them in errors."""
        seen: set[str] = set()
        for number, raw in enumerate(records, 1):
            try:
                yield self._first(number, raw, seen)
            except ValueError as error:
                raise ValueError(f"{source}, number {number}: {error}") from error

    def completions(self, path: str | Path) -> Iterator[Completion]:
        """As `prompts`, for scoring; one prompt's id may occur many times.

        The text of a completion is encoded by itself, without special tokens: that is
        not always how encode(prompt + completion) continues the prompt's ids. Raises as
        `prompts`.
        """
        return _raised(self._scan(Path(path), self._completion))

    def check(self, path: str | Path, *, completions: bool = False) -> int:
        """Read a whole file once, before work starts; the number of its records.

        Raises FileNotFoundError, and ValueError with one line for each bad line (the
        first 20 of them).
        """
        seen: set[str] = set()
        first = self._scan(Path(path), lambda n, raw: self._first(n, raw, seen))
        scan = self._scan(Path(path), self._completion) if completions else first
        count, bad = 0, []
        for found in scan:
            count += 1
            if isinstance(found, ValueError):
                bad.append(str(found))
            if len(bad) == _SHOWN:
                break
        if bad:
            raise ValueError("\n".join(bad))
        return count

    def _scan(
        self, path: Path, parse: Callable[[int, dict[str, Any]], Record]
    ) -> Iterator[Record | ValueError]:
        """A record, or what is wrong with it, for each line that is not blank."""
        empty = True
        for number, line in _lines(path):
            empty = False
            try:
                yield parse(number, _object(line))
            except ValueError as error:
                yield ValueError(f"{path}, line {number}: {error}")
        if empty:
            yield ValueError(f"{path}: expected at least one record, found none")

    def _first(self, line: int, raw: dict[str, Any], seen: set[str]) -> Prompt:
        prompt = self._prompt(line, raw)
        if prompt.id in seen:
            raise ValueError(f"id: expected a new one, got {prompt.id!r} again")
        seen.add(prompt.id)
        return prompt

    def _prompt(self, line: int, raw: dict[str, Any]) -> Prompt:
        given = raw.get("prompt")
        name = raw.get("id", line)
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise _wrong("id", "an integer, or a string that is not empty", name)
        if raw.get("prompt_ids") is not None:
            if not isinstance(given, str | list | None):
                raise _wrong("prompt", "a string or a list of messages", given)
            ids = self._ids("prompt_ids", raw["prompt_ids"], self.max_prompt_tokens)
        else:
            encoded = _named("prompt", lambda: self._encode(given, raw.get("tools")))
            ids = self._ids("prompt", encoded, self.max_prompt_tokens)
        return Prompt(line, str(name), given, ids, raw)

    def _completion(self, line: int, raw: dict[str, Any]) -> Completion:
        prompt = self._prompt(line, raw)
        text, limit = raw.get("completion"), self.max_completion_tokens
        if text is not None and not isinstance(text, str):
            raise _wrong("completion", "a string", text)
        if raw.get("completion_ids") is not None:
            ids = self._ids("completion_ids", raw["completion_ids"], limit)
        elif text is None:
            raise ValueError(
                "completion: expected it, or completion_ids, found neither"
            )
        else:
            encoded = _named("completion", lambda: self.chat.tokenizer.encode(text))
            ids = self._ids("completion", encoded, limit)
        return Completion(prompt, text, ids)

    def _encode(self, prompt: Any, tools: Any) -> list[int]:
        if isinstance(prompt, list):
            _check_messages(prompt)
            if tools is not None and not isinstance(tools, list):
                raise ValueError(f"expected tools as a list, got {tools!r:.80}")
            return self.chat.encode(prompt, tools=tools, **self.variables)
        if not isinstance(prompt, str) or not prompt:
            expected = "expected a string that is not empty or a list of messages"
            raise ValueError(f"{expected}, got {prompt!r:.80}")
        if self.as_message:
            message = {"role": "user", "content": prompt}
            return self.chat.encode([message], tools=tools, **self.variables)
        tokenizer = self.chat.tokenizer
        ids = tokenizer.encode(prompt, special=self.special)
        begin = tokenizer.special_tokens.get("bos_token")
        if begin and prompt.startswith(begin) and ids[:2] == 2 * [tokenizer.id(begin)]:
            raise ValueError(
                f"expected no {begin!r} at its head, which encoding adds, got two; "
                "leave it out, or read without special tokens"
            )
        return ids

    def _ids(self, name: str, found: Any, limit: int | None) -> list[int]:
        size = self.vocab_size
        if not isinstance(found, list) or any(type(i) is not int for i in found):
            raise _wrong(name, "a list of integers", found)
        if not found:
            raise ValueError(f"{name}: expected at least 1 token, got none")
        if limit is not None and len(found) > limit:
            raise ValueError(
                f"{name}: expected at most {limit} tokens, got {len(found)}"
            )
        wrong = [i for i in found if i < 0 or (size is not None and i >= size)]
        if wrong:
            top = "" if size is None else f" to {size - 1}"
            raise ValueError(f"{name}: expected ids from 0{top}, got {wrong[0]}")
        return found


def _check_messages(messages: list[Any]) -> None:
    if not messages:
        raise ValueError("expected at least one message, got none")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _wrong(f"message {i}", "an object", message)
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise _wrong(f"message {i}: role", "a string that is not empty", role)
        if content is None and message.get("tool_calls"):
            continue
        if not isinstance(content, str | list):
            raise _wrong(
                f"message {i}: content", "a string or a list of parts", content
            )
    if messages[-1]["role"] == "assistant":
        raise ValueError("the last message is an answer: expected one to be answered")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if text.strip():
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, after line {number}: torn gzip: {error}") from error


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(
            line.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected a JSON object, got {line[:60]!r}: {error}"
        ) from error
    if not isinstance(raw, dict):
        raise ValueError(f"expected a JSON object, got {raw!r:.80}")
    return raw


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {again!r} occurs twice")
    return found


def _raised(found: Iterator[Record | ValueError]) -> Iterator[Record]:
    for each in found:
        if isinstance(each, ValueError):
            raise each
        yield each


def _named(name: str, encode: Callable[[], list[int]]) -> list[int]:
    try:
        return encode()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _wrong(name: str, expected: str, found: Any) -> ValueError:
    return ValueError(f"{name}: expected {expected}, got {found!r:.80}")
