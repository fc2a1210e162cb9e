"""A pilot: N responses to each of B prompts, drawn before any compute is spent.

From the records of jsharp/commands/responses.py; with modes, the records of the exact
search, where they were asked for.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jsharp.commands import results
from jsharp.commands.results import Sampled
from jsharp.commands.stream import Record

Tokens = tuple[int, ...]

# Log-probabilities are taken to be right to this many nats (float32 sums of tokens).
ROUNDING = 1e-4


class Pilot(NamedTuple):
    """The draws, all at temperature 1 from the policy that is diagnosed."""

    ids: tuple[str, ...]  # of the B prompts
    prompts: tuple[Tokens, ...]
    tokens: tuple[tuple[Tokens, ...], ...]  # [B][N]
    log_prob: Float[np.ndarray, "B N"]  # log pi_base(y|x)
    length: Int[np.ndarray, "B N"]
    cut: Bool[np.ndarray, "B N"]  # stopped by the length limit
    correct: Bool[np.ndarray, "B N"] | None
    greedy: tuple[Tokens, ...]  # no draw, but a response of known mass
    greedy_log_prob: Float[np.ndarray, " B"]
    greedy_correct: Bool[np.ndarray, " B"] | None


class Known(NamedTuple):
    """The distinct responses known of each prompt, the likeliest first.

    `searched` prompts have a certified maximiser, with all that are tied; elsewhere
    `ceiling` bounds max_y pi(y|x) as far as the search came (1 without a search).
    """

    log_mass: Float[np.ndarray, "B K"]  # log pi(y|x), -inf behind the last
    place: Int[np.ndarray, "B N"]  # which of them each draw is
    unseen: Float[np.ndarray, " B"]  # at least the mass of all others together
    searched: Bool[np.ndarray, " B"]
    tied: Float[np.ndarray, " B"]  # pi(Y*|x) where searched, 0 elsewhere
    ceiling: Float[np.ndarray, " B"]
    maximiser: tuple[Tokens, ...]  # the likeliest known

    @property
    def mass(self) -> Float[np.ndarray, "B K"]:
        """pi(y|x)."""
        return np.exp(self.log_mass)


def read(path: Path) -> Sampled:
    """The responses of a pilot or of an evaluation, greedy and samples of each prompt.

    Raises FileNotFoundError, or ValueError naming what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of responses, found no {path}")
    try:
        sampled = results.gather(path)
        worst = max(r["logprob_base"] for group in sampled.samples for r in group)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected responses: {error!r}") from error
    if not worst <= ROUNDING:
        raise ValueError(
            f"{path}: logprob_base: expected log-probabilities, found {worst}"
        )
    return sampled


def drawn(path: Path) -> Pilot:
    """The draws of a base, which are scored as exactly as the bounds suppose.

    Raises as `read` and `pilot` do, and ValueError where the log-probability under
    which a response was drawn and the teacher-forced one are not those of one law.
    """
    sampled = read(path)
    # Greedy responses are left out: that sampler gives all its mass to one token.
    apart = lambda record: abs(record["logprob_base"] - record["logprob_sampler"])
    worst = max(apart(record) for group in sampled.samples for record in group)
    if not worst <= ROUNDING:
        raise ValueError(
            f"{path}: expected logprob_base and logprob_sampler within {ROUNDING:g} "
            f"nats, found {worst:.3g} between them: no bound would hold"
        )
    return pilot(sampled)


def pilot(sampled: Sampled) -> Pilot:
    """The records as arrays.

    Raises ValueError where some of the responses are marked and others are not.
    """
    column = lambda name: np.array([[r[name] for r in g] for g in sampled.samples])
    marks = [r["correct"] for g in (*sampled.samples, sampled.greedy) for r in g]
    if (None in marks) and set(marks) != {None}:
        raise ValueError("correct: expected of every response or of none, found some")
    marked = None not in marks
    greedy = np.array([record["correct"] for record in sampled.greedy])
    return Pilot(
        ids=tuple(record["id"] for record in sampled.greedy),
        prompts=tuple(tuple(record["prompt_ids"]) for record in sampled.greedy),
        tokens=tuple(
            tuple(tuple(r["completion_ids"]) for r in group)
            for group in sampled.samples
        ),
        log_prob=column("logprob_base").astype(float),
        length=column("num_tokens").astype(int),
        cut=column("finish_reason") == "length",
        correct=column("correct").astype(bool) if marked else None,
        greedy=tuple(tuple(record["completion_ids"]) for record in sampled.greedy),
        greedy_log_prob=np.array([float(r["logprob_base"]) for r in sampled.greedy]),
        greedy_correct=greedy.astype(bool) if marked else None,
    )


def known(pilot: Pilot, modes: Iterable[Record] | None = None) -> Known:
    """What is known for sure from the responses, and the search's records if any.

    A response is known by its tokens; all log-probabilities may be off by `ROUNDING`,
    those of the search by its own rounding more: so far apart its ties may be.
    """
    by_id = {record["id"]: record for record in modes or ()}
    rows = [
        _ranked(seen, by_id.get(id))
        for id, seen in zip(pilot.ids, _seen(pilot), strict=True)
    ]
    log_mass = np.full((len(rows), max(len(order) for order, _ in rows)), -np.inf)
    for row, (_, masses) in zip(log_mass, rows, strict=True):
        row[: len(masses)] = masses
    mass = np.exp(log_mass)
    place = [
        [order[response] for response in tokens]
        for (order, _), tokens in zip(rows, pilot.tokens, strict=True)
    ]
    found = [by_id.get(id, {}) for id in pilot.ids]
    searched = np.array([record.get("exact", False) for record in found], bool)
    top = np.array([record.get("mass_upper", 1.0) for record in found], float)
    rounding = np.array([record.get("rounding", 0.0) for record in found], float)
    above = np.where(searched, mass[:, 0], np.maximum(top, mass[:, 0]))
    return Known(
        log_mass=log_mass,
        place=np.array(place),
        unseen=np.clip(1 - mass.sum(1) * np.exp(-ROUNDING - rounding), 0.0, 1.0),
        searched=searched,
        tied=np.where(searched, top, 0.0),
        ceiling=np.minimum(above * np.exp(rounding), 1.0),
        maximiser=tuple(next(iter(order)) for order, _ in rows),
    )


def _seen(pilot: Pilot) -> Iterator[dict[Tokens, float]]:
    """log pi(y|x) of each prompt's distinct draws, and of its greedy response."""
    greedy = zip(pilot.greedy, pilot.greedy_log_prob.tolist(), strict=True)
    rows = zip(greedy, pilot.tokens, pilot.log_prob.tolist(), strict=True)
    for first, tokens, log_prob in rows:
        yield dict([first, *zip(tokens, log_prob, strict=True)])


def _ranked(
    seen: dict[Tokens, float], mode: Record | None
) -> tuple[dict[Tokens, int], list[float]]:
    """Distinct responses, each with its rank, and log pi(y|x) in that order.

    A certified mode comes first, whatever rounding says of the others.
    """
    first: Tokens | None = None
    if mode is not None:
        response = tuple(mode["completion_ids"])
        seen[response] = mode["logprob"]
        first = response if mode["exact"] else None
        for tie in map(tuple, mode["ties"] if mode["exact"] else ()):
            seen.setdefault(tie, mode["logprob"])
    ranked = sorted(seen, key=lambda y: (y != first, -seen[y], y))
    best = seen[ranked[0]]
    return {y: i for i, y in enumerate(ranked)}, [min(seen[y], best, 0) for y in ranked]
