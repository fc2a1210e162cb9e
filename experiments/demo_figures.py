"""The demo's figures, drawn from its result files and from nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments.generate import samples
from experiments.style import METADATA, PALETTE, STYLE, THEORY
from jsharp import files

BASE, SHARPENED, _, WRONG = PALETTE[:4]


def draw(results: Path, directory: Path) -> None:
    """Write every figure of `results` into `directory`, all of them or none."""
    metrics = files.read_json(results / "metrics.json")
    records = list(files.read_lines(results / "responses-base.jsonl"))
    log = list(files.read_lines(results / "sharpened" / "training.jsonl"))
    curve = files.read_json(results / "curve.json")
    figures: dict[str, tuple[Callable[..., None], int, Any]] = {
        "accuracy": (accuracy, 1, metrics),
        "best-of-k": (best_of_k, 2, (metrics, samples(records))),
        "log-prob": (log_prob, 1, samples(records)),
        "training": (training, 1, log),
        "queries": (queries, 1, curve),
    }
    partial = directory.with_name(directory.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, (plot, panels, data) in figures.items():
            figure, axes = plt.subplots(1, panels, figsize=(5.0 * panels + 1.0, 3.8))
            plot(axes, data)
            figure.savefig(partial / f"{name}.png", metadata=METADATA["png"])
            plt.close(figure)
    partial.rename(directory)


def accuracy(axis: Axes, metrics: dict[str, Any]) -> None:
    """Accuracy of every way to pick a response, base against sharpened."""
    names = [row["name"] for row in metrics["base"]]
    place = np.arange(len(names))[::-1]
    for policy, colour, shift in (("base", BASE, 0.2), ("sharpened", SHARPENED, -0.2)):
        found = 100 * np.array([row["accuracy"] for row in metrics[policy]])
        error = np.abs(found[:, 1:] - found[:, :1]).T
        axis.barh(place + shift, found[:, 0], 0.38, color=colour, label=policy)
        axis.errorbar(
            found[:, 0], place + shift, xerr=error, fmt="none", color="black", lw=1
        )
    axis.set_yticks(place, names)
    axis.set_xlabel("accuracy on held-out prompts, %")
    axis.set_xlim(0, 100)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper right")
    axis.set_title(f"{100 * (1 - metrics['level']):.0f}% bootstrap intervals", size=10)


def best_of_k(axes: np.ndarray, data: tuple[dict[str, Any], Any]) -> None:
    """Accuracy and log-likelihood of the best of k, with greedy beside it."""
    metrics, found = data
    curve = metrics["best_of_k"]
    k = np.array(curve["k"])
    level = 100 * np.array(curve["accuracy"])
    axes[0].fill_between(k, level[:, 1], level[:, 2], color=BASE, alpha=0.2, lw=0)
    axes[0].plot(k, level[:, 0], "o-", ms=3, color=BASE, label="best of k by log pi")
    greedy = 100 * found.greedy_correct.mean()
    axes[0].axhline(greedy, color=THEORY, ls="--", label="greedy")
    axes[0].set_ylabel("accuracy on held-out prompts, %")
    axes[1].plot(k, curve["log_prob"], "o-", ms=3, color=BASE, label="best of k")
    axes[1].axhline(found.greedy_log_prob.mean(), color=THEORY, ls="--", label="greedy")
    axes[1].set_ylabel("mean log pi_base, picked response")
    for axis in axes:
        axis.set_xlabel("k, responses per prompt")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(loc="lower right")


def log_prob(axis: Axes, found: Any) -> None:
    """Sequence log-probability of correct against incorrect responses (figure 1c)."""
    bins = np.linspace(np.quantile(found.log_prob, 0.01), 0, 40)
    for right, colour, label in ((True, BASE, "correct"), (False, WRONG, "incorrect")):
        values = found.log_prob[found.correct == right]
        if len(values):  # a policy may be always right, or never
            name = f"{label}: {len(values)}, mean {values.mean():.1f}"
            shown = np.clip(values, bins[0], 0)
            axis.hist(shown, bins, density=True, alpha=0.6, color=colour, label=name)
    axis.set_xlabel("log pi_base(y|x), nats (lowest 1% in the first bin)")
    axis.set_ylabel("density")
    axis.legend(loc="upper left")


def training(axis: Axes, log: list[dict[str, Any]]) -> None:
    """The selected responses against all candidates, and the loss on the selected."""
    step = [row["step"] for row in log]
    chosen = [row["selected_log_prob"] for row in log]
    axis.plot(step, chosen, "o-", ms=3, color=BASE, label="selected, log pi_base")
    every = [row["mean_log_prob"] for row in log]
    axis.plot(
        step, every, "s-", ms=3, color=THEORY, label="all candidates, log pi_base"
    )
    fitted = [-row["loss"] for row in log]
    axis.plot(
        step, fitted, "^-", ms=3, color=SHARPENED, label="selected, log pi (trained)"
    )
    axis.set_xlabel("step (fresh training prompts each)")
    axis.set_ylabel("mean log-probability, nats")
    axis.legend()


def queries(axis: Axes, curve: dict[str, Any]) -> None:
    """m against eps, N by its exact law, with the theorems' slopes beside it."""
    eps = np.array(curve["eps"])
    marks = {"fixed": ("o", BASE), "adaptive": ("s", SHARPENED)}
    theory = dict(zip(marks, curve["slope"]["theory"], strict=True))
    for name, (mark, colour) in marks.items():
        m = np.array(curve[name]["m"])
        axis.loglog(
            eps,
            m,
            mark,
            color=colour,
            ms=5,
            label=f"{name} N: fitted slope {curve['slope'][name][0]:.3f}",
        )
        line = m[0] * (eps / eps[0]) ** theory[name]
        label = f"theory, slope {theory[name]:g}"
        axis.loglog(eps, line, "-", color=colour, lw=1, label=label)
    axis.set_xlabel("eps, fraction of prompts that may fail")
    axis.set_ylabel("m = n N, sufficient queries")
    axis.invert_xaxis()
    axis.legend()
