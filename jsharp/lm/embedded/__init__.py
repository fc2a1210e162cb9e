"""The base model that ships with jsharp, for the tasks game24 and arithmetic.

This directory is a model in the Hugging Face layout; recipe.json holds the command that
made it and how well it does on held-out prompts, README.md restates it.
"""

import importlib.resources
from pathlib import Path


def directory() -> Path:
    """Where it lies: for `huggingface.load` and `Tokenizer.load`."""
    return Path(str(importlib.resources.files(__name__)))
