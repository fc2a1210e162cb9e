"""Opening a checkpoint in two steps: what it is, at once; its weights, when needed."""

import hashlib
from pathlib import Path

from jsharp.lm import embedded

EMBEDDED = "embedded"  # the name of the model that ships with jsharp
_DECIDING = ("*.json", "*.jinja", "*.safetensors")  # the files that decide an output


def directory(name: str) -> Path:
    """The directory of a `--model-name-or-path`.

    Raises FileNotFoundError where there is none; nothing is downloaded.
    """
    path = embedded.directory() if name == EMBEDDED else Path(name)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"--model-name-or-path: expected a checkpoint directory on this machine, "
            f"or {EMBEDDED!r}; found no {path / 'config.json'}"
        )
    return path


def fingerprint(path: Path) -> dict[str, str]:
    """A hash of every file of a checkpoint that decides what it computes."""
    found = {file for pattern in _DECIDING for file in path.glob(pattern)}
    return {f"model/{file.name}": digest(file) for file in sorted(found)}


def digest(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
