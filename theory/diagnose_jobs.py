"""The two jobs of `jsharp diagnose`: the pilot, and the search for the modes."""

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsharp import tasks
from jsharp.commands import mode, model, questions
from jsharp.commands.questions import Questions, Source
from jsharp.commands.responses import Speaker, respond
from jsharp.commands.run import Job, Tick, Work
from jsharp.commands.settings import require
from jsharp.commands.stream import Plan, Record
from jsharp.lm import huggingface
from jsharp.lm.huggingface import Checkpoint
from jsharp.lm.mode import mode as search
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Response
from theory.diagnose_config import Config
from theory.pilot import Pilot, drawn

PILOT, MODES = "pilot.jsonl", "modes.jsonl"
_STARTS = 8  # draws that the search for a mode begins with
# The options that decide the draws, besides questions and model.
_DRAWN = (
    *("num_generations", "max_completion_length", "seed", "model_name_or_path"),
    *("dtype", "long_context"),
)


class Asked(NamedTuple):
    """A run that is checked; `load` reads the weights, once."""

    questions: Questions
    pilot: Job
    modes: Job | None
    log_responses: float  # log|Y| = H log V


def prepare(config: Config) -> Asked:
    """Check everything but the weights; ValueError says what is wrong."""
    config.check()
    directory = model.directory(config.model_name_or_path)
    asked = questions.read(
        _source(config),
        config,
        directory,
        room=config.max_completion_length,
        taken=(),
    )
    require("prompts", bool(asked.entries), "at least one prompt", config.prompts)
    vocabulary = huggingface.read_config(directory, **config.weights).vocab_size
    identity = {
        **{name: getattr(config, name) for name in _DRAWN},
        **asked.identity,
        **model.fingerprint(directory),
    }
    ids = [entry.id for entry in asked.entries]
    load = functools.cache(lambda: _load(config, directory))
    draws = Job(
        output=config.output_dir / PILOT,
        overwrite=config.overwrite,
        identity={"command": "diagnose", **identity},
        plan=Plan(ids, size=config.chunk_size, each=config.num_generations + 1),
        load=lambda: _drawing(config, asked, *load()),
        summary=lambda records: f"{sum(1 for _ in records):,} responses",
    )
    modes = draws._replace(
        output=config.output_dir / MODES,
        # What `jsharp evaluate --modes` looks for is named as by `jsharp mode`.
        identity={"command": "mode", "budget": config.mode_budget, **identity},
        plan=Plan(ids, size=1),
        load=lambda: _searching(config, asked, *load()),
        summary=_summary,
    )
    return Asked(
        asked,
        draws,
        modes if config.mode_budget else None,
        config.max_completion_length * math.log(vocabulary),
    )


def _source(config: Config) -> Source:
    known = (*tasks.names(), *tasks.file_names())
    if config.prompts in known:
        return Source(
            task=config.prompts,
            part=config.part,
            data=config.data,
            grader=config.grader,
            limit=config.limit,
        )
    path = Path(config.prompts)
    if not path.is_file():
        raise FileNotFoundError(
            f"PROMPTS: expected a file of prompts or one of {', '.join(known)}, found "
            f"no {path}"
        )
    return Source(
        prompts=path, data=config.data, grader=config.grader, limit=config.limit
    )


def _load(config: Config, directory: Path) -> tuple[Checkpoint, Speaker]:
    loaded = huggingface.load(directory, **config.weights)
    speaker = Speaker(
        config=loaded.config,
        tokenizer=Tokenizer.load(directory),
        end=loaded.end,
        pad=loaded.pad,
        horizon=config.max_completion_length,
        slots=config.batch_size,
    )
    return loaded, speaker


def _drawing(
    config: Config, asked: Questions, loaded: Checkpoint, speaker: Speaker
) -> Work:
    key = jax.random.key(config.seed)

    def work(places: range, tick: Tick) -> list[Record]:
        say = functools.partial(
            respond,
            key,
            loaded.params,
            loaded.params,
            speaker,
            asked,
            places,
            seed=config.seed,
            model=config.model_name_or_path,
        )
        first = say(1, greedy=True, tick=lambda _, tokens: tick(0, tokens))
        drawn = say(config.num_generations, tick=tick)
        order = {asked.entries[place].id: i for i, place in enumerate(places)}
        # Stable: a prompt's greedy response, then its samples in their order.
        return sorted(first + drawn, key=lambda record: order[record["id"]])

    return work


def _searching(
    config: Config, asked: Questions, loaded: Checkpoint, speaker: Speaker
) -> Work:
    draws = drawn(config.output_dir / PILOT)

    def work(places: range, tick: Tick) -> list[Record]:
        lines = []
        for place in places:
            entry = asked.entries[place]._replace(raw={})
            found = search(
                loaded.params,
                entry.ids,
                config.mode_budget,
                config=loaded.config,
                horizon=config.max_completion_length,
                end=loaded.end,
                pad=loaded.pad,
                start=_start(draws, place, config.max_completion_length),
            )
            line = mode.record(config, entry, found, speaker.tokenizer, loaded.end)
            marked = asked.correct and asked.correct(place, line["completion"])
            lines.append(line | {"correct": marked})
            tick(1, found.expansions)
        return lines

    return work


def _start(draws: Pilot, place: int, horizon: int) -> Response:
    """The likeliest draws of a prompt, for the search to begin with."""
    pairs = dict(zip(draws.tokens[place], draws.log_prob[place], strict=True))
    best = sorted(pairs, key=lambda y: (-pairs[y], y))[:_STARTS]
    tokens = np.zeros((1, _STARTS, horizon), np.int32)
    length = np.zeros((1, _STARTS), np.int32)
    for i, response in enumerate(best):
        tokens[0, i, : len(response)], length[0, i] = response, len(response)
    zeros = jnp.zeros(length.shape, jnp.float32)
    return Response(jnp.asarray(tokens), jnp.asarray(length), zeros)


def _summary(records: Iterable[Record]) -> str:
    exact = [record["exact"] for record in records]
    return f"{sum(exact)} of {len(exact)} modes exact"
