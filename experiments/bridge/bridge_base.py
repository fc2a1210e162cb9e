"""Coverage of a transformer by proven modes, and best-of-N against its exact law."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.bridge import laws, setting
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.plots import TICKS
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import LEVEL, mean_of
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.selection import best_of_every_k
from theory.prices import found_by

FALSE_ALARM = 0.01  # of all tests of the law on one task together


def runs(config: Config) -> list[Run]:
    return [setting.base(config, task) for task in setting.TASKS]


def measure(config: Config) -> Found:
    """Per task: pi_base(Y*|x) of every prompt, C_cov, best-of-k for k = 1..N."""
    rows = [_task(config, task) for task in setting.TASKS]
    return {"level": LEVEL, "false_alarm": FALSE_ALARM, "tasks": rows}


def _task(config: Config, task: str) -> dict[str, Any]:
    lines = setting.mode_lines(config, task)
    bounds = np.array([[line["mass_lower"], line["mass_upper"]] for line in lines])
    exact = np.array([line["exact"] for line in lines], bool)
    mass, drawn = bounds[exact, 1], setting.drawn(config, task)
    found = best_of_every_k(drawn.log_prob, drawn.on_mode)
    sizes = list(range(1, found.shape[1] + 1))
    powers = [k for k in sizes if k & (k - 1) == 0]
    test = lambda k, law: laws.blocks(
        drawn.log_prob, drawn.on_mode, mass, k, law_of=law
    )
    return {
        "task": task,
        "prompts": len(lines),
        "exact": int(exact.sum()),
        "ties": int(sum(len(line["ties"]) > 1 for line in lines)),
        "expansions": mean_of(np.array([line["expansions"] for line in lines], float)),
        "mass": sorted(mass.tolist()),
        "mean_mass": mean_of(mass),
        # Over all prompts, those whose mode is only bounded too.
        "c_cov_bounds": [laws.coverage(bounds[:, 1]), laws.coverage(bounds[:, 0])],
        "c_cov": mean_of(1 / mass),
        "k": sizes,
        "success": [mean_of(found[:, k - 1]) for k in sizes],
        "law": [float(found_by(mass, k).mean()) for k in sizes],
        # Where a mode was drawn and something else was scored above it.
        "outscored": int((drawn.on_mode.any(1) & (found[:, -1] < 1 - 1e-9)).sum()),
        "tests": [{"k": k, **test(k, k)._asdict()} for k in powers],
        "planted": [{"k": k, **test(k, k + 1)._asdict()} for k in powers],
    }


def draw(found: Found) -> dict[str, Figure]:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4))
    for color, row in zip(PALETTE, found["tasks"], strict=False):
        share = np.arange(1, len(row["mass"]) + 1) / len(row["mass"])
        mass, share = [row["mass"][0], *row["mass"]], [0.0, *share]
        left.step(mass, share, where="post", color=color, label=row["task"])
        middle, low, high = np.array(row["success"], float).T
        right.plot(row["k"], middle, color=color, label=f"{row['task']}, measured")
        right.fill_between(row["k"], low, high, color=color, alpha=0.2, lw=0)
        right.plot(row["k"], row["law"], color=THEORY, ls="--", lw=1, zorder=3)
    right.plot([], [], color=THEORY, ls="--", lw=1, label="$E[1-(1-q)^N]$, exact")
    left.set(
        xscale="log",
        xlabel=r"$q = \pi_{base}(Y^*(x)\,|\,x)$, proven",
        ylabel="share of prompts with at most q",
    )
    right.set(
        xscale="log", xlabel="N", ylabel="share of prompts whose\nbest of N is the mode"
    )
    largest = max(row["k"][-1] for row in found["tasks"])
    ticks = [k for k in TICKS if k <= largest]
    right.set_xticks(ticks, [str(k) for k in ticks])
    right.set_xticks([], minor=True)
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return {"bridge_base": figure}


def tell(found: Found) -> str:
    rows = [
        {
            "task": row["task"],
            "prompts": row["prompts"],
            "exact modes": row["exact"],
            "prefixes expanded": (row["expansions"], 1),
            "mean of pi_base(Y\\*\\|x)": (row["mean_mass"], 1),
            "C_cov": (row["c_cov"], 1),
            "C_cov of all prompts, bounds": "{:.4g} to {:.4g}".format(
                *row["c_cov_bounds"]
            ),
            f"best of {row['k'][-1]} is the mode, %": (row["success"][-1], 100),
            "exact law, %": 100 * row["law"][-1],
            "prompts whose mode was drawn and lost": row["outscored"],
            "least p-value of the law": _least(row["tests"]),
            "of a law that is wrong by one draw": _least(row["planted"]),
        }
        for row in found["tasks"]
    ]
    return (
        f"{markdown(rows)}\n\nThe law needs nothing but the proven mass of the mode: a "
        "sampler, a scorer or a search that is wrong would leave it. Each k = 1, 2, 4, "
        "... is tested on disjoint blocks of the draws, where the number of successes "
        "is a sum of independent binomials; the same test is shown a law of k + 1 "
        "draws. C_cov is of these prompts: no sample of them bounds E[1/q] from above, "
        "and its interval is that of their resamples."
    )


def _least(tests: list[dict[str, Any]]) -> float:
    return min(test["p_value"] for test in tests)


def judge(found: Found) -> list[Check]:
    """Bonferroni over the k of a task; a law off by one draw must be refused."""
    at = lambda row: found["false_alarm"] / len(row["tests"])
    refused = [row["task"] for row in found["tasks"] if _least(row["tests"]) <= at(row)]
    strong = [_least(row["planted"]) <= at(row) for row in found["tasks"]]
    agrees = False if refused else (True if all(strong) else None)
    inexact = sum(row["prompts"] - row["exact"] for row in found["tasks"])
    p = ", ".join(f"{x['task']} {_least(x['tests']):.2g}" for x in found["tasks"])
    q = ", ".join(f"{x['task']} {_least(x['planted']):.2g}" for x in found["tasks"])
    return [
        Check(
            "the best of N is the mode with probability 1 - (1 - pi_base(Y*|x))^N",
            agrees,
            "no exact test of the count of successes refuses it at a level of "
            f"{found['false_alarm']:g} for all k of a task together, and the same "
            "tests do refuse, on every task, the law of one draw more (where they do "
            "not, nothing is shown)",
            f"least p-values: {p}; of the law of one draw more: {q}; {inexact} prompts "
            "without a proven mode are left out",
        )
    ]


EXPERIMENT = Experiment(
    name="bridge_base",
    title="coverage of a language model, by proven modes",
    paper="",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
    prepare=setting.inputs,
)
