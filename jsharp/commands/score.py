"""`jsharp score`: teacher-forced log-probabilities of given responses, resumable."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import tyro
from jaxtyping import Array, Float, Int

from jsharp.commands import model, run
from jsharp.commands.batches import Given, batches
from jsharp.commands.entries import Entry, read_responses
from jsharp.commands.run import Job, Tick, Work
from jsharp.commands.settings import Settings, require
from jsharp.commands.stream import Plan, Record
from jsharp.lm import huggingface, scorer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.shapes import bucket
from jsharp.policy import Params, Prompts, Response

FIELDS = (
    *("logprob", "token_logprobs", "token_best_logprobs", "token_entropies"),
    *("token_ranks", "token_logsumexps", "token_certainties"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Score given responses: log pi(y|x), teacher-forced, in float32, at temperature 1.

    Each line of INPUT has a prompt ("prompt_ids", or a "prompt" to encode) and a
    response ("completion_ids", or a "completion" to encode); what `jsharp sample` wrote
    serves as it is. Ids go first: sampled ids are never tokenised again. A text
    completion is encoded alone, without special tokens, as what follows the prompt. The
    log-probability is that of all ids given, an end token included where there is one.

    Each line of OUTPUT is the line of INPUT, with prompt_ids, completion_ids and
    num_tokens where they were not there, then logprob, and what else is asked for.
    Consecutive responses to one prompt share its keys and values. Where INPUT has
    logprob_base, the largest difference is printed at the end.

    Example: jsharp score samples.jsonl --output scored.jsonl --statistics
    --model-name-or-path ./Qwen3-0.6B
    """

    append_end: bool = False
    """End every completion that is given as text by the end token."""
    per_token: bool = False
    """Write token_logprobs, log pi(y_h|x, y_<h)."""
    statistics: bool = False
    """Write of each next-token law token_best_logprobs, token_entropies, token_ranks
    (0: the likeliest), token_logsumexps and token_certainties (KL from the uniform)."""
    batch_size: int = 64
    """Responses scored at once, then saved: memory grows with it."""


def main(args: Sequence[str]) -> int:
    """`jsharp score` on these arguments; the exit status (see `run.run`)."""
    config = tyro.cli(Config, args=args, prog="jsharp score")
    return run.run("score", lambda: prepare(config))


def prepare(config: Config) -> Job:
    """Check everything but the weights; ValueError says what is wrong."""
    require("batch_size", config.batch_size >= 1, "at least 1", config.batch_size)
    directory = model.directory(config.model_name_or_path)
    entries = read_responses(
        config, directory, more=int(config.append_end), taken=FIELDS
    )
    return Job(
        output=config.output,
        overwrite=config.overwrite,
        identity=config.identity("score", directory),
        plan=Plan([entry.id for entry in entries], size=config.batch_size),
        load=lambda: _load(config, directory, entries),
        summary=_summary,
    )


def _load(config: Config, directory: Path, entries: Sequence[Entry]) -> Work:
    loaded = huggingface.load(directory, **config.weights)
    measure = functools.partial(
        _measure, loaded.params, config=loaded.config, statistics=config.statistics
    )
    slots = bucket(config.batch_size)
    entries = [_ended(config, entry, loaded.end[0]) for entry in entries]

    def work(places: range, tick: Tick) -> list[Record]:
        given = [Given(entries[i].ids, entries[i].completion) for i in places]
        added: dict[int, Record] = {}
        for batch in batches(given, slots=slots, pad=loaded.pad):
            found = jax.device_get(measure(batch.prompts, batch.response))
            cells = map(tuple, np.argwhere(batch.place >= 0).tolist())
            held = {int(batch.place[at]): at for at in cells}
            for i, at in held.items():
                size = len(given[i].completion)
                numbers = {name: each[at][:size] for name, each in found.items()}
                added[i] = _added(numbers, per_token=config.per_token)
            tick(len(held), sum(len(given[i].completion) for i in held))
        return [_with_ids(entries[place]) | added[i] for i, place in enumerate(places)]

    return work


def _ended(config: Config, entry: Entry, end: int) -> Entry:
    """The entry with the end token after a completion that was given as text."""
    if not config.append_end or not entry.is_text:
        return entry
    return entry._replace(completion=(*entry.completion, end))


@functools.partial(jax.jit, static_argnames=("config", "statistics"))
def _measure(
    params: Params,
    prompts: Prompts,
    response: Response,
    *,
    config: TransformerConfig,
    statistics: bool,
) -> dict[str, Float[Array, "B n H"] | Int[Array, "B n H"]]:
    """The numbers of every token, by the name of their field; compiled once a shape."""
    if not statistics:
        found = scorer.token_log_prob(params, prompts, response, config=config)
        return {"token_logprobs": found}
    found = scorer.token_statistics(params, prompts, response, config=config)
    return {
        "token_logprobs": found.log_prob,
        "token_best_logprobs": found.best,
        "token_entropies": found.entropy,
        "token_ranks": found.rank,
        "token_logsumexps": found.logsumexp,
        "token_certainties": found.certainty,
    }


def _added(numbers: dict[str, np.ndarray], *, per_token: bool) -> Record:
    """The new fields of one line, from the numbers of its tokens."""
    total = numbers["token_logprobs"].sum(dtype=np.float64)
    # In the order of FIELDS: jit hands a dict back by the alphabet.
    left = [name for name in FIELDS if name in numbers]
    written = left if per_token else [k for k in left if k != "token_logprobs"]
    return {"logprob": float(total), **{k: numbers[k].tolist() for k in written}}


def _with_ids(entry: Entry) -> Record:
    ids = {"prompt_ids": list(entry.ids), "completion_ids": list(entry.completion)}
    absent = {k: v for k, v in ids.items() if entry.raw.get(k) is None}
    named = {} if "id" in entry.raw else {"id": entry.id}
    return {**named, **entry.raw, **absent, "num_tokens": len(entry.completion)}


def _summary(records: Iterable[Record]) -> str:
    count = tokens = compared = 0
    total = drift = 0.0
    for record in records:
        count += 1
        tokens += record["num_tokens"]
        total += record["logprob"]
        if isinstance(drawn := record.get("logprob_base"), float):
            compared += 1
            drift = max(drift, abs(record["logprob"] - drawn))
    said = f"{count:,} responses, {total / count:.4f} nats each"
    if not compared:
        return said
    return f"{said}, within {drift:.2g} nats of logprob_base ({compared:,} compared)"
