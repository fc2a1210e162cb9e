"""`jsharp mode`: the most likely response to each prompt, with a certificate."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tyro

from jsharp.commands import model, run
from jsharp.commands.entries import Entry, read_prompts
from jsharp.commands.run import Job, Tick, Work
from jsharp.commands.settings import ModelSettings, Settings, require
from jsharp.commands.stream import Plan, Record
from jsharp.lm import huggingface
from jsharp.lm.mode import Mode, mode
from jsharp.lm.tokenizer import Tokenizer

FIELDS = (
    *("completion", "completion_ids", "finish_reason", "num_tokens"),
    *("logprob", "exact", "gap", "rounding", "mass_lower", "mass_upper", "ties"),
    *("expansions", "model"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Find the most likely complete response to every prompt of a file, and prove it.

    The paper's y*(x) = argmax_y pi(y|x) over responses of at most
    MAX_COMPLETION_LENGTH tokens, by best-first branch and bound. Each line of INPUT is
    {"prompt": text or messages, "id"?: ..., ...}; each line of OUTPUT is one prompt's:
    id, prompt, prompt_ids, completion, completion_ids, finish_reason, num_tokens,
    logprob, exact, gap, rounding, mass_lower, mass_upper, ties, expansions, model, then
    the other fields of the prompt.

    exact says that the search is complete: every response outside of `ties` (the ids of
    all maximisers) is less likely. Where the budget ended first, no response has a
    log-probability above logprob + gap + rounding. mass_lower and mass_upper bound
    pi(Y*(x)|x), up to rounding, and where not exact if y* is unique; the mean of their
    inverses is the coverage C_cov (Eq 6), printed at the end. Killed at any instant,
    the same command goes on where it was.

    Example: jsharp mode prompts.jsonl --output modes.jsonl --max-completion-length 40
    """

    max_completion_length: int = 64
    """Tokens of a response, at most."""
    budget: int = 4096
    """Prefixes to expand for one prompt, at most; keys and values of each are kept."""
    tolerance: float = 0.0
    """Stop as soon as the gap is at most this many nats."""
    batch_size: int = 32
    """Prefixes expanded at once."""


def main(args: Sequence[str]) -> int:
    """`jsharp mode` on these arguments; the exit status (see `run.run`)."""
    config = tyro.cli(Config, args=args, prog="jsharp mode")
    return run.run("mode", lambda: prepare(config))


def prepare(config: Config) -> Job:
    """Check everything but the weights; ValueError says what is wrong."""
    for name in ("max_completion_length", "budget", "batch_size"):
        found = getattr(config, name)
        require(name, found >= 1, "at least 1", found)
    found = config.tolerance
    require("tolerance", 0 <= found < math.inf, "finite and at least 0", found)
    directory = model.directory(config.model_name_or_path)
    entries = read_prompts(
        config, directory, room=config.max_completion_length, taken=FIELDS
    )
    return Job(
        output=config.output,
        overwrite=config.overwrite,
        identity=config.identity("mode", directory),
        plan=Plan([entry.id for entry in entries], size=1),
        load=lambda: _load(config, directory, entries),
        summary=_summary,
    )


def _load(config: Config, directory: Path, entries: Sequence[Entry]) -> Work:
    loaded = huggingface.load(directory, **config.weights)
    tokenizer = Tokenizer.load(directory)

    def work(places: range, tick: Tick) -> list[Record]:
        records = []
        for place in places:
            entry = entries[place]
            found = mode(
                loaded.params,
                entry.ids,
                config.budget,
                config=loaded.config,
                horizon=config.max_completion_length,
                end=loaded.end,
                pad=loaded.pad,
                batch=config.batch_size,
                tolerance=config.tolerance,
            )
            records.append(record(config, entry, found, tokenizer, loaded.end))
            tick(1, found.expansions)
        return records

    return work


def record(
    config: ModelSettings,
    entry: Entry,
    found: Mode,
    tokenizer: Tokenizer,
    end: tuple[int, ...],
) -> Record:
    """The line of one prompt, its keys in the order that `Config` tells."""
    rows = np.asarray(found.ties.tokens)[0], np.asarray(found.ties.length)[0]
    ties = [row[:size].tolist() for row, size in zip(*rows, strict=True)]
    ids = found.tokens[: found.length].tolist()
    stopped = ids[-1] in end
    lower, upper = found.mass
    return {
        "id": entry.id,
        "prompt": entry.prompt,
        "prompt_ids": list(entry.ids),
        "completion": tokenizer.decode(ids[:-1] if stopped else ids),
        "completion_ids": ids,
        "finish_reason": "stop" if stopped else "length",
        "num_tokens": found.length,
        "logprob": found.log_prob,
        "exact": bool(found.exact),
        "gap": float(found.gap),
        "rounding": float(found.rounding),
        "mass_lower": float(lower),
        "mass_upper": float(upper),
        "ties": ties,
        "expansions": found.expansions,
        "model": config.model_name_or_path,
        **entry.extra,
    }


def _summary(records: Iterable[Record]) -> str:
    count = exact = 0
    lower = upper = 0.0
    for each in records:
        count += 1
        exact += each["exact"]
        lower += _inverse(each["mass_upper"])
        upper += _inverse(each["mass_lower"])
    bounds = f"{lower / count:.4g} to {upper / count:.4g}"
    return f"{exact} of {count} modes exact; C_cov on these prompts: {bounds}"


def _inverse(mass: float) -> float:
    """That of a response of 5000 tokens may be below the smallest float."""
    return 1 / mass if mass else math.inf
