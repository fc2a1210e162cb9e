"""The tiny checkpoint on the disk, a way to call the commands on it, and its oracle."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoint import ALPHABET, CONFIG, PROMPTS, Checkpoint, write

from jsharp.lm import huggingface, transformer
from jsharp.lm.attention import causal
from jsharp.lm.tokenizer import character_tokenizer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint") / "model"
    params = transformer.init(jax.random.key(3), CONFIG)
    huggingface.save(directory, CONFIG, params, end=(0,), pad=0)
    tokenizer = character_tokenizer(ALPHABET)
    tokenizer.save(directory)
    return Checkpoint(directory, params, tokenizer)


@pytest.fixture
def prompts(tmp_path):
    return write(tmp_path / "prompts.jsonl", PROMPTS)


@pytest.fixture
def call(checkpoint, capsys) -> Callable[..., tuple[int, str]]:
    """call("sample", path, ...) -> exit status and stderr, on the tiny checkpoint."""

    def command(name: str, *args: Any) -> tuple[int, str]:
        module = importlib.import_module(f"jsharp.commands.{name}")
        model = ["--model-name-or-path", checkpoint.directory]
        status = module.main([str(arg) for arg in (*args, *model)])
        return status, capsys.readouterr().err

    return command


@pytest.fixture(scope="session")
def law(checkpoint) -> Callable[[list[int]], np.ndarray]:
    """law(ids) -> log pi(. | ids) at every place [T V], float64: the oracle.

    One whole sequence through the decoder: no prefix, no buffer, no batch.
    """

    @functools.partial(jax.jit)
    def logits(params, row):
        model = transformer.merge(CONFIG, params)
        place = jnp.arange(row.shape[0])[None, None]
        return model.logits(model(row[None, None], place, causal())[0])[0, 0]

    def after(ids: list[int]) -> np.ndarray:
        row = np.zeros(32, np.int32)
        row[: len(ids)] = ids
        found = np.asarray(logits(checkpoint.params, row), np.float64)[: len(ids)]
        top = found.max(-1, keepdims=True)
        return found - top - np.log(np.exp(found - top).sum(-1, keepdims=True))

    return after
