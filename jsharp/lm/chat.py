"""Messages to the text that a model was trained on, by its checkpoint's chat template.

    messages [{role, content}, ...] -> render -> text -> encode -> ids

As `apply_chat_template` of transformers 5: templates of files of their own come before
those of tokenizer_config.json, and the rendered text is encoded without special tokens
around it, because the template writes them itself.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from jsharp.lm import sandbox
from jsharp.lm.tokenizer import Tokenizer
from jsharp.lm.tokenizer_files import CONFIG, TEMPLATE, TEMPLATES, read_object

_REASONING = ("reasoning_content", "thinking", "reasoning")
_NAME = "chat template"  # jinja2's name of the source, found again in tracebacks

Message = Mapping[str, Any]


class ChatTemplate:
    """One jinja template, compiled when built.

    Raises ValueError, naming `file` and the line, where the source does not parse.
    """

    def __init__(self, source: str, *, file: str):
        self.file = file
        self.environment = sandbox.Sandbox()
        try:
            code = self.environment.compile(source, filename=_NAME)
        except (TemplateSyntaxError, RecursionError, OverflowError) as error:
            known = isinstance(error, TemplateSyntaxError)
            line = f", line {error.lineno}" if known else ""
            raise ValueError(f"{file}{line}: not a template: {error}") from error
        globals_ = self.environment.make_globals(None)
        kind = self.environment.template_class
        self.template = kind.from_code(self.environment, code, globals_)

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text; ValueError, naming the file and the line, where rendering fails."""
        self.environment.start()
        try:
            return self.template.render(variables)
        except Exception as error:  # a template can raise anything that Python can
            name = type(error).__name__
            said = str(error) if name == "TemplateError" else f"{name}: {error}"
            raise ValueError(f"{self.file}{_line(error)}: {said}") from error


class Chat(NamedTuple):
    """A tokenizer with the chat templates of its checkpoint, by name."""

    tokenizer: Tokenizer
    templates: dict[str, ChatTemplate]

    @classmethod
    def load(cls, directory: str | Path, tokenizer: Tokenizer) -> "Chat":
        """Read and compile the templates of a directory, of which there may be none.

        Raises ValueError, naming the file, where one is damaged.
        """
        found = _sources(Path(directory))
        return cls(
            tokenizer, {n: ChatTemplate(s, file=f) for n, (s, f) in found.items()}
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        generation: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The text of a conversation, with the header of an answer where `generation`.

        `variables` are what else a template asks for (`enable_thinking=False`). Raises
        ValueError without messages or a template, and what the template raises.
        """
        if not messages:
            raise ValueError("expected at least one message, got none")
        named = "tool_use" if tools is not None and "tool_use" in self.templates else ""
        template = self.templates.get(named or "default")
        if template is None:
            raise ValueError(
                f"no chat template: expected {TEMPLATE}, or chat_template in "
                f"{CONFIG}, found {sorted(self.templates)}"
            )
        given = {
            **self.tokenizer.special_tokens,
            "messages": [_message(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": generation,
            **variables,
        }
        return template.render(_plain(given))

    def encode(
        self,
        messages: Sequence[Message],
        *,
        generation: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> list[int]:
        """The ids of `render`; nothing is added, so no second begin token."""
        text = self.render(messages, generation=generation, tools=tools, **variables)
        return self.tokenizer.encode(text)


def _message(message: Message) -> dict[str, Any]:
    """Without empty fields, and the reasoning under each name that templates read."""
    found = {key: value for key, value in message.items() if value is not None}
    reasoning = next((found[key] for key in _REASONING if key in found), None)
    if reasoning is None:
        return found
    return {"thinking": reasoning, **found, "reasoning_content": reasoning}


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """A copy in the types of JSON: a template reaches no method of the caller's."""
    try:
        return json.loads(json.dumps(given))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected messages in JSON: {error}") from error


def _line(error: BaseException) -> str:
    """The line of the template where it failed: of the innermost frame that is one."""
    line, frame = "", error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == _NAME:
            line = f", line {frame.tb_lineno}"
        frame = frame.tb_next
    return line


def _sources(directory: Path) -> dict[str, tuple[str, str]]:
    """The templates by name ("default" where there is one): (source, file)."""
    paths = {
        path.stem: path for path in sorted((directory / TEMPLATES).glob("*.jinja"))
    }
    if (directory / TEMPLATE).is_file():
        paths["default"] = directory / TEMPLATE
    if paths:
        return {n: (path.read_text("utf-8"), str(path)) for n, path in paths.items()}
    path = directory / CONFIG
    found = read_object(path).get("chat_template")
    if isinstance(found, str) or found is None:
        return {} if found is None else {"default": (found, str(path))}
    entries = found if isinstance(found, list) else [found]
    sources: dict[str, tuple[str, str]] = {}
    for entry in entries:
        match entry:
            case {"name": str(name), "template": str(source)}:
                sources[name] = (source, str(path))
    if len(sources) == len(entries):
        return sources
    raise ValueError(
        f"{path}: chat_template: expected a string, or a list of objects with name and "
        f"template, got {found!r:.80}"
    )
