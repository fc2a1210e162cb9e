"""One-sample accuracy and base log-probability: after each algorithm, and the base."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments.style import METADATA, PALETTE, STYLE

MEASURES = (
    ("correct", "accuracy of one sample, %", 100.0),
    ("log_prob", "log pi_base of one sample, nats", 1.0),
)


def draw(found: dict[str, Any], path: Path) -> None:
    """`path`.png and .svg: a column a task, a row a measure."""
    with plt.rc_context(STYLE):
        tasks = found["tasks"]
        figure, axes = plt.subplots(
            2, len(tasks), figsize=(4.2 * len(tasks), 5.6), squeeze=False
        )
        for column, (task, rows) in enumerate(tasks.items()):
            for line, (name, label, scale) in enumerate(MEASURES):
                _panel(axes[line, column], rows, name, scale)
                axes[line, column].set_ylabel(label)
            axes[0, column].set_title(task)
        axes[0, 0].legend(fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind, metadata in METADATA.items():
            figure.savefig(path.with_suffix(f".{kind}"), metadata=metadata)
        plt.close(figure)


def _panel(axis: Axes, rows: dict[str, Any], name: str, scale: float) -> None:
    base = rows["base"]
    best = [k for k in base if k.startswith("best of") and k.endswith(name)][-1]
    lines = {
        "base, one sample": f"sample {name}",
        "base, greedy": f"greedy {name}",
        f"base, {best.removesuffix(f' {name}')}": best,
    }
    for (label, key), style in zip(lines.items(), ("-", ":", "--"), strict=True):
        middle, low, high = (scale * value for value in base[key])
        axis.axhline(middle, color=PALETTE[6], linestyle=style, label=label, lw=1)
        if style != ":":
            axis.axhspan(low, high, color=PALETTE[6], alpha=0.06)
    algorithms = [key for key in rows if key != "base"]
    values = scale * np.array([rows[a][f"sample {name}"] for a in algorithms])
    axis.errorbar(
        algorithms,
        values[:, 0],
        yerr=np.abs(values[:, 1:] - values[:, :1]).T,
        fmt="o",
        color=PALETTE[0],
        capsize=3,
        label="after training, one sample",
    )
    for x, algorithm in enumerate(algorithms):
        seeds = scale * np.array(rows[algorithm][f"{name} by seed"])
        label = "its seeds" if not x else None
        at = [x + 0.18] * len(seeds)
        axis.plot(at, seeds, ".", color=PALETTE[1], ms=4, label=label)
    axis.tick_params(axis="x", rotation=20)
