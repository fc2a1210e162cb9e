"""Length bias, learned: SFT-Sharpening of the base of two forms by three rewards.

All rewards choose from the same draws of a seed. What the model then answers, at each
evaluation: share of answers at once, tokens, accuracy of one sample and of greedy.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.failures.cases import (
    BUILT,
    REWARD,
    interval,
    is_short,
    two_forms,
)
from experiments.reproduce import amortised, trained
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found, folder
from experiments.reproduce.tables import interval as interval_of
from experiments.reproduce.tables import markdown, number
from experiments.reproduce.verdicts import LEVEL
from experiments.reproduce.work import Run
from experiments.style import PALETTE
from jsharp.commands.results import gather
from jsharp.commands.stream import Record

REWARDS = (REWARD, "length-normalised", "majority")
MEASURES = {
    "accuracy": ("accuracy of one sample, %", 100.0),
    "greedy_accuracy": ("accuracy of greedy, %", 100.0),
    "tokens": ("tokens of one sample, mean", 1.0),
    "short": ("answers at once, %", 100.0),
}


def training(config: Config, reward: str, seed: int) -> Run:
    """SFT-Sharpening of the base of two forms, on the draws of the first reward."""
    some = two_forms(config)
    ((model, task),) = some.settings()
    run = amortised.training(some, model, task, config.generations, seed)
    name = f"failures/sft/{model}/{task}/{reward}-seed{seed}"
    words = (*run.words, "--reward", reward)
    if reward == REWARDS[0]:
        return Run(name, words, run.needs)
    first = training(config, REWARDS[0], seed)
    draws = f"{first.name}/rounds/00000.draws.jsonl"
    return Run(name, (*words, "--draws", draws), (first,))


def runs(config: Config) -> list[Run]:
    """One for each reward and seed."""
    return [training(config, r, seed) for r in REWARDS for seed in config.seeds]


def findings(config: Config) -> Found:
    """Per reward, at each evaluation: every measure, a mean over samples and seeds.

    `change`: last minus first. `over`: at the end, minus the log-probability's. Both
    are paired over prompts, and of every seed alone.
    """
    ((model, task),) = two_forms(config).settings()
    found = {
        reward: [
            evaluations(folder(config, training(config, reward, seed)) / "eval")
            for seed in config.seeds
        ]
        for reward in REWARDS
    }
    steps = sorted({step for runs in found.values() for run in runs for step in run})
    at = lambda reward, step, name: np.mean(
        [run[step][name] for run in found[reward]], axis=0
    )
    alone = lambda reward, step, name: np.array(
        [run[step][name].mean() for run in found[reward]]
    )
    return {
        "level": LEVEL,
        "model": model,
        "task": task,
        "built": not config.quick,  # to have two forms
        "n": config.generations,
        "seeds": list(config.seeds),
        "steps": steps,
        "rewards": {
            reward: {
                name: {
                    "curve": [interval(at(reward, step, name)) for step in steps],
                    "by_seed": alone(reward, steps[-1], name).tolist(),
                    "change": interval(
                        at(reward, steps[-1], name) - at(reward, steps[0], name)
                    ),
                    "change_of_seeds": (
                        alone(reward, steps[-1], name) - alone(reward, steps[0], name)
                    ).tolist(),
                    "over": interval(
                        at(reward, steps[-1], name) - at(REWARD, steps[-1], name)
                    ),
                    "over_of_seeds": (
                        alone(reward, steps[-1], name) - alone(REWARD, steps[-1], name)
                    ).tolist(),
                }
                for name in MEASURES
            }
            for reward in REWARDS
        },
    }


def evaluations(directory: Path) -> dict[int, dict[str, Float[np.ndarray, " B"]]]:
    """Every measure of each prompt, by the step of the evaluation.

    Raises FileNotFoundError where there is no evaluation.
    """
    paths = {int(path.stem): path for path in directory.glob("*.jsonl")}
    if not paths:
        raise FileNotFoundError(f"expected evaluations in {directory}, found none")
    return {step: _evaluated(path) for step, path in paths.items()}


def _evaluated(path: Path) -> dict[str, Float[np.ndarray, " B"]]:
    found = gather(path)
    mean = lambda field: np.array(
        [np.mean([field(line) for line in group]) for group in found.samples]
    )
    right = lambda line: float(line["correct"])
    return {
        "accuracy": mean(right),
        "greedy_accuracy": np.array([right(line) for line in found.greedy]),
        "tokens": mean(lambda line: line["num_tokens"]),
        "short": mean(_short),
    }


def _short(line: Record) -> float:
    return float(is_short(line["completion"]))


def draw(found: Found) -> dict[str, Figure]:
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.6), sharex=True)
    for axis, (name, (label, scale)) in zip(
        grid.ravel(), MEASURES.items(), strict=True
    ):
        for color, (reward, each) in zip(
            PALETTE, found["rewards"].items(), strict=False
        ):
            middle, low, high = scale * np.array(each[name]["curve"], float).T
            axis.plot(found["steps"], middle, "o-", ms=3, color=color, label=reward)
            axis.fill_between(found["steps"], low, high, color=color, alpha=0.15, lw=0)
            seeds = scale * np.array(each[name]["by_seed"])
            axis.plot([1.03 * found["steps"][-1]] * len(seeds), seeds, "_", color=color)
        axis.set_ylabel(label)
    for axis in grid[1]:
        axis.set_xlabel("optimiser steps")
    grid[0, 0].legend(fontsize=8)
    figure.suptitle(
        f"{found['model']}, {found['task']}: SFT on the best of {found['n']}, "
        f"seeds: {', '.join(map(str, found['seeds']))}",
        fontsize=10,
    )
    return {"failure_training": figure}


def tell(found: Found) -> str:
    first, last = found["steps"][0], found["steps"][-1]
    rows = [
        {
            "self-reward": reward,
            "measure": label,
            f"step {first}": (each[name]["curve"][0], scale),
            f"step {last}": (each[name]["curve"][-1], scale),
            "change": (each[name]["change"], scale),
            "of each seed": _listed(each[name]["change_of_seeds"], scale),
            f"over {REWARD}": (each[name]["over"], scale),
            "of each seed ": _listed(each[name]["over_of_seeds"], scale),
        }
        for reward, each in found["rewards"].items()
        for name, (label, scale) in MEASURES.items()
    ]
    return (
        "Intervals are over prompts, of the mean of these seeds. A seed decides the "
        "draws, which its rewards share, the order of the examples and the held-out "
        f"samples.\n\n{markdown(rows)}"
    )


def judge(found: Found) -> list[Check]:
    """Of a base that was built for it alone."""
    return [
        _check(
            found,
            f"sharpening by {REWARD} makes responses shorter",
            "the change in tokens",
            (REWARD, "tokens", "change"),
            below=True,
        ),
        *(
            _check(
                found,
                f"sharpening by {reward} helps more than by {REWARD}",
                f"the accuracy of one sample at the end, minus that by {REWARD},",
                (reward, "accuracy", "over"),
                below=False,
            )
            for reward in REWARDS[1:]
        ),
    ]


def _check(
    found: Found, statement: str, what: str, at: tuple[str, str, str], *, below: bool
) -> Check:
    """Whether a difference, `at` (reward, measure, name), is below 0, or above it."""
    reward, measure, name = at
    each, scale = found["rewards"][reward][measure], MEASURES[measure][1]
    value, seeds = each[name], each[f"{name}_of_seeds"]
    way = trained.outcome(value, seeds)
    count = "its one seed" if len(seeds) == 1 else f"each of its {len(seeds)} seeds"
    none = "" if found["built"] else "no such base here; of another: "
    return Check(
        f"{BUILT}: {statement}",
        None if way is None or not found["built"] else way != below,
        f"{what} is {'below' if below else 'above'} 0, with the paired interval over "
        f"prompts and in {count} alone; where these disagree nothing is shown",
        f"{none}{interval_of(value, scale)}{' points' if scale == 100 else ''}; by "
        f"seed: {_listed(seeds, scale)}",
    )


def _listed(values: list[float], scale: float) -> str:
    return ", ".join(number(scale * value) for value in values)


EXPERIMENT = Experiment(
    name="failure_training",
    title="length bias learned: SFT-Sharpening by three self-rewards",
    paper="",
    runs=runs,
    measure=findings,
    draw=draw,
    tell=tell,
    judge=judge,
)
