"""The records of an input file, checked, with the ids that a model is fed."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jsharp.commands.settings import ModelSettings, Settings, require
from jsharp.commands.stream import Record
from jsharp.lm import huggingface
from jsharp.lm.chat import Chat
from jsharp.lm.config import TransformerConfig
from jsharp.lm.prompts import Completion, Prompt, Reader
from jsharp.lm.tokenizer import Tokenizer

_OWN = ("id", "prompt", "prompt_ids")  # what an output says of a prompt in any case


class Entry(NamedTuple):
    """One input record."""

    id: str
    prompt: str | list[dict[str, Any]] | None
    ids: tuple[int, ...]
    raw: Record
    completion: tuple[int, ...] = ()
    is_text: bool = False  # whether the completion was given as a text

    @property
    def extra(self) -> Record:
        """The fields besides those that an output gives of every prompt."""
        return {k: v for k, v in self.raw.items() if k not in _OWN}


def read_prompts(
    settings: Settings, directory: Path, *, room: int, taken: tuple[str, ...]
) -> list[Entry]:
    """The prompts of the input, each with `room` positions left for a response.

    Raises ValueError, naming file, line and field, on a record that is not one, an id
    that comes twice, a field whose name is `taken` by the output, and a prompt that
    leaves less room.
    """
    settings.check_output()
    return prompts_of_file(
        settings,
        directory,
        settings.input,
        limit=settings.limit,
        room=room,
        taken=taken,
    )


def prompts_of_file(
    settings: ModelSettings,
    directory: Path,
    path: Path,
    *,
    limit: int | None,
    room: int,
    taken: tuple[str, ...],
) -> list[Entry]:
    """`read_prompts` of any file."""
    found = _prompt_reader(settings, directory, room).prompts(path)
    return _prompt_entries(found, str(path), "line", limit, taken)


def prompts_of_records(
    settings: ModelSettings,
    directory: Path,
    records: Iterable[Record],
    source: str,
    *,
    limit: int | None,
    room: int,
    taken: tuple[str, ...],
) -> list[Entry]:
    """`read_prompts` of objects at hand; `source` names them in errors."""
    found = _prompt_reader(settings, directory, room).records(records, source)
    return _prompt_entries(found, source, "number", limit, taken)


def _prompt_reader(settings: ModelSettings, directory: Path, room: int) -> Reader:
    config = huggingface.read_config(directory, **settings.weights)
    if (longest := config.context_length - room) < 1:
        raise ValueError(
            f"--max-completion-length must leave room for a prompt in the model's "
            f"{config.context_length} positions, found {room}"
        )
    return _reader(settings, directory, config, max_prompt_tokens=longest)


def _prompt_entries(
    found: Iterable[Prompt],
    source: str,
    unit: str,
    limit: int | None,
    taken: tuple[str, ...],
) -> list[Entry]:
    return [
        Entry(each.id, each.prompt, tuple(each.ids), each.raw)
        for each in _checked(found, source, unit, limit, taken)
    ]


def read_responses(
    settings: Settings, directory: Path, *, more: int, taken: tuple[str, ...]
) -> list[Entry]:
    """The prompts and responses of the input, where an id may come again.

    `more` tokens will follow a completion that is given as text. Raises ValueError as
    `read_prompts` does, and where num_tokens is not the length of the completion.
    """
    settings.check_output()
    config = huggingface.read_config(directory, **settings.weights)
    reader = _reader(settings, directory, config)
    entries = []
    source, found = str(settings.input), reader.completions(settings.input)
    for prompt, _, ids in _checked(found, source, "line", settings.limit, taken):
        is_text = prompt.raw.get("completion_ids") is None
        size = len(ids) + more * is_text
        at = f"{settings.input}, line {prompt.line}"
        if prompt.raw.get("num_tokens", size) != size:
            told = prompt.raw["num_tokens"]
            raise ValueError(f"{at}: num_tokens: expected {size}, found {told!r}")
        if len(prompt.ids) + size > config.context_length:
            raise ValueError(
                f"{at}: expected prompt and completion to fit the model's "
                f"{config.context_length} positions, found {len(prompt.ids)} + {size}"
            )
        entries.append(
            Entry(
                prompt.id,
                prompt.prompt,
                tuple(prompt.ids),
                prompt.raw,
                tuple(ids),
                is_text,
            )
        )
    return entries


def _reader(
    settings: ModelSettings, directory: Path, config: TransformerConfig, **limits: int
) -> Reader:
    chat = Chat.load(directory, Tokenizer.load(directory))
    return Reader(
        chat=chat,
        vocab_size=config.vocab_size,
        as_message=settings.chat,
        special=settings.add_special_tokens,
        variables=settings.template_variables,
        **limits,
    )


def _checked(
    found: Iterable[Prompt] | Iterable[Completion],
    source: str,
    unit: str,
    limit: int | None,
    taken: tuple[str, ...],
) -> Iterable[Any]:
    """The records up to the limit, each of which an output line can hold."""
    require("limit", limit is None or limit > 0, "above 0", limit)
    for each in itertools.islice(found, limit):
        prompt = each if isinstance(each, Prompt) else each.prompt
        at = f"{source}, {unit} {prompt.line}"
        for name in taken:
            if name in prompt.raw:
                raise ValueError(
                    f"{at}: {name}: the output has such a field; rename it"
                )
        try:
            json.dumps(prompt.raw, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"{at}: expected finite numbers: {error}") from error
        yield each
