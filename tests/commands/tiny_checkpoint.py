"""A random checkpoint small enough for brute force, and prompts for it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import Tokenizer

ALPHABET = "abcdé "
CONFIG = TransformerConfig(
    vocab_size=1 + len(ALPHABET),
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=32,
    initializer_range=0.6,
    eos_token_id=0,
    pad_token_id=0,
)
PROMPTS = [
    {"id": "first", "prompt": "ab", "answer": 1.5},
    {"prompt": "é\u2028"[:1], "level": {"deep": [1, None]}},
    {"id": "third", "prompt": "dcba dcb"},
    {"prompt": "a", "answer": "x"},
    {"prompt_ids": [3, 3, 1]},
]


class Checkpoint(NamedTuple):
    """The model on the disk and in memory."""

    directory: Path
    params: Any
    tokenizer: Tokenizer


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
