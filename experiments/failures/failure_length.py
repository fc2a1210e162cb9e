"""Length bias: which self-reward picks short answers, and what that costs.

The base of two forms answers a sum at once (one short response) or works it out (twelve
long ones). It was built so, for likelihood to favour the form that is less often right:
what is judged here is how that misleads a reward, not how bases are. For the best of
all N by a self-reward, with f the share of short picks, R_S and R_W the accuracy of the
best among the short and among the worked draws of a prompt, and c whether any of its N
draws is right,

    accuracy = E[ f R_S + (1 - f) R_W ]
    E[c] - accuracy = E[ c - max(R_S, R_W) ]               lost within the forms
                    + E[ max(R_S, R_W) - accuracy(x) ]     lost by choosing the form

both of which are >= 0 at every prompt: the identity is exact.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.failures.cases import (
    BUILT,
    REWARD,
    chosen,
    every_cell,
    interval,
    is_short,
    plain_ticks,
    planted,
    rewards_of,
    short,
    two_forms,
)
from experiments.reproduce import inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.inference import Cell
from experiments.reproduce.tables import interval as interval_of
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import LEVEL, everywhere, sign
from experiments.reproduce.work import Run
from experiments.style import PALETTE, THEORY
from jsharp.commands.results import JOINT, SEED, measure, numbers
from jsharp.evaluate import ACCURACY, Measured, picks, summarise
from jsharp.stats import bootstrap

NORMALISED = "length-normalised"
OTHERS = (NORMALISED, "majority")  # whose best is compared with log-probability's
FORMS = ("short", "worked")


def runs(config: Config) -> list[Run]:
    """Responses of every cell, and of the base of two forms."""
    return [*inference.evaluations(config), *inference.evaluations(two_forms(config))]


def findings(config: Config) -> Found:
    """Of every cell what its picks' lengths are; of the one of two forms, the forms."""
    two = planted(config)
    return {
        "level": LEVEL,
        "lengths": [lengths(cell) for cell in every_cell(config)],
        "forms": None if two is None else forms(two, measure(two.sampled)),
    }


def lengths(cell: Cell) -> dict[str, Any]:
    """Per self-reward, the best of N: its tokens and accuracy, and its rivals'.

    `longer`: tokens minus those of one sample; `than_log_probability`: accuracy minus
    that of the best by log-probability; `than_greedy`: minus greedy's; all paired.
    """
    tokens = cell.field("num_tokens")
    n = tokens.shape[1]
    best = {by: cell.pick(by, n).value for by in rewards_of(cell)}
    reference, greedy = best[REWARD][ACCURACY], cell.pick("greedy", 1).value[ACCURACY]
    return {
        "model": cell.model,
        "task": cell.task,
        "n": n,
        "tokens": interval(tokens.mean(1)),
        "rewards": {
            by: {
                "accuracy": interval(value[ACCURACY]),
                "longer": interval(value["num_tokens"] - tokens.mean(1)),
                "than_log_probability": interval(value[ACCURACY] - reference),
                "than_greedy": interval(value[ACCURACY] - greedy),
            }
            for by, value in best.items()
        },
    }


def forms(cell: Cell, measured: Measured) -> dict[str, Any]:
    """The cell whose base answers in two forms: samples, picks in k, what is lost."""
    brief, right = short(cell), np.asarray(measured.sampled[ACCURACY], float)
    n = right.shape[1]
    more = dict(measured.sampled) | {"short": brief.astype(float)}
    greedy = np.array([float(is_short(r["completion"])) for r in cell.sampled.greedy])
    curves = picks(
        Measured(more, {**measured.greedy, "short": greedy}, measured.score),
        joint=JOINT,
    )
    rows = summarise(curves, level=LEVEL, seed=SEED)
    reference = chosen(measured.score[REWARD], right)
    names = {"accuracy": ACCURACY, "tokens": "num_tokens", "short": "short"}
    return {
        "model": cell.model,
        "task": cell.task,
        "n": n,
        "samples": {
            form: {"share": interval(mine.mean(1)), "accuracy": pooled(mine, right)}
            for form, mine in zip(FORMS, (brief, ~brief), strict=True)
        },
        "curves": {
            by: {"k": [row.k for row in rows if row.by == by]}
            | {
                name: [numbers(row.mean[field]) for row in rows if row.by == by]
                for name, field in names.items()
            }
            for by in ("sample", *measured.score)
        },
        "coverage": interval(right.any(1)),
        "lost": {by: lost(score, right, brief) for by, score in measured.score.items()},
        "over_log_probability": {
            by: interval(chosen(measured.score[by], right) - reference) for by in OTHERS
        },
    }


def pooled(among: np.ndarray, right: np.ndarray) -> list[float | None] | None:
    """Accuracy of the draws `among` all [B N]: a ratio of means, prompts resampled."""
    if not among.any():
        return None
    pairs = np.stack([(among * right).mean(1), among.mean(1)], 1)
    ratio = lambda v: v[..., 0].mean(1) / np.maximum(v[..., 1].mean(1), 1e-12)
    return numbers(bootstrap(pairs, ratio, level=LEVEL, seed=SEED))


def lost(score: np.ndarray, right: np.ndarray, brief: np.ndarray) -> dict[str, Any]:
    """The best of N by a self-reward, and the two parts of what it lacks (above).

    short_over_sample: share of short picks minus that of short samples.
    over_form_of_sample: accuracy minus that of the same self-reward in the form that
    one sample has; what its choice of the form is worth.
    """
    picked, share = chosen(score, right), chosen(score, brief)
    each = [chosen(score, right, among) for among in (brief, ~brief)]
    best = np.maximum(*each)
    drawn = brief.mean(1) * each[0] + (1 - brief.mean(1)) * each[1]
    return {
        "accuracy": interval(picked),
        "short": interval(share),
        "short_over_sample": interval(share - brief.mean(1)),
        **{f"best_{form}": interval(x) for form, x in zip(FORMS, each, strict=True)},
        "within_forms": interval(right.any(1) - best),
        "choice_of_form": interval(best - picked),
        "over_form_of_sample": interval(picked - drawn),
    }


def draw(found: Found) -> dict[str, Figure]:
    figures = {"failure_length_cells": _cells(found["lengths"])}
    if found["forms"] is not None:
        figures["failure_length"] = _forms(found["forms"])
    return figures


def _forms(cell: dict[str, Any]) -> Figure:
    """Accuracy, tokens and share of short picks in k; what is lost at N."""
    figure, grid = plt.subplots(2, 2, figsize=(10.5, 7.4))
    axes = grid.ravel()
    labels = {
        "accuracy": ("accuracy of the best of k, %", 100),
        "short": ("answers at once among the picks, %", 100),
        "tokens": ("tokens of the pick, mean", 1),
    }
    rewards = [by for by in cell["curves"] if by != "sample"]
    for axis, (name, (label, scale)) in zip(axes[:3], labels.items(), strict=True):
        for color, by in zip(PALETTE, rewards, strict=False):
            _curve(axis, cell["curves"][by], name, scale, color, by)
        one = scale * cell["curves"]["sample"][name][0][0]
        axis.axhline(one, color=THEORY, ls=":", lw=1, label="one sample")
        axis.set(xscale="log", xlabel="k, of which the best is picked", ylabel=label)
        plain_ticks(axis, cell["n"])
    axes[0].legend(fontsize=7)
    axes[0].set_title(f"{cell['model']}, {cell['task']}")
    _losses(axes[3], cell)
    return figure


def _curve(
    axis: Axes, curve: dict[str, Any], name: str, scale: float, color: str, by: str
) -> None:
    middle, low, high = scale * np.array(curve[name], float).T
    if len(curve["k"]) > 1:
        axis.plot(curve["k"], middle, color=color, label=by)
        axis.fill_between(curve["k"], low, high, color=color, alpha=0.15, lw=0)
    else:  # it looks at all N: one point
        ends = np.stack([middle - low, high - middle])
        kind = "sD"[by == JOINT[1]]
        axis.errorbar(
            curve["k"], middle, ends, color=color, fmt=kind, capsize=2, label=by
        )


def _losses(axis: Axes, cell: dict[str, Any]) -> None:
    parts = {
        "accuracy": ("accuracy", PALETTE[2]),
        "choice_of_form": ("lost by choosing the form", PALETTE[1]),
        "within_forms": ("lost within the forms", PALETTE[5]),
    }
    names, base = list(cell["lost"]), np.zeros(len(cell["lost"]))
    for part, (label, color) in parts.items():
        values = np.array([100 * cell["lost"][by][part][0] for by in names])
        axis.barh(names, values, left=base, color=color, label=label)
        base = base + values
    axis.axvline(100 * cell["coverage"][0], color=THEORY, ls="--", lw=1)
    axis.set_xlabel(f"% of prompts (dashed: any of {cell['n']} is right)")
    axis.invert_yaxis()
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _cells(cells: list[dict[str, Any]]) -> Figure:
    """Each cell's picks by self-reward: their length, and their accuracy."""
    rewards = list(cells[0]["rewards"])
    figure, axes = plt.subplots(
        1, 2, figsize=(10.5, 1.2 + 0.42 * len(cells)), sharey=True
    )
    fields = {
        "longer": ("tokens of the best of N - those of one sample", 1),
        "than_log_probability": (f"accuracy - that of {REWARD}, points", 100),
    }
    for axis, (field, (label, scale)) in zip(axes, fields.items(), strict=True):
        for i, (by, color) in enumerate(zip(rewards, PALETTE, strict=False)):
            if field == "than_log_probability" and by == REWARD:
                continue
            values = scale * np.array([c["rewards"][by][field] for c in cells], float)
            place = np.arange(len(cells)) + 0.7 * (i / max(1, len(rewards) - 1) - 0.5)
            ends = np.abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar(
                values[:, 0],
                place,
                xerr=ends,
                fmt="o",
                ms=3,
                lw=1,
                color=color,
                label=by,
            )
        axis.axvline(0, color=THEORY, lw=1)
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(cells)), [f"{c['model']}, {c['task']}" for c in cells])
    axes[0].invert_yaxis()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, fontsize=8)
    return figure


def tell(found: Found) -> str:
    rows = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "self-reward": by,
            f"accuracy at {cell['n']}, %": (each["accuracy"], 100),
            "tokens of one sample": (cell["tokens"], 1),
            "over it": (each["longer"], 1),
            f"accuracy over {REWARD}, points": (each["than_log_probability"], 100),
        }
        for cell in found["lengths"]
        for by, each in cell["rewards"].items()
    ]
    two = "No base here was built to answer in two forms."
    if found["forms"] is not None:
        two = _told(found["forms"])
    return "\n\n".join([two, "Every cell:", markdown(rows)])


def _told(cell: dict[str, Any]) -> str:
    at = "; ".join(
        f"{form}: {interval_of(each['share'], 100)} of the samples, of which "
        f"{interval_of(each['accuracy'], 100)} are right"
        for form, each in cell["samples"].items()
    )
    rows = [
        {
            "self-reward": by,
            "accuracy, %": (each["accuracy"], 100),
            "answers at once, %": (each["short"], 100),
            "over those of samples, points": (each["short_over_sample"], 100),
            "best of the short alone, %": (each["best_short"], 100),
            "best of the worked alone, %": (each["best_worked"], 100),
            "over the form of one sample, points": (each["over_form_of_sample"], 100),
            "lost by choosing the form, %": (each["choice_of_form"], 100),
            "lost within the forms, %": (each["within_forms"], 100),
        }
        for by, each in cell["lost"].items()
    ]
    return (
        f"{cell['model']}, {cell['task']}, N = {cell['n']}. In % with 95% intervals: "
        f"{at}. Any of N is right on {interval_of(cell['coverage'], 100)}; that minus "
        "the accuracy is the sum of the last two columns. (The probability orders "
        "responses as its logarithm does.)\n\n" + markdown(rows)
    )


def judge(found: Found) -> list[Check]:
    """Of the base of two forms alone; fig2 judges what the paper says of all bases."""
    two = found["forms"]
    by_reward = two["lost"][REWARD] if two else {}
    over = two["over_log_probability"] if two else {}
    losing = sign(by_reward.get("over_form_of_sample"))
    loses = None if losing is None else not losing
    return [
        Check(
            f"{BUILT}: log-probability picks that form, and loses by it",
            everywhere([sign(by_reward.get("short_over_sample")), loses]),
            "the share of short picks is above that of short samples, and the accuracy "
            "below that of the same self-reward in the form that one sample has; both "
            "with paired intervals",
            _picking(two) if two else "no such base here",
        ),
        *(
            Check(
                f"{BUILT}: selection by {by} is more often right than by {REWARD}",
                sign(over.get(by)),
                "the paired interval of the difference of their accuracies at N lies "
                "above 0",
                f"points: {interval_of(over[by], 100)}" if two else "no such base here",
            )
            for by in OTHERS
        ),
    ]


def _picking(two: dict[str, Any]) -> str:
    lost = two["lost"][REWARD]
    right = ", ".join(
        f"{form} {interval_of(each['accuracy'], 100)}"
        for form, each in two["samples"].items()
    )
    return (
        f"short picks over short samples, points: "
        f"{interval_of(lost['short_over_sample'], 100)}; accuracy over that in the "
        f"form of a sample: {interval_of(lost['over_form_of_sample'], 100)}; samples "
        f"right, %: {right}"
    )


EXPERIMENT = Experiment(
    name="failure_length",
    title="length bias: which self-reward picks short answers, and what it costs",
    paper="",
    runs=runs,
    measure=findings,
    draw=draw,
    tell=tell,
    judge=judge,
)
