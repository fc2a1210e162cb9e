"""How a policy does on held-out prompts while it is trained."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Key

from jsharp.commands.responses import Tick
from jsharp.commands.stream import Identity, Plan, Record
from jsharp.policy import Params
from jsharp.train.collect import Asked, draw_from, grouped, streamed


def evaluate(
    key: Key[Array, ""],
    path: Path,
    identity: Identity,
    asked: Asked,
    params: Params,
    base: Params,
    *,
    n: int,
    chunk: int,
    tick: Tick,
    stopped: Callable[[], bool],
    replace: bool,
) -> dict[str, float]:
    """Means over prompts of greedy and n sampled responses, streamed to `path`.

    Every step draws with the same uniforms, so that two steps differ by their policies.
    """

    def work(places: Sequence[int], tick: Tick) -> list[Record]:
        ask = functools.partial(draw_from, key, params, base, asked)
        greedy = ask(1, greedy=True)(places, lambda *_: None)
        drawn = grouped(ask(n)(places, tick), n)
        both = zip(greedy, drawn, strict=True)
        return [line for one, some in both for line in (one, *some)]

    ids = [entry.id for entry in asked.questions.entries]
    plan = Plan(ids, size=chunk, each=n + 1)
    how = {"tick": tick, "stopped": stopped, "replace": replace}
    lines = streamed(path, identity, plan, work, **how)
    return means(grouped(lines, n + 1))


def means(groups: Sequence[Sequence[Record]]) -> dict[str, float]:
    """Of the greedy response, the first of each group, and of the samples behind it."""
    field = lambda name: np.array([[x[name] for x in g] for g in groups], float)
    log_prob, size = field("logprob_base"), field("num_tokens")
    found = {
        "eval/greedy_logprob_base": log_prob[:, 0].mean(),
        "eval/logprob_base": log_prob[:, 1:].mean(),
        "eval/mean_length": size[:, 1:].mean(),
    }
    if groups[0][0]["correct"] is not None:
        correct = field("correct")
        found |= {
            "eval/greedy_accuracy": correct[:, 0].mean(),
            "eval/accuracy": correct[:, 1:].mean(),
            "eval/coverage": correct[:, 1:].max(1).mean(),
        }
    return {name: float(value) for name, value in found.items()}
