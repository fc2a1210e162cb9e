"""The options that commands share: which model, how prompts become ids, the files."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jsharp.commands import model
from jsharp.commands.stream import Identity

Kind = Literal["auto", "float32", "bfloat16"]

_WHERE = ("input", "output", "overwrite")  # they do not decide what is written


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which model to ask, and how prompts become its ids."""

    model_name_or_path: str = model.EMBEDDED
    """A checkpoint directory; `embedded` is the small model that ships with jsharp."""
    dtype: Kind = "auto"
    """Type of the weights; auto: as config.json says."""
    long_context: bool = False
    """Use a longrope model's table for positions beyond its original length."""
    chat: bool = False
    """Put a prompt that is a text into the chat template, as one user message."""
    add_special_tokens: bool = True
    """Add the tokenizer's special tokens (such as <s>) to a prompt that is a text."""
    chat_template_kwargs: str = "{}"
    """JSON for the template of message prompts: '{"enable_thinking": false}'."""

    @property
    def weights(self) -> dict[str, Any]:
        """The options of `huggingface.load`."""
        dtype = None if self.dtype == "auto" else self.dtype
        return {"dtype": dtype, "long_context": self.long_context}

    @property
    def template_variables(self) -> dict[str, Any]:
        """`chat_template_kwargs` as an object; ValueError where it is none."""
        found = self.chat_template_kwargs
        try:
            return {**json.loads(found)}
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"--chat-template-kwargs must be a JSON object, found {found}"
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(ModelSettings):
    """What to read, what to write, which model to ask."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """A file of JSON lines (.jsonl or .jsonl.gz), one record each."""
    output: Path
    """The JSONL file to write; OUTPUT.run.json beside it pins the settings."""
    limit: int | None = None
    """Only the first LIMIT records of the input."""
    overwrite: bool = False
    """Start anew, whatever the output holds; without it a run goes on."""

    def check_output(self) -> None:
        """ValueError where the output is no file that may be written."""
        output = self.output
        require("output", not output.is_dir(), "a file, not a directory", output)
        require("output", output.suffix != ".gz", "a file that is not packed", output)
        above = next(path for path in output.absolute().parents if path.exists())
        expected = f"a path where {above} is a directory"
        require("output", above.is_dir(), expected, output)
        known = output.exists() and self.input.exists()
        other = not (known and output.samefile(self.input))
        require("output", other, "another file than INPUT", output)

    def identity(self, command: str, directory: Path) -> Identity:
        """All that decides the output's bytes, device and versions apart."""
        options = dataclasses.asdict(self)
        return {
            "command": command,
            **{k: v for k, v in options.items() if k not in _WHERE},
            "input": model.digest(self.input),
            **model.fingerprint(directory),
        }


def require(name: str, holds: bool, expected: str, found: Any) -> None:
    """ValueError in the spelling of the command line, unless `holds`."""
    if not holds:
        option = name.replace("_", "-")
        raise ValueError(f"--{option} must be {expected}, found {found}")
