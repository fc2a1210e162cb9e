"""Judging samples: accuracy and log-likelihood of every way to pick a response.

    correct [B N], score [B N] per self-reward, greedy [B]  ->  rows with intervals

NumPy on the host. Every estimate is a mean over prompts, so every interval is a paired
bootstrap over prompts; best-of-k uses the exact order-statistics estimator.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jsharp.selection import best_of_k, coverage_at_k
from jsharp.stats import Interval, bootstrap, mean_interval


class Samples(NamedTuple):
    """N sampled responses and one greedy response to each of B prompts."""

    correct: np.ndarray  # [B N] bool
    log_prob: np.ndarray  # [B N] log pi_base(y|x)
    score: Mapping[str, np.ndarray]  # self-reward name -> [B N]
    greedy_correct: np.ndarray  # [B] bool
    greedy_log_prob: np.ndarray  # [B]


class Row(NamedTuple):
    """One way to pick a response."""

    name: str
    accuracy: Interval
    lift: Interval  # accuracy minus greedy's, paired over prompts
    log_prob: float  # mean log pi_base of the picked response; nan for coverage


def compare(samples: Samples, *, level: float, seed: int) -> list[Row]:
    """Greedy, one sample, best of N by each self-reward, coverage; in this order."""
    n = samples.correct.shape[1]
    picks = {
        "greedy": (samples.greedy_correct, samples.greedy_log_prob),
        "one sample": (samples.correct.mean(1), samples.log_prob.mean(1)),
    }
    for name, score in samples.score.items():
        picks[f"best of {n}, {name}"] = (
            best_of_k(score, samples.correct, n),
            best_of_k(score, samples.log_prob, n),
        )
    # Coverage needs the answers: it bounds every selection, and is none itself.
    nothing = np.full(len(samples.correct), np.nan)
    picks[f"coverage at {n}"] = (coverage_at_k(samples.correct, n), nothing)
    return [
        Row(
            name,
            mean_interval(np.asarray(accuracy, float), level=level, seed=seed),
            paired_gain(samples.greedy_correct, accuracy, level=level, seed=seed),
            float(np.mean(log_prob)),
        )
        for name, (accuracy, log_prob) in picks.items()
    ]


class Curve(NamedTuple):
    """Best of k for k = 1..N: accuracy with interval, and mean log pi_base."""

    k: np.ndarray
    accuracy: list[Interval]
    log_prob: np.ndarray


def best_of_k_curve(samples: Samples, reward: str, *, level: float, seed: int) -> Curve:
    """How the best of k by one self-reward improves with k (figures 1b, 3, 4)."""
    score = samples.score[reward]
    sizes = np.arange(1, score.shape[1] + 1)
    accuracy = [best_of_k(score, samples.correct, int(k)) for k in sizes]
    log_prob = [best_of_k(score, samples.log_prob, int(k)).mean() for k in sizes]
    return Curve(
        sizes,
        [mean_interval(a, level=level, seed=seed) for a in accuracy],
        np.array(log_prob),
    )


def paired_gain(
    before: np.ndarray, after: np.ndarray, *, level: float, seed: int
) -> Interval:
    """Mean of after - before over the same prompts [B], with its paired interval."""
    pairs = np.stack([np.asarray(before, float), np.asarray(after, float)], 1)
    gain = lambda v: (v[..., 1] - v[..., 0]).mean(1)
    return bootstrap(pairs, gain, level=level, seed=seed)
