"""results.json of an evaluation: every way to pick a response, from responses alone.

responses.jsonl -> measures and self-rewards [B N] -> rows with intervals -> JSON
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jsharp import files
from jsharp.commands.responses import FIELDS, GREEDY, candidates
from jsharp.commands.stream import Record
from jsharp.evaluate import ACCURACY, RESAMPLES, Measured, Pick, Row, picks
from jsharp.reward import REWARDS, Candidates
from jsharp.stats import Interval

RESPONSES, RESULTS = "responses.jsonl", "results.json"
SEED = 0  # of the resampling: two tables of the same responses are the same
MEASURES = (ACCURACY, "logprob_base", "logprob", "num_tokens")
_NEEDED = ("id", "prompt", "prompt_ids", *FIELDS)

# The best of k < N by these would see all N: they have k = N alone.
JOINT = ("majority", "perplexity-consistency")
# The probability orders responses as its logarithm does, where it does not underflow.
_SCORED = {name: f for name, f in REWARDS.items() if name != "probability"}
_PAIRS_AT_ONCE = 2**26  # token pairs that are compared together: a byte each


class Sampled(NamedTuple):
    """The records of B prompts in their order: N samples each, and the greedy one."""

    samples: list[list[Record]]
    greedy: list[Record]


def gather(path: Path) -> Sampled:
    """Read the responses of an evaluation.

    Raises ValueError, naming the prompt, unless every one has a greedy response and
    then samples 0..N-1, as a finished evaluation does.
    """
    groups: list[list[Record]] = []
    for record in _records(path):
        if record["sample_id"] == GREEDY:
            groups.append([])
        if not groups or record["sample_id"] != len(groups[-1]) - 1:
            raise ValueError(
                f"{path}: id {record['id']!r}: expected sample_id {GREEDY} and then 0, "
                f"1, ... of each prompt, found {record['sample_id']}"
            )
        groups[-1].append(record)
    sizes = sorted({len(group) - 1 for group in groups})
    if len(sizes) != 1 or not sizes[0]:
        raise ValueError(
            f"{path}: expected as many samples of each prompt, found {sizes or 'none'};"
            " an evaluation that was interrupted goes on by its own command"
        )
    return Sampled([group[1:] for group in groups], [group[0] for group in groups])


def _records(path: Path) -> Iterator[Record]:
    lines = files.read_lines(path)
    for number in itertools.count(1):
        try:
            record = next(lines)
        except StopIteration:
            return
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        held = record if isinstance(record, dict) else {}
        if lacking := [name for name in _NEEDED if name not in held]:
            raise ValueError(f"{path}, line {number}: {lacking[0]}: found none")
        yield record


def measure(sampled: Sampled) -> Measured:
    """Those of `MEASURES` that the records hold, and every self-reward."""
    first = sampled.greedy[0]
    fields = {name: name for name in MEASURES if name in first}
    if first["correct"] is not None:
        fields = {ACCURACY: "correct", **fields}
    return Measured(
        sampled={
            name: np.array([[r[field] for r in group] for group in sampled.samples])
            for name, field in fields.items()
        },
        greedy={
            name: np.array([r[field] for r in sampled.greedy])
            for name, field in fields.items()
        },
        score=scores(sampled.samples),
    )


def scores(groups: Sequence[Sequence[Record]]) -> dict[str, Float[np.ndarray, "B N"]]:
    """Every self-reward of every sample, under the base."""
    given = candidates(groups)
    n, horizon = given.response.tokens.shape[1:]
    size = max(1, _PAIRS_AT_ONCE // (n * n * horizon))
    cut = lambda i: jax.tree.map(lambda x: x[i : i + size], given)
    blocks = [jax.device_get(_score(cut(i))) for i in range(0, len(groups), size)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in _SCORED}


@jax.jit
def _score(given: Candidates) -> dict[str, Float[Array, "B N"]]:
    return {name: reward(given) for name, reward in _SCORED.items()}


def picks_of(sampled: Sampled) -> list[Pick]:
    """Every way to pick one of the sampled responses."""
    return picks(measure(sampled), joint=JOINT)


def resampling(level: float) -> Record:
    """What the intervals are, for a file of results."""
    return {"level": level, "resamples": RESAMPLES, "seed": SEED}


def row(found: Row) -> Record:
    """A row in JSON: [estimate, low, high] or null; so is an end that is infinite."""
    return {
        "by": found.by,
        "k": found.k,
        **{name: numbers(found.mean.get(name)) for name in MEASURES},
        "gain": numbers(found.gain),
        "percent_lift": numbers(found.lift),
    }


def numbers(interval: Interval | None) -> list[float | None] | None:
    if interval is None:
        return None
    return [x if math.isfinite(x) else None for x in interval]


def chosen(rows: Iterable[Mapping[str, Any]], n: int) -> list[Mapping[str, Any]]:
    """The rows that a table shows: those of k = N."""
    one = ("greedy", "sample")
    return [row for row in rows if row["by"] in one or row["k"] == n]


def identity(path: Path) -> Record | None:
    """What the results at `path` are of; None where there are none to be read."""
    try:
        return files.read_json(path)["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
