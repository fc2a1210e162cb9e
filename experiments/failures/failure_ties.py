"""Ties and near ties: of responses, for sharpening; of answers, for the vote.

Where several responses are about as likely, y* is one of them by a hair: sharpening has
to tell them apart, or to be content with Y*_g (Def F.1). Where several answers have as
many votes, majority voting decides by a coin.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.failures import tied_tables
from experiments.failures.cases import Searched, interval, plain_ticks, searched
from experiments.failures.failure_modes import runs
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found
from experiments.reproduce.tables import markdown
from experiments.reproduce.verdicts import LEVEL, WIDENED, counted, everywhere, signs
from experiments.style import PALETTE, THEORY
from jsharp.evaluate import ACCURACY
from theory.diagnosis import margins, near_maximisers, ties
from theory.signals import doublings

GAMMAS = tuple(round(0.1 * i, 1) for i in range(10))
HALF = GAMMAS.index(0.5)  # the g whose Y*_g the table shows
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of the margin


def findings(config: Config) -> Found:
    """Margins, Y*_g and tied votes of the cells with modes; ties on exact tables."""
    return {
        "level": LEVEL,
        "cells": [of_cell(case) for case in searched(config)],
        "exact": tied_tables.exact_ties(),
        "near": tied_tables.near_ties(),
    }


def of_cell(case: Searched) -> dict[str, Any]:
    """Bounds by what was drawn and searched; each hold for all prompts at once."""
    gap = margins(case.known, level=LEVEL)
    near = {g: near_maximisers(case.known, gamma=g, level=LEVEL) for g in GAMMAS}
    top = case.known.mass[:, :1]
    near_half = case.known.mass >= (1 - GAMMAS[HALF]) * top * (1 - 1e-9)
    label = answers(case)
    return {
        "model": case.model,
        "task": case.task,
        "prompts": len(top),
        "exact_ties": int((ties(case.known) > 1).sum()),
        "settled": int(gap.exact.sum()),
        "margin": {name: _sorted(getattr(gap, name)) for name in ("low", "high")},
        "gamma": list(GAMMAS),
        "mass": {
            name: [float(getattr(each, name).mean()) for each in near.values()]
            for name in ("low", "high")
        },
        "members": float(near_half.sum(1).mean()),
        "votes": votes(label, np.asarray(case.measured.sampled[ACCURACY], float)),
        "tied_over_two": tied_over_two(label),
    }


def _sorted(values: Float[np.ndarray, " B"]) -> list[float | None]:
    """Ascending; infinite ones, where one response is all that is known, as null."""
    return [float(x) if np.isfinite(x) else None for x in np.sort(values)]


def answers(case: Searched) -> Int[np.ndarray, "B N"]:
    """Equal labels for equal answers of a prompt, -1 for none."""
    rows = []
    for given in case.answers:
        known = sorted({text for text in given if text is not None})
        rows.append([-1 if text is None else known.index(text) for text in given])
    return np.array(rows)


def votes(
    label: Int[np.ndarray, "B N"], right: Float[np.ndarray, "B N"]
) -> list[dict[str, Any]]:
    """The vote of k of the N, for k = 1, 2, 4, ..., N, over disjoint groups of draws.

    tied: more than one answer has the most votes. Accuracy where they share, and where
    the answer that is right is always, or never, the one that is taken.
    """
    found = []
    for k in doublings(label.shape[1]):
        groups, marks = _groups(label, k), _groups(right, k)
        most = _most_voted(groups)
        none = ~most.any(-1)
        each = {
            "tied": tied(groups),
            "shared": np.where(none, 0, (most * marks).sum(-1))
            / np.maximum(most.sum(-1), 1),
            "lucky": (most & (marks > 0)).any(-1),
            "unlucky": np.where(most, marks, 1.0).min(-1) * ~none,
        }
        means = {name: interval(value.mean(1)) for name, value in each.items()}
        found.append({"k": k, **means})
    return found


def tied_over_two(label: Int[np.ndarray, "B N"]) -> list[float | None] | None:
    """Share of tied votes of N minus that of votes of two, paired over prompts.

    None where there are no two draws to vote.
    """
    n = label.shape[1]
    if n < 2:
        return None
    two, last = (tied(_groups(label, k)).mean(1) for k in (2, n))
    return interval(last - two)


def _groups(values: np.ndarray, k: int) -> np.ndarray:
    """[B N] -> [B N//k k], disjoint groups of draws."""
    count = values.shape[1] // k
    return values[:, : count * k].reshape(-1, count, k)


def tied(label: Int[np.ndarray, "B G k"]) -> Bool[np.ndarray, "B G"]:
    """Which votes have more than one answer of the most votes."""
    return (_most_voted(label) & _first(label)).sum(-1) > 1


def _most_voted(label: Int[np.ndarray, "B G k"]) -> Bool[np.ndarray, "B G k"]:
    """Which draws have an answer that no other answer has more votes than."""
    same = label[..., :, None] == label[..., None, :]
    count = np.where(label >= 0, same.sum(-1), 0)
    return (count == count.max(-1, keepdims=True)) & (label >= 0)


def _first(label: Int[np.ndarray, "B G k"]) -> Bool[np.ndarray, "B G k"]:
    """Which draws are the first of their answer."""
    same = label[..., :, None] == label[..., None, :]
    return same.argmax(-1) == np.arange(label.shape[-1])


def quantiles(cell: dict[str, Any]) -> list[list[float | None]]:
    """[low, high] of the margin's quantile at each of SHARES, of these prompts."""
    at = [max(0, int(np.ceil(s * cell["prompts"])) - 1) for s in SHARES]
    return [[cell["margin"][end][i] for end in ("low", "high")] for i in at]


def draw(found: Found) -> dict[str, Figure]:
    figure, grid = plt.subplots(2, 3, figsize=(13, 7.4))
    axes = grid.ravel()
    for color, cell in zip(PALETTE, found["cells"], strict=False):
        name = f"{cell['model']}, {cell['task']}"
        _margins(axes[0], cell, color, name)
        low, high = (100 * np.array(cell["mass"][end]) for end in ("low", "high"))
        axes[1].fill_between(cell["gamma"], low, high, color=color, alpha=0.25, lw=0)
        axes[1].plot(cell["gamma"], low, color=color, label=name)
        _votes(axes[2], cell, color, name)
    axes[0].set(
        xlabel="margin log pi(y1|x) - log pi(y2|x), nats",
        ylabel="% of prompts with at most that\n(line: of those drawn; band: bounds)",
        xlim=(0, 3),
    )
    axes[1].set(
        xlabel="g", ylabel="mean of pi(Y*_g(x)|x), %\n(band: bounds)", ylim=(0, None)
    )
    axes[2].set(
        xlabel="k, answers that vote",
        ylabel="prompts with a tied vote, %",
        xscale="log",
    )
    plain_ticks(axes[2], max(cell["votes"][-1]["k"] for cell in found["cells"]))
    axes[0].legend(fontsize=7)
    _exact(axes[3], axes[4], found["exact"])
    _near(axes[5], found["near"])
    return {"failure_ties": figure}


def _margins(axis: Axes, cell: dict[str, Any], color: str, name: str) -> None:
    share = 100 * np.arange(1, cell["prompts"] + 1) / cell["prompts"]
    far = lambda end: [np.inf if x is None else x for x in cell["margin"][end]]
    low, high = np.minimum(far("low"), 99), np.minimum(far("high"), 99)
    axis.fill_betweenx(share, low, high, step="post", color=color, alpha=0.25, lw=0)
    axis.step(high, share, where="post", color=color, lw=1, label=name)


def _votes(axis: Axes, cell: dict[str, Any], color: str, name: str) -> None:
    k = [each["k"] for each in cell["votes"]]
    middle, low, high = 100 * np.array([v["tied"] for v in cell["votes"]], float).T
    axis.plot(k, middle, "o-", ms=3, color=color, label=name)
    axis.fill_between(k, low, high, color=color, alpha=0.15, lw=0)


def _exact(left: Axes, right: Axes, rows: list[dict[str, Any]]) -> None:
    for color, row in zip(PALETTE, rows, strict=False):
        label = f"{row['count']} tied"
        left.plot(row["n"], row["mass"], color=color, label=f"{label}: Y*")
        left.plot(row["n"], row["largest"], color=color, ls="--")
    left.plot([], [], color=THEORY, ls="--", label="the likeliest single response")
    left.axhline(1 - tied_tables.DELTA, color=THEORY, ls=":", lw=1)
    left.set(xscale="log", xlabel="N", ylabel="mass of what SFT fits (exact)")
    plain_ticks(left, tied_tables.MOST)
    left.legend(fontsize=7)
    place = np.arange(len(rows))
    for field, kind, label in (
        ("mean_draws", "o", "E[N_mu] of Eq 10"),
        ("mean_draws_bound", "_", "its bound (mu + 1/|Y*|)/max pi (Lem I.1)"),
        ("least_n", "s", f"least N at delta = {tied_tables.DELTA}"),
    ):
        right.plot(place, [row[field] for row in rows], kind, ms=8, label=label)
    right.set(
        xlabel=f"responses tied at pi = {tied_tables.TOP:g}",
        ylabel="draws a prompt",
        ylim=(0, None),
    )
    right.set_xticks(place, [row["count"] for row in rows])
    right.legend(fontsize=7)


def _near(axis: Axes, rows: list[dict[str, Any]]) -> None:
    place = np.arange(len(rows))
    for color, (field, label) in zip(
        PALETTE,
        {
            "few": f"Y* after the best of {tied_tables.FEW}",
            "few_near": f"Y*_g, g = {tied_tables.GAMMA}, the best of {tied_tables.FEW}",
            "many": f"Y* after the best of {tied_tables.MOST}",
            "largest": f"the likeliest response, best of {tied_tables.MOST}",
            "tilted": f"y* under pi*_beta, beta = {tied_tables.BETA}",
        }.items(),
        strict=False,
    ):
        axis.plot(place, [r[field] for r in rows], "o-", ms=3, color=color, label=label)
    axis.set_xticks(place, [f"{row['margin']:g}" for row in rows])
    axis.set(xlabel="margin of twelve near ties, nats", ylabel="mass (exact)")
    axis.legend(fontsize=7)


def tell(found: Found) -> str:
    measured = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "exact ties": f"{cell['exact_ties']} of {cell['prompts']}",
            "margins known exactly": cell["settled"],
            **{
                f"margin, quantile {s:g}": _range(pair)
                for s, pair in zip(SHARES, quantiles(cell), strict=True)
            },
            f"pi(Y*_{GAMMAS[HALF]}|x), mean": _range(
                [cell["mass"][end][HALF] for end in ("low", "high")]
            ),
            f"known members of Y*_{GAMMAS[HALF]}": cell["members"],
        }
        for cell in found["cells"]
    ]
    voted = [
        {
            "model": cell["model"],
            "task": cell["task"],
            "k": each["k"],
            "tied, %": (each["tied"], 100),
            "accuracy, ties shared, %": (each["shared"], 100),
            "never the right one, %": (each["unlucky"], 100),
            "always the right one, %": (each["lucky"], 100),
        }
        for cell in found["cells"]
        for each in cell["votes"]
    ]
    exact = [
        {
            "tied": row["count"],
            "C_cov": row["coverage"],
            "least N": row["least_n"],
            "E[N_mu]": row["mean_draws"],
            "its bound": row["mean_draws_bound"],
            "Y* missed": row["missed"],
            "its bound ": row["missed_bound"],
            f"Y* after N = {tied_tables.MOST}": row["mass"][-1],
            "likeliest response": row["largest"][-1],
        }
        for row in found["exact"]
    ]
    return (
        "Margins in nats, as bounds by what was drawn and searched ([low, high]):\n\n"
        f"{markdown(measured)}\n\nThe vote of k:\n\n{markdown(voted)}\n\nExact "
        f"tables, each maximiser of mass {tied_tables.TOP:g}:\n\n{markdown(exact)}"
    )


def _range(pair: list[float | None]) -> str:
    low, high = ("inf" if x is None else f"{x:.3g}" for x in pair)
    return f"[{low}, {high}]"


def judge(found: Found) -> list[Check]:
    rows, cells = found["exact"], found["cells"]
    in_time = all(row["mean_draws"] <= row["mean_draws_bound"] for row in rows)
    found_it = all(row["missed"] <= row["missed_bound"] for row in rows)
    draws = ", ".join(f"{row['count']} tied: {row['mean_draws']:.1f}" for row in rows)
    oftener = signs([cell["tied_over_two"] for cell in cells])
    rarer = [None if x is None else not x for x in oftener]
    return [
        Check(
            "E[N_mu] <= (mu + 1/|Y*|)/max pi, and Y* is missed with probability at "
            "most exp(-|Y*| mu) (Lem I.1)",
            in_time and found_it,
            "exactly, on each of these tables with ties",
            f"E[N_mu] by the number of maximisers: {draws}",
        ),
        Check(
            "more votes, fewer ties: the vote of N is decided by a coin less often "
            "than that of two",
            everywhere(rarer),
            "in every cell the share of tied votes at N minus that at k = 2, paired "
            f"over prompts, lies below 0; {WIDENED}",
            counted(cells, rarer),
        ),
    ]


EXPERIMENT = Experiment(
    name="failure_ties",
    title="ties: responses about as likely, and votes about as many",
    paper="",
    runs=runs,
    measure=findings,
    draw=draw,
    tell=tell,
    judge=judge,
)
