"""A tiny random checkpoint, and a way to train it in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from commands.tiny_checkpoint import ALPHABET, CONFIG, Checkpoint, write
from tiny_run import PROMPTS, RULE, SIZES

from jsharp.lm import huggingface, transformer
from jsharp.lm.tokenizer import character_tokenizer
from jsharp.train import command, run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "model"
    params = transformer.init(jax.random.key(3), CONFIG)
    huggingface.save(directory, CONFIG, params, end=(0,), pad=0)
    tokenizer = character_tokenizer(ALPHABET)
    tokenizer.save(directory)
    return Checkpoint(directory, params, tokenizer)


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    return write(tmp_path_factory.mktemp("prompts") / "train.jsonl", PROMPTS)


# The options that a compiled step depends on.
_DECIDING = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("max_grad_norm", "lora_r", "lora_alpha", "lora_targets", "remat", "beta"),
    *("alpha", "advantage"),
)


@pytest.fixture(scope="session")
def train(checkpoint, prompts) -> Callable[..., int]:
    """train("sft", directory, *options) -> exit status, by RULE unless told otherwise.

    Two runs whose steps are the same function share it: compiling is what takes long.
    """
    built: dict[Any, Any] = {}
    build = run.make_step

    def call(algorithm: str, directory: Path, *options: Any) -> int:
        words = [algorithm, *map(str, (*SIZES, *RULE, *options))]
        if not {"--prompts", "--task"} & set(words):
            words += ["--prompts", str(prompts)]
        if "--model-name-or-path" not in words:
            words += ["--model-name-or-path", str(checkpoint.directory)]
        words += ["--output-dir", str(directory)]

        def once(model, trainee, recipe, tx, rate, *, remat):
            config = command.parse(words)[1]
            of = [getattr(config, name, None) for name in _DECIDING]
            loss = getattr(recipe.loss, "func", recipe.loss)
            key = model, loss, recipe.width, recipe.single, float(rate(1)), *of
            if key not in built:
                built[key] = build(model, trainee, recipe, tx, rate, remat=remat)
            return built[key]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "make_step", once)
            return command.main(words)

    return call
