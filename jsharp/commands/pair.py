"""A model and the base under which what it says is scored: of one vocabulary."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jaxtyping import Array, Key

from jsharp.commands import model
from jsharp.commands.questions import Questions
from jsharp.commands.responses import (
    Speaker,
    Tick,
    draw,
    given,
    records,
    score,
)
from jsharp.commands.settings import ModelSettings
from jsharp.commands.stream import Record
from jsharp.lm import huggingface
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Params


class Pair(NamedTuple):
    """Their checkpoint directories; the same one where the model is its own base."""

    model: Path
    base: Path

    @property
    def fingerprint(self) -> Record:
        """A hash of every file of both that decides what they compute."""
        base = model.fingerprint(self.base)
        named = {f"base/{k.removeprefix('model/')}": v for k, v in base.items()}
        return {**model.fingerprint(self.model), **named}


def find(settings: ModelSettings, base: str | None) -> Pair:
    """The directories of both; FileNotFoundError, naming the option, without one."""
    directory = model.directory(settings.model_name_or_path)
    if base is None:
        return Pair(directory, directory)
    try:
        return Pair(directory, model.directory(base))
    except FileNotFoundError as error:
        told = str(error).removeprefix("--")
        raise FileNotFoundError(f"--base-{told}") from error


def check(
    pair: Pair, settings: ModelSettings, questions: Questions, *, room: int
) -> None:
    """ValueError unless the base can score, id by id, `room` tokens behind a prompt."""
    if pair.base == pair.model:
        return
    ours, theirs = (
        Tokenizer.load(path).inner.get_vocab(with_added_tokens=True) for path in pair
    )
    for token in sorted(ours.keys() | theirs.keys()):
        if ours.get(token) != theirs.get(token):
            raise ValueError(
                f"--base-model-name-or-path: expected the ids of the model's tokens, "
                f"found {theirs.get(token)} for {token!r}, the model's is "
                f"{ours.get(token)}"
            )
    most = huggingface.read_config(pair.base, **settings.weights).context_length
    for entry in questions.entries:
        if len(entry.ids) + room > most:
            raise ValueError(
                f"--base-model-name-or-path: id {entry.id!r}: expected prompt and "
                f"response to fit its {most} positions, found {len(entry.ids)} + {room}"
            )


class Loaded(NamedTuple):
    """Both, ready to be asked."""

    params: Params
    speaker: Speaker
    base: Params
    scorer: Speaker  # of the base


def load(pair: Pair, settings: ModelSettings, *, horizon: int, slots: int) -> Loaded:
    """Read the weights; those of one directory once."""
    found = huggingface.load(pair.model, **settings.weights)
    base = found
    if pair.base != pair.model:
        base = huggingface.load(pair.base, **settings.weights)
    tokenizer = Tokenizer.load(pair.model)
    speaker = Speaker(
        found.config, tokenizer, found.end, found.pad, horizon=horizon, slots=slots
    )
    scorer = speaker._replace(config=base.config)
    return Loaded(found.params, speaker, base.params, scorer)


def answer(
    key: Key[Array, ""],
    loaded: Loaded,
    questions: Questions,
    places: Sequence[int],
    n: int,
    *,
    seed: int,
    model: str,
    tick: Tick,
) -> list[Record]:
    """The greedy response and n samples to each question at `places`, in this order.

    Their records (`responses.records`) have also logprob, the model's own: like
    logprob_base teacher-forced, at temperature 1.
    """
    params, speaker = loaded.params, loaded.speaker
    prompts = [questions.entries[place].ids for place in places]
    ask = functools.partial(draw, key, params, speaker, prompts, places=places)
    greedy, drawn = ask(1, greedy=True), ask(n, tick=tick)
    said = given([*greedy, *drawn], questions)
    scores = score(loaded.base, loaded.scorer, said)
    own = scores.log_prob
    if params is not loaded.base:
        own = score(params, speaker, said).log_prob
    first, behind = slice(len(places)), slice(len(places), None)
    told = functools.partial(
        records, speaker=speaker, questions=questions, seed=seed, model=model
    )
    lines = told(greedy, jax.tree.map(lambda x: x[first], scores), greedy=True)
    lines += told(drawn, jax.tree.map(lambda x: x[behind], scores))
    lines = [line | {"logprob": x} for line, x in zip(lines, own.tolist(), strict=True)]
    samples = [lines[i : i + n] for i in range(len(places), len(lines), n)]
    groups = zip(lines[first], samples, strict=True)
    return [line for one, some in groups for line in (one, *some)]
