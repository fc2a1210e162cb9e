"""The algorithms at equal budgets of queries, on a language model and on its table."""

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from experiments.bridge import grids, setting, toys
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import interval, markdown
from experiments.reproduce.verdicts import LEVEL, WIDENED, everywhere, mean_of, signs
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.commands.results import SEED

TASK = "arithmetic"
RUNS = 4  # of an algorithm on the table


def runs(config: Config) -> list[Run]:
    base = setting.base(config, TASK)
    return [base, *(one.evaluation for _, one in grids.contenders(config))]


def measure(config: Config) -> Found:
    """Per budget and algorithm: queries, pihat(Y*|x), accuracy, and the table's."""
    base = setting.judgement(config, setting.base(config, TASK))
    logits = toys.base_logits(setting.drawn(config, TASK), base.base_mass)
    rows = []
    for m, one in grids.contenders(config):
        judged = setting.judgement(config, one.evaluation)
        learnt = toys.learn(one.algorithm, logits, m, runs=RUNS, seed=SEED)
        accuracy = None if judged.accuracy is None else mean_of(judged.accuracy)
        rows.append(
            {
                "budget": m,
                "algorithm": one.algorithm,
                "n": one.n,
                "queries": setting.queries(config, one.training),
                "mass": mean_of(judged.mass),
                "gain": mean_of(judged.mass - judged.base_mass),
                "accuracy": accuracy,
                "toy": mean_of(learnt.mass.mean(0)),
                "toy_queries": float(learnt.queries.mean()),
            }
        )
    return {
        "level": LEVEL,
        "task": TASK,
        "exact": len(base.mass),
        "base": mean_of(base.base_mass),
        "base_accuracy": None if base.accuracy is None else mean_of(base.accuracy),
        "cells": int(logits.shape[1]),
        "rows": rows,
        "rankings": [ranking(rows, m) for m in grids.budgets(config)],
    }


def ranking(rows: list[dict[str, Any]], budget: int) -> dict[str, Any]:
    """Both orders of the algorithms at a budget, and Kendall's tau of them."""
    some = [row for row in rows if row["budget"] == budget]
    order = lambda key: [
        row["algorithm"] for row in sorted(some, key=lambda row: -row[key][0])
    ]
    toy, mass = ([row[key][0] for row in some] for key in ("toy", "mass"))
    tau, p = kendall(toy, mass)
    return {
        "budget": budget,
        "model": order("mass"),
        "toy": order("toy"),
        "tau": tau,
        "p_value": p,
        "p_value_of_the_reverse": kendall(toy, [-x for x in mass])[1],
    }


def kendall(x: list[float], y: list[float]) -> tuple[float, float]:
    """(tau_b, P[tau >= it] over all orders of y): exact, one-sided, ties or none."""
    tau = lambda order: float(np.asarray(scipy.stats.kendalltau(x, order))[0])
    found = tau(y)
    every = [tau(order) for order in itertools.permutations(y)]
    return found, float(np.mean([t >= found - 1e-9 for t in every]))


def draw(found: Found) -> dict[str, Figure]:
    budgets = [row["budget"] for row in found["rankings"]]
    names = list(dict.fromkeys(row["algorithm"] for row in found["rows"]))
    figure, axes = plt.subplots(
        1, len(budgets) + 1, figsize=(3.8 * (len(budgets) + 1), 3.5), squeeze=False
    )
    for axis, budget in zip(axes[0], budgets, strict=False):
        some = [row for row in found["rows"] if row["budget"] == budget]
        at = np.arange(len(some))
        for i, (key, label) in enumerate(
            (("mass", "language model"), ("toy", "its table"))
        ):
            middle, low, high = np.array([row[key] for row in some], float).T
            axis.bar(
                at + 0.4 * (i - 0.5),
                middle,
                0.38,
                yerr=[middle - low, high - middle],
                color=PALETTE[i],
                capsize=2,
                label=label,
            )
        axis.axhline(found["base"][0], color=THEORY, ls=":", lw=1, label="base")
        axis.set_xticks(at, [row["algorithm"] for row in some], fontsize=8)
        axis.set(title=f"about {budget:,} queries", ylim=(0, 1))
    axes[0, 0].set_ylabel(r"mean of $\hat\pi(Y^*(x)\,|\,x)$")
    axes[0, 0].legend(fontsize=8)
    last = axes[0, -1]
    for color, name in zip(PALETTE, names, strict=False):
        some = [row for row in found["rows"] if row["algorithm"] == name]
        x = [row["queries"] for row in some]
        middle, low, high = 100 * np.array([row["accuracy"] for row in some], float).T
        ends = [middle - low, high - middle]
        last.errorbar(x, middle, ends, color=color, marker="o", capsize=2, label=name)
    if found["base_accuracy"]:
        last.axhline(100 * found["base_accuracy"][0], color=THEORY, ls=":", lw=1)
    last.set(xscale="log", xlabel="queries m, measured", ylabel="accuracy, %")
    last.set_xticks(budgets, [f"{m:,}" for m in budgets])
    last.set_xticks([], minor=True)
    last.legend(fontsize=8)
    return {"bridge_algorithms": figure}


def tell(found: Found) -> str:
    rows = [
        {
            "budget": row["budget"],
            "algorithm": row["algorithm"],
            "n": row["n"],
            "queries": row["queries"],
            "mean mass on Y\\*, %": (row["mass"], 100),
            "accuracy, %": (row["accuracy"], 100),
            "on the table, %": (row["toy"], 100),
            "queries there": row["toy_queries"],
        }
        for row in found["rows"]
    ]
    orders = "\n\n".join(
        f"At {each['budget']}: the language model {' > '.join(each['model'])}; its "
        f"table {' > '.join(each['toy'])}; Kendall's tau {each['tau']:.2f}, exact "
        f"one-sided p = {each['p_value']:.3g}."
        for each in found["rankings"]
    )
    count = len({row["algorithm"] for row in found["rows"]})
    return (
        f"{markdown(rows)}\n\nThe base has {interval(found['base'], 100)} % of its "
        "mass on its modes and an accuracy of "
        f"{interval(found['base_accuracy'], 100)} %.\n\n"
        f"{orders}\n\n{count} algorithms are few: of {count} without ties one order in "
        f"{np.prod(np.arange(1, count + 1))} agrees wholly by chance. The table has a "
        f"row of {found['cells']} cells for each of the {found['exact']} prompts: the "
        "mode with its proven probability, the other responses that were drawn with "
        "theirs, and the mass that no draw showed spread over cells of at most half "
        "the mode's probability. On the table likelihoods and regressions are fitted "
        "to the end and no prompt learns from another; on the language model each "
        "algorithm has the rate of `experiments.sharpening` and one run, and its rank "
        "is that of its options as well (n of ada-sft, for its total, and the rate of "
        "sft and ada-sft were chosen with a look at the base's responses to 48, and at "
        "two policies on 16, of the judged prompts). xpo keeps its last policy on "
        "both, not the best of its rounds. rlhf and xpo aim at pi_base^(1 + 1/beta), "
        f"beta = {grids.OPTIONS.beta:g}, which is not all on the modes."
    )


def judge(found: Found) -> list[Check]:
    rankings = found["rankings"]
    agreeing = [_same_order(each, len(rankings)) for each in rankings]
    gains = signs([row["gain"] for row in found["rows"]])
    named = lambda row: f"{row['algorithm']} at {row['budget']}"
    return [
        Check(
            "tables predict in which order the algorithms come on a language model",
            everywhere(agreeing),
            "Kendall's tau of the two orders has an exact one-sided p-value of at most "
            f"{LEVEL:g} at every budget: yes; so has that of the reverse order, of "
            f"{LEVEL:g} over the number of budgets, at one: no",
            "; ".join(
                f"{each['budget']} queries: tau {each['tau']:.2f}, "
                f"p {each['p_value']:.3g}"
                for each in rankings
            ),
        ),
        Check(
            "every algorithm moves mass onto the modes of the base, on unseen prompts",
            everywhere(gains),
            "the mean of pihat(Y*|x) - pi_base(Y*|x) is above 0 for every algorithm at "
            f"every budget; {WIDENED}",
            "; ".join(
                f"{named(row)}: {interval(row['gain'], 100)}" for row in found["rows"]
            )
            + " percentage points",
        ),
    ]


def _same_order(ranking: dict[str, Any], budgets: int) -> bool | None:
    if ranking["p_value"] <= LEVEL:
        return True
    return False if ranking["p_value_of_the_reverse"] <= LEVEL / budgets else None


EXPERIMENT = Experiment(
    name="bridge_algorithms",
    title="the algorithms at equal queries, on a language model and on its table",
    paper="",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
    prepare=setting.inputs,
)
