"""Records of a file of problems: JSON lines, plain or gzipped, or Parquet.

Errors name the file, the line (of JSON) or row (of Parquet), and the field.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

KINDS = (".jsonl", ".jsonl.gz", ".parquet")


class Row(NamedTuple):
    """One record; `at` says where it is, for errors."""

    at: str
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """A field that must be a text with something in it."""
        found = self.fields.get(name)
        if not isinstance(found, str) or not found.strip():
            raise self.wrong(name, "a text that is not empty")
        return found.strip()

    def wrong(self, name: str, expected: str) -> ValueError:
        """The error of a field that is missing or not as expected."""
        found = f"{self.fields[name]!r:.80}" if name in self.fields else "no such field"
        return ValueError(f"{self.at}: {name}: expected {expected}, found {found}")


def read(path: Path) -> Iterator[Row]:
    """The records of the file, in its order.

    Raises FileNotFoundError, and ValueError for a file of another kind and at a record
    that is no object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if not path.name.endswith(KINDS):
        raise ValueError(f"{path}: expected a file that ends in {', '.join(KINDS)}")
    yield from _parquet(path) if path.suffix == ".parquet" else _json_lines(path)


def _json_lines(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Row(f"{path}, line {number}", _object(path, number, line))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, after line {number}: torn gzip: {error}") from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    expected = f"{path}, line {number}: expected a JSON object, found {line[:60]!r}"
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(expected)
    return found


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import (  # pyright: ignore[reportMissingImports]  # an extra
            ArrowException,
            parquet,
        )
    except ImportError as error:
        raise ValueError(
            f"{path}: Parquet is read by pyarrow, which is not installed: "
            "pip install 'jsharp[data]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", fields)
    except (ArrowException, OSError) as error:
        raise ValueError(
            f"{path}, after row {number}: expected Parquet: {error}"
        ) from error
