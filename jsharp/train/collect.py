"""A round's draws: JSON lines that a kill does not lose.

Draws from the base are streamed chunk by chunk and pinned by what made them (the
model's fingerprint, the prompts, N, the seed), so another run can use them again. Draws
from the policy itself depend on its weights: they are made again after a kill.
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from jsharp import files
from jsharp.commands import stream
from jsharp.commands.questions import Questions
from jsharp.commands.responses import Speaker, Tick, respond
from jsharp.commands.stream import Identity, Plan, Record
from jsharp.policy import Params
from jsharp.provenance import source, surroundings
from jsharp.selection import adaptive_stop

Ask = Callable[[Sequence[int], Tick], list[Record]]

# What another run may draw otherwise, and its draws still be such as are wanted.
_FREE = ("seed", "sample_batch_size", "chunk_size")


class Interrupted(Exception):
    """Told to stop; what is done is saved."""


class Asked(NamedTuple):
    """Who is asked what, in every round."""

    speaker: Speaker
    questions: Questions
    seed: int
    model: str


def streamed(
    path: Path,
    identity: Identity,
    plan: Plan,
    work: Ask,
    *,
    tick: Tick,
    stopped: Callable[[], bool],
    replace: bool,
) -> list[Record]:
    """The lines of `path`, after the chunks that it lacks are made.

    What another run wrote there is an error, or replaced. Raises Interrupted between
    two chunks once `stopped()`.
    """
    anew = False
    try:
        found = stream.find(path, identity, plan, overwrite=False)
    except ValueError as error:
        if not replace:
            told = str(error).removesuffix(stream.ADVICE)
            raise ValueError(f"{told}; --allow-changes makes it anew") from error
        found, anew = stream.Found(0, 0), True
    if found.chunks < plan.chunks:
        made = {**surroundings(), "source": source()}
        with stream.hold(path, identity, plan, made, overwrite=anew) as output:
            begun = output.found.chunks
            tick(plan.records(begun).start, 0)
            for chunk in range(begun, plan.chunks):
                if stopped():
                    raise Interrupted
                output.append(work(plan.records(chunk), tick))
    return list(files.read_lines(path))


def check_reusable(path: Path, identity: Identity, plan: Plan) -> None:
    """ValueError unless the draws at `path` are whole, and those of this identity.

    Seed and sizes of batches may be others.
    """
    if not path.is_file():
        raise ValueError(f"--draws must be a file of draws, found none at {path}")
    try:
        begun = stream.begun_as(path)
        free = {name: begun[name] for name in _FREE if name in begun}
        found = stream.find(path, identity | free, plan, overwrite=False)
    except ValueError as error:
        told = str(error).removesuffix(stream.ADVICE)
        raise ValueError(f"--draws: {told}") from error
    if found.chunks < plan.chunks:
        done = plan.records(found.chunks).start
        raise ValueError(
            f"--draws must hold {len(plan.ids)} prompts, found {done} in {path}"
        )


def draw_from(
    key: Key[Array, ""],
    params: Params,
    base: Params,
    asked: Asked,
    n: int,
    *,
    greedy: bool = False,
) -> Ask:
    """n responses to each prompt of a chunk, from `params`, scored under `base`."""

    def work(places: Sequence[int], tick: Tick) -> list[Record]:
        return respond(
            key,
            params,
            base,
            asked.speaker,
            asked.questions,
            places,
            n,
            seed=asked.seed,
            model=asked.model,
            greedy=greedy,
            tick=tick,
        )

    return work


def draw_until_stop(
    key: Key[Array, ""],
    base: Params,
    asked: Asked,
    *,
    delta: float,
    block: int,
    most: int,
) -> Ask:
    """The likeliest of N_mu(x) draws of each prompt (Eq 10), in blocks.

    Block b of a prompt is drawn by fold_in(key, b), as jsharp/ada_sft.py draws it. A
    record says also `queries`, the draws up to the stop, and whether it `stopped`.
    """
    log_mu = math.log(math.log(2 / delta))
    eq_10 = jax.jit(functools.partial(adaptive_stop, log_mu=log_mu))

    def work(places: Sequence[int], tick: Tick) -> list[Record]:
        kept: list[Record] = [{}] * len(places)
        best = np.full(len(places), -np.inf, np.float32)
        stopped = np.zeros(len(places), bool)
        for seen in range(0, most, block):
            active = np.flatnonzero(~stopped).tolist()
            if not active:
                break
            own = jax.random.fold_in(key, seen // block)
            ask = draw_from(own, base, base, asked, block)
            some = [places[i] for i in active]
            groups = grouped(ask(some, lambda _, tokens: tick(0, tokens)), block)
            log_prob = np.full((len(places), block), -np.inf, np.float32)
            log_prob[active] = log_probs(groups)
            stop = jax.device_get(eq_10(log_prob, seen=seen, best=best))
            for i, group in zip(active, groups, strict=True):
                at = int(stop.best[i, 0])
                if not seen or log_prob[i, at] > best[i]:
                    best[i], kept[i] = log_prob[i, at], dict(group[at])
                    kept[i]["sample_id"] = seen + at
                kept[i]["queries"] = seen + int(stop.time[i])
                kept[i]["stopped"] = bool(stop.stopped[i])
            tick(int(stop.stopped[active].sum()), 0)
            stopped |= stop.stopped
        tick(int((~stopped).sum()), 0)
        return kept

    return work


def grouped(lines: Sequence[Record], n: int) -> list[list[Record]]:
    """The n records of each prompt together."""
    return [list(lines[i : i + n]) for i in range(0, len(lines), n)]


def log_probs(groups: Sequence[Sequence[Record]]) -> Float[np.ndarray, "B n"]:
    """log pi_base(y|x) of every record, as recorded."""
    return np.array([[line["logprob_base"] for line in group] for group in groups])


def objective(
    groups: Sequence[Sequence[Record]], made: Sequence[Record], *, beta: float
) -> dict[str, float]:
    """J_beta(pi^t) = E[r - beta log pi^t/pi_base] (Eq 3) and the KL, of y ~ pi^t.

    Unbiased: y is the first of each example, drawn by pi^t, whose log-probability is
    that of the sampler.
    """
    own = [group[0] for group in groups]
    kl = [line["logprob_sampler"] - line["logprob_base"] for line in own]
    reward = [example["reward"][0] for example in made]
    gain = np.mean(reward) - beta * np.mean(kl)
    return {"sharpen/objective": float(gain), "kl": float(np.mean(kl))}


def summary(
    groups: Sequence[Sequence[Record]], chosen: Sequence[Record], *, own: int
) -> dict[str, float]:
    """What a round drew and what it kept, for metrics.jsonl.

    The first `own` of a prompt are the policy's; the drift is of those of the base.
    """
    lines = [line for group in groups for line in group]
    mean = lambda values: float(np.mean(values))
    found: dict[str, Any] = {
        "sharpen/queries": float(sum(line.get("queries", 1) for line in lines)),
        "sharpen/logprob_base_mean": mean([line["logprob_base"] for line in lines]),
        "sharpen/reward_chosen": mean([e["reward"] for e in chosen]),
        "sharpen/logprob_base_chosen": mean([e["logprob_base"] for e in chosen]),
        "completions/mean_length": mean([line["num_tokens"] for line in lines]),
        "completions/clipped_ratio": mean(
            [line["finish_reason"] == "length" for line in lines]
        ),
    }
    based = [line for group in groups for line in group[own:]]
    drift = [abs(line["logprob_base"] - line["logprob_sampler"]) for line in based]
    if drift:
        found["sharpen/drift"] = max(drift)
    if "stopped" in lines[0]:
        cut = [not line["stopped"] for line in lines]
        found["sharpen/frac_unstopped"] = mean(cut)
    if lines[0]["correct"] is not None:
        found["sharpen/accuracy_mean"] = mean([line["correct"] for line in lines])
        found["sharpen/accuracy_chosen"] = mean([e["correct"] for e in chosen])
    return found
