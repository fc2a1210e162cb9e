"""A round's draws and examples: from the base, streamed; from the policy, anew."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Key

from jsharp import files
from jsharp.commands import stream
from jsharp.commands.responses import Speaker
from jsharp.commands.stream import Record
from jsharp.policy import Params
from jsharp.reward import REWARDS
from jsharp.train import collect, metrics
from jsharp.train.collect import Asked
from jsharp.train.config import AdaSft, Config
from jsharp.train.examples import examples, score
from jsharp.train.fit import State, Step
from jsharp.train.plan import Plan
from jsharp.train.progress import Shown

Groups = Sequence[Sequence[Record]]  # the records of each prompt


class Base:
    """The base's weights: in memory from when they are asked for until dropped."""

    def __init__(self, read: Callable[[], Params], params: Params = None):
        self._read, self._params = read, params

    @property
    def params(self) -> Params:
        if self._params is None:
            self._params = self._read()
        return self._params

    def drop(self) -> None:
        self._params = None


class Work(NamedTuple):
    """A run with its weights."""

    plan: Plan
    identity: Record
    base: Base
    speaker: Speaker
    tx: optax.GradientTransformation
    step: Step
    state: State  # that it goes on from
    sinks: tuple[metrics.Sink, ...]


# What the draws of a base depend on, besides the model and the questions.
_DECIDING = (
    *("seed", "max_completion_length", "sample_batch_size", "chunk_size", "dtype"),
    *("long_context", "chat", "add_special_tokens", "chat_template_kwargs"),
)


def collected(
    work: Work, state: State, r: int, stop: threading.Event, shown: Shown
) -> tuple[Groups, list[Record]]:
    """The round's records, by prompt, and its examples.

    Round r draws by fold_in(key, r), and a prompt of it by its place in the data.
    """
    plan, config = work.plan, work.plan.config
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), r)
    if plan.recipe.own:
        groups = _drawn_online(work, state, key, r, shown)
    else:
        groups = _drawn_offline(work, state, key, r, stop, shown)
    reward = REWARDS[getattr(config, "reward", "log-probability")]
    rewards = score(groups, reward)
    return groups, examples(groups, rewards, plan.recipe.examples(rewards))


def policy(work: Work, state: State) -> Params:
    """The weights of the state's model, to sample from and to save."""
    trainee = work.plan.trainee
    return trainee.draw(work.base.params if trainee.adapts else {}, state.params)


def path_of(config: Config, r: int, kind: str) -> Path:
    return config.output_dir / "rounds" / f"{r:05}.{kind}.jsonl"


def write_examples(work: Work, r: int, made: Sequence[Record]) -> None:
    """The examples of round r and, behind them, what made them."""
    path = path_of(work.plan.config, r, "examples")
    files.write_lines(path, made)
    files.write_json(_beside(path), {"run": work.identity})


def is_made(work: Work, r: int) -> bool:
    """Whether the examples of round r are there, made by this very config."""
    beside = _beside(path_of(work.plan.config, r, "examples"))
    wanted = json.loads(json.dumps(work.identity))  # tuples become lists
    return beside.exists() and files.read_json(beside)["run"] == wanted


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".run.json")


def check_draws(plan: Plan) -> None:
    """ValueError where --draws names none that this run could have made."""
    if plan.config.draws is not None:
        identity = _identity(plan, 0, plan.fingerprint)
        collect.check_reusable(plan.config.draws, identity, _chunks(plan))


def _drawn_online(
    work: Work, state: State, key: Key[Array, ""], r: int, shown: Shown
) -> Groups:
    """From the policy first, then from the base, as the algorithms have them."""
    chosen, base, asked = work.plan.recipe, work.base.params, _asked(work)
    own_key, base_key = jax.random.split(key) if chosen.base else (key, key)
    places = work.plan.places[r].tolist()
    tick = shown.drawing(r, len(places))
    own = collect.draw_from(own_key, policy(work, state), base, asked, chosen.own)
    groups = collect.grouped(own(places, tick), chosen.own)
    if chosen.base:
        other = collect.draw_from(base_key, base, base, asked, chosen.base)
        again = collect.grouped(other(places, lambda *_: None), chosen.base)
        groups = [a + b for a, b in zip(groups, again, strict=True)]
    return groups


def _drawn_offline(
    work: Work,
    state: State,
    key: Key[Array, ""],
    r: int,
    stop: threading.Event,
    shown: Shown,
) -> Groups:
    plan, config, n = work.plan, work.plan.config, work.plan.recipe.base
    if config.draws is not None:
        return collect.grouped(list(files.read_lines(config.draws)), n)
    rebased = config.rebase and r > 0
    base = policy(work, state) if rebased else work.base.params
    made_by = {"params": _digest(base)} if rebased else plan.fingerprint
    if isinstance(config, AdaSft):
        ask = collect.draw_until_stop(key, base, _asked(work), **_sizes(config))
    else:
        ask = collect.draw_from(key, base, base, _asked(work), n)
    lines = collect.streamed(
        path_of(config, r, "draws"),
        _identity(plan, r, made_by),
        _chunks(plan),
        ask,
        tick=shown.drawing(r, len(plan.places[r])),
        stopped=stop.is_set,
        replace=config.allow_changes,
    )
    return collect.grouped(lines, n)


def _asked(work: Work) -> Asked:
    config = work.plan.config
    name = config.model_name_or_path
    return Asked(work.speaker, work.plan.questions, config.seed, name)


def _sizes(config: AdaSft) -> Record:
    most = config.max_generations
    return {"delta": config.delta, "block": config.block, "most": most}


def _chunks(plan: Plan) -> stream.Plan:
    ids = [entry.id for entry in plan.questions.entries]
    return stream.Plan(ids, size=plan.config.chunk_size, each=plan.recipe.base)


def _identity(plan: Plan, r: int, made_by: Record) -> Record:
    """What the draws of round r are; `made_by` pins the weights."""
    config, n = plan.config, plan.recipe.base
    how = _sizes(config) if isinstance(config, AdaSft) else {"num_generations": n}
    return {
        "command": "train: draws",
        **how,
        **{name: getattr(config, name) for name in _DECIDING},
        "round": r,
        **plan.questions.identity,
        **made_by,
    }


def _digest(params: Params) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
