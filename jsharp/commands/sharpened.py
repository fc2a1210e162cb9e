"""Def 3.1 measured: how much of a policy lies on the exact modes of its base.

modes of the base (`jsharp mode`) -> log pihat of every tie -> pihat(Y*(x)|x)
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jsharp import files
from jsharp.commands import model
from jsharp.commands.batches import Given
from jsharp.commands.entries import Entry
from jsharp.commands.responses import Speaker, score
from jsharp.commands.results import SEED, numbers
from jsharp.commands.stream import Record
from jsharp.lm.mode import sharpened_fraction
from jsharp.policy import Params
from jsharp.stats import clopper_pearson, mean_interval

MASSES = "masses.jsonl"


class Known(NamedTuple):
    """The mode of one prompt; `ties` is empty where the file has no such prompt."""

    ties: tuple[tuple[int, ...], ...]
    exact: bool
    mass: float  # of all ties under the base, where exact


def read(
    path: Path, base: Path, entries: Sequence[Entry], *, horizon: int
) -> list[Known]:
    """The modes in the output of `jsharp mode`, in the order of `entries`.

    Raises ValueError or FileNotFoundError, naming file and field, unless they are those
    of the checkpoint in `base`, of responses of at most `horizon` tokens, and of the
    same prompts.
    """
    _check_run(path, base, horizon)
    found = {}
    for number, record in enumerate(files.read_lines(path), 1):
        try:
            ids, ties = tuple(record["prompt_ids"]), map(tuple, record["ties"])
            known = Known(tuple(ties), record["exact"], record["mass_upper"])
            found[record["id"]] = ids, known
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a mode: {error!r}") from error
    modes: list[Known] = []
    for entry in entries:
        ids, known = found.get(entry.id, (entry.ids, Known((), False, 0.0)))
        if ids != entry.ids:
            raise ValueError(
                f"{path}: id {entry.id!r}: prompt_ids: expected {list(entry.ids)}, "
                f"found {list(ids)}"
            )
        modes.append(known)
    if not any(known.ties for known in modes):
        raise ValueError(f"{path}: expected modes of the prompts, found none of them")
    return modes


def _check_run(path: Path, base: Path, horizon: int) -> None:
    beside = path.with_name(path.name + ".run.json")
    for file in (path, beside):
        if not file.is_file():
            raise FileNotFoundError(
                f"--modes: expected the output of `jsharp mode`, found no {file}"
            )
    run = files.read_json(beside)["run"]
    wanted = {"command": "mode", "max_completion_length": horizon}
    wanted |= model.fingerprint(base)
    for name, value in wanted.items():
        if run.get(name) != value:
            raise ValueError(
                f"--modes: {name}: expected modes of the base model with {value!r}, "
                f"{beside} has {run.get(name)!r}"
            )


def masses(
    params: Params, speaker: Speaker, entries: Sequence[Entry], modes: Sequence[Known]
) -> list[Record]:
    """log pihat(y|x) of every tie, teacher-forced, and their mass, of each prompt."""
    given = [
        Given(entry.ids, tie)
        for entry, known in zip(entries, modes, strict=True)
        for tie in known.ties
    ]
    log_prob = iter(score(params, speaker, given).log_prob.tolist() if given else [])
    lines = []
    for entry, known in zip(entries, modes, strict=True):
        own = [next(log_prob) for _ in known.ties]
        lines.append(
            {
                "id": entry.id,
                "ties": [list(tie) for tie in known.ties],
                "exact": known.exact,
                "base_mass": known.mass if known.exact else None,
                "logprobs": own,
                "mass": float(np.exp(own).sum()) if own else None,
            }
        )
    return lines


def summary(records: Iterable[Record]) -> str:
    lines = list(records)
    exact = sum(line["exact"] for line in lines)
    return f"the mass of {exact} exact modes, of {len(lines)} prompts"


def summarise(
    records: Sequence[Record], deltas: Sequence[float], *, level: float
) -> Record:
    """The means of pihat(Y*|x) and pi_base(Y*|x) over the prompts of exact modes.

    And for each delta the fraction of these with pihat(Y*|x) >= 1 - delta, its interval
    by Clopper-Pearson, and bounds of the fraction over all prompts.
    """
    exact = np.array([line["exact"] for line in records])
    log_prob, member = _padded([line["logprobs"] for line in records])
    mean = {}
    for name in ("mass", "base_mass"):
        known = np.array([line[name] for line in records if line["exact"]], float)
        found = mean_interval(known, level=level, seed=SEED) if len(known) else None
        mean[name] = numbers(found)
    return {
        "prompts": len(records),
        "with_mode": int(member.any(1).sum()),
        "exact": int(exact.sum()),
        **mean,
        "fractions": [
            _fraction(log_prob, member, exact, delta, level) for delta in deltas
        ],
    }


def _fraction(
    log_prob: Float[np.ndarray, "B n"],
    member: Bool[np.ndarray, "B n"],
    exact: Bool[np.ndarray, " B"],
    delta: float,
    level: float,
) -> Record:
    bounds = sharpened_fraction(log_prob, member, exact.tolist(), delta=delta)
    sharp, known = round(bounds[0] * len(exact)), int(exact.sum())
    found = clopper_pearson(sharp, known, level=level) if known else None
    return {"delta": delta, "fraction": numbers(found), "bounds": list(bounds)}


def _padded(
    rows: Sequence[Sequence[float]],
) -> tuple[Float[np.ndarray, "B n"], Bool[np.ndarray, "B n"]]:
    width = max(map(len, rows))
    log_prob = np.zeros((len(rows), width))
    member = np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        log_prob[i, : len(row)], member[i, : len(row)] = row, True
    return log_prob, member
