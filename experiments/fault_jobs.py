"""What the fault report runs: commands on a tiny random model and a few prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from jsharp import files
from jsharp.lm import huggingface, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import character_tokenizer
from jsharp.tasks import load


class Job(NamedTuple):
    """The words after `python`, {out} for its directory, and how often it is stopped.

    `interval`: the most steps that one kill may cost.
    """

    name: str
    words: Sequence[str]
    kills: int
    terms: int = 0
    interval: int = 0


def jobs(directory: Path) -> list[Job]:
    """30 kills over every command that is made to last, in the order of a project.

    In training every second step is saved, so that many kills hit a checkpoint.
    """
    model, prompts = directory / "model", directory / "prompts.jsonl"
    base = f"--model-name-or-path {model} --max-completion-length 8"
    train = (
        f"{base} --task arithmetic --limit 32 --eval-limit 8 --eval-generations 2 "
        "--chunk-size 4 --sample-batch-size 16 --batch-size 8 --save-steps 2 "
        "--learning-rate 0.01 --output-dir {out}"
    )
    sized = "-n 4 --chunk-size 1 --batch-size 4"
    several = "--lora-r 2 --num-generations 4 --rounds 2 --num-train-epochs 6"
    lines = [
        (f"sample {prompts} {base} {sized} --output {{out}}/samples.jsonl", 6, 0, 0),
        (f"train sft {train} {several}", 7, 2, 2),
        (f"train xpo {train} --rounds 4 --num-train-epochs 4", 6, 2, 2),
        (f"train rloo {train} --num-generations 4 --num-train-epochs 8", 5, 2, 2),
        (f"evaluate --prompts {prompts} {base} {sized} --output-dir {{out}}", 6, 0, 0),
    ]
    name = lambda words: " ".join(words[: 1 + (words[0] == "train")])
    return [
        Job(name(line.split()), ("-m", "jsharp", *line.split()), *counts)
        for line, *counts in lines
    ]


def prepare(directory: Path) -> None:
    """Write the model and the prompts of the jobs."""
    task = load("arithmetic")
    asked = [{"prompt": task.prompt(problem)} for problem in task.train[:1536]]
    files.write_lines(directory / "prompts.jsonl", asked)
    tokenizer = character_tokenizer(task.alphabet)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        eos_token_id=0,
        pad_token_id=0,
    )
    params = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), config)
    # Sharper than the initialisation, so that responses differ in likelihood.
    params = jax.tree.map(lambda leaf: 6 * leaf, params)
    huggingface.save(directory / "model", config, params, end=(0,), pad=0)
    tokenizer.save(directory / "model")
