"""What a diagnosis predicts, and whether what was measured later agrees.

A model that is sharpened perfectly on best-of-N data answers as best-of-N of the base
does. So each N of the pilot predicts, for one draw of the sharpened model at
temperature 1, its accuracy, its mean log pi_base, its length, and how often it is y*.
Measured figures come from responses.jsonl of an evaluation: the pilot's records.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsharp import files
from jsharp.stats import Interval, mean_interval
from theory.pilot import Pilot, Tokens
from theory.signals import Step

NAMES = ("accuracy", "log_prob", "length", "hits")  # hits: how often it is y*
Table = dict[str, Interval | None]
Prompt = tuple[str, Tokens]  # its id and its tokens


class Finding(NamedTuple):
    """One predicted figure beside the measured one; both None where there is none.

    outcome: "within" the predicted interval; "near" where only the two intervals
    overlap; else "below" or "above"; "not measured", "not predicted".
    """

    name: str
    predicted: Interval | None
    measured: Interval | None
    outcome: str


def predictions(steps: Sequence[Step], hits: Mapping[int, Interval | None]) -> Table:
    """The figures of every k, named as "accuracy of best of 8"."""
    found: Table = {}
    for step in steps:
        values = (step.accuracy, step.log_prob, step.length, hits[step.k])
        for name, value in zip(NAMES, values, strict=True):
            found[_named(name, step.k)] = value
    return found


def _named(name: str, k: int) -> str:
    return f"{name} of best of {k}"


def measure(
    pilot: Pilot, maximisers: Mapping[Prompt, Tokens], *, level: float, seed: int
) -> Table:
    """The same figures of one draw of a model, from its responses.

    `maximisers` has y* of the prompts where it is certain, not tied; "hits" is over
    them.
    """
    mean = lambda value: mean_interval(value.mean(1), level=level, seed=seed)
    rows = [
        [y == maximisers[prompt] for y in tokens]
        for prompt, tokens in zip(identified(pilot), pilot.tokens, strict=True)
        if prompt in maximisers
    ]
    return {
        "accuracy": None if pilot.correct is None else mean(pilot.correct),
        "log_prob": mean(pilot.log_prob),
        "length": mean(pilot.length),
        "hits": mean(np.array(rows)) if rows else None,
    }


def identified(pilot: Pilot) -> list[Prompt]:
    """What tells a prompt from all others: an id alone may name another one."""
    return list(zip(pilot.ids, pilot.prompts, strict=True))


def check(prediction: Table, measured: Table, *, draws: int) -> list[Finding]:
    """Each figure predicted of best of `draws` beside the measured one.

    Raises ValueError, listing what there is, where nothing is predicted of it.
    """
    known = sorted({int(name.rsplit(" ", 1)[1]) for name in prediction})
    if draws not in known:
        raise ValueError(f"expected one of N = {known} of the diagnosis, found {draws}")
    return [
        _finding(name, prediction.get(_named(name, draws)), measured.get(name))
        for name in NAMES
    ]


def _finding(
    name: str, predicted: Interval | None, measured: Interval | None
) -> Finding:
    if predicted is None or measured is None:
        missing = "not predicted" if predicted is None else "not measured"
        return Finding(name, predicted, measured, missing)
    if predicted.low <= measured.estimate <= predicted.high:
        outcome = "within"
    elif measured.low <= predicted.high and predicted.low <= measured.high:
        outcome = "near"
    else:
        outcome = "below" if measured.estimate < predicted.low else "above"
    return Finding(name, predicted, measured, outcome)


def compare_runs(content: Mapping[str, Any], responses: Path) -> bool:
    """Whether responses are to the questions of the diagnosis that has this `content`.

    Raises ValueError or FileNotFoundError, where their log-probabilities are not those
    of the base that was diagnosed, or nothing says so.
    """
    path = responses.with_name(responses.name + ".run.json")
    if not path.is_file():
        raise FileNotFoundError(f"expected the run of the responses, found no {path}")
    try:
        run = dict(files.read_json(path)["run"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected what a run was of: {error!r}") from error
    # An evaluation names its base so; a run that asks one model has it as the base.
    prefix = "base/" if run.get("command") == "evaluate" else "model/"
    found = {
        f"model/{name.removeprefix(prefix)}": digest
        for name, digest in run.items()
        if name.startswith(prefix)
    }
    if found != content["model"]:
        raise ValueError(
            f"{path}: expected the base that was diagnosed, {content['model']}, found "
            f"{found or 'none'}: give it to jsharp evaluate --base-model-name-or-path"
        )
    return all(run.get(name) == value for name, value in content["questions"].items())


def load(path: Path) -> tuple[Table, dict[Prompt, Tokens], dict[str, Any]]:
    """The predictions, the maximisers and all the rest of a diagnosis.json.

    Raises FileNotFoundError, or ValueError naming the field, where it is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a diagnosis, found no {path}")
    try:
        content = files.read_json(path)
        table = {
            name: None if value is None else Interval(*map(float, value))
            for name, value in content["predictions"].items()
        }
        known = {
            (id, tuple(found["prompt_ids"])): tuple(found["completion_ids"])
            for id, found in content["maximisers"].items()
        }
        for name in ("model", "questions"):
            dict(content[name])
        for name in ("level", "seed", "draws"):
            content["options"][name]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: expected a diagnosis: {error!r}") from error
    return table, known, content
