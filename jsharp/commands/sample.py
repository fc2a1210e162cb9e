"""`jsharp sample`: responses to a file of prompts, resumable."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from jsharp.commands import model, run
from jsharp.commands.entries import Entry, read_prompts
from jsharp.commands.run import Job, Tick, Work
from jsharp.commands.settings import Settings, require
from jsharp.commands.stream import Plan, Record
from jsharp.lm import engine, huggingface
from jsharp.lm.draw import Sampling
from jsharp.lm.tokenizer import Tokenizer

FIELDS = (
    *("sample_id", "completion", "completion_ids", "finish_reason"),
    *("logprob_base", "logprob_sampler", "num_tokens", "seed", "model"),
    *("temperature", "top_p", "top_k"),
)

_COUNTS = ("num_generations", "max_completion_length", "batch_size", "chunk_size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Draw responses to every prompt of a file, with both log-probabilities of each.

    Each line of INPUT is {"prompt": text or messages, "id"?: ..., ...}; each line of
    OUTPUT is one response: id, prompt, prompt_ids, sample_id, completion,
    completion_ids, finish_reason (stop or length), logprob_base (of the model itself,
    at temperature 1), logprob_sampler (of what was drawn from), num_tokens, seed,
    model, temperature, top_p, top_k, then the other fields of the prompt. The order is
    that of INPUT. Response i to prompt p depends on the model, the seed, p and i alone.

    Killed at any instant, the same command goes on where it was, and ends in the bytes
    of a run without a break (on the same device).

    Example: jsharp sample prompts.jsonl --output samples.jsonl -n 16
    --model-name-or-path ./Qwen3-0.6B
    """

    num_generations: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """Responses to each prompt (N)."""
    max_completion_length: int = 64
    """Tokens of a response, at most; one that is cut there has finish_reason length."""
    temperature: float = 1.0
    """What the logits are divided by; 0: the likeliest token at each step."""
    top_p: float = 1.0
    """Draw from the fewest tokens that hold this mass; 1: from all."""
    top_k: int = 0
    """Draw from this many likeliest tokens; 0: from all."""
    seed: int = 0
    """What all draws depend on."""
    batch_size: int = 64
    """Responses decoded at once: memory grows with it."""
    chunk_size: int = 64
    """Prompts computed, then saved, together: what a kill can cost."""


def main(args: Sequence[str]) -> int:
    """`jsharp sample` on these arguments; the exit status (see `run.run`)."""
    config = tyro.cli(Config, args=args, prog="jsharp sample")
    return run.run("sample", lambda: prepare(config))


def prepare(config: Config) -> Job:
    """Check everything but the weights; ValueError says what is wrong."""
    sampling = _check(config)
    directory = model.directory(config.model_name_or_path)
    entries = read_prompts(
        config, directory, room=config.max_completion_length, taken=FIELDS
    )
    plan = Plan(
        [entry.id for entry in entries],
        size=config.chunk_size,
        each=config.num_generations,
    )
    return Job(
        output=config.output,
        overwrite=config.overwrite,
        identity=config.identity("sample", directory),
        plan=plan,
        load=lambda: _load(config, sampling, directory, entries),
        summary=_summary,
    )


def _check(config: Config) -> Sampling:
    """The law that is drawn from; ValueError for the first option out of its domain."""
    for name in _COUNTS:
        found = getattr(config, name)
        require(name, found >= 1, "at least 1", found)
    require("seed", 0 <= config.seed < 2**31, "0 to 2^31 - 1", config.seed)
    if config.temperature == 0:
        n = config.num_generations
        require("num_generations", n == 1, "1 at temperature 0: all would be equal", n)
    return Sampling(
        temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
    )


def _load(
    config: Config, sampling: Sampling, directory: Path, entries: Sequence[Entry]
) -> Work:
    found = huggingface.load(directory, **config.weights)
    tokenizer = Tokenizer.load(directory)
    key, n = jax.random.key(config.seed), config.num_generations
    columns = min(n, config.batch_size)
    options: dict[str, Any] = {
        "config": found.config,
        "horizon": config.max_completion_length,
        "end": found.end,
        "pad": found.pad,
        "sampling": sampling,
        "rows": max(1, config.batch_size // columns),
        "columns": columns,
    }

    def work(places: range, tick: Tick) -> list[Record]:
        seen = (0, 0)

        def progress(finished: int, tokens: int) -> None:
            nonlocal seen
            tick(finished - seen[0], tokens - seen[1])
            seen = finished, tokens

        drawn = engine.generate(
            key,
            found.params,
            [entries[place].ids for place in places],
            n,
            places=places,
            progress=progress,
            **options,
        )
        lines = (_records(config, entries[d.place], d, tokenizer) for d in drawn)
        return [line for some in lines for line in some]

    return work


def _records(
    config: Config,
    entry: Entry,
    drawn: engine.Generated,
    tokenizer: Tokenizer,
) -> list[Record]:
    """The lines of one prompt, their keys in the order that `Config` tells."""
    records = []
    for i, size in enumerate(drawn.length.tolist()):
        ids = drawn.tokens[i, :size].tolist()
        stopped = drawn.finish[i] == "stop"
        records.append(
            {
                "id": entry.id,
                "prompt": entry.prompt,
                "prompt_ids": list(entry.ids),
                "sample_id": i,
                "completion": tokenizer.decode(ids[:-1] if stopped else ids),
                "completion_ids": ids,
                "finish_reason": drawn.finish[i],
                "logprob_base": float(drawn.base_log_prob[i]),
                "logprob_sampler": float(drawn.sampler_log_prob[i]),
                "num_tokens": size,
                "seed": config.seed,
                "model": config.model_name_or_path,
                "temperature": config.temperature,
                "top_p": config.top_p,
                "top_k": config.top_k,
                **entry.extra,
            }
        )
    return records


def _summary(records: Iterable[Record]) -> str:
    count = stopped = tokens = 0
    total = 0.0
    for record in records:
        count += 1
        stopped += record["finish_reason"] == "stop"
        tokens += record["num_tokens"]
        total += record["logprob_base"]
    return (
        f"{count:,} responses, {tokens / count:.1f} tokens and {total / count:.4f} "
        f"nats each, {count - stopped:,} cut at the length limit"
    )
