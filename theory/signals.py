"""What the self-rewards of a pilot say of its answers, and of what they prefer.

Length bias, whether a reward ranks right above wrong (AUC), and what the best of k by
log-probability gives, for k up to the pilot's N and in the limit. All are means over
prompts, or ratios of them: intervals are bootstraps that resample prompts, the same
prompts for every figure of one seed, so that two figures can be compared.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from jsharp.selection import best_of_every_k
from jsharp.stats import Interval, bootstrap, clopper_pearson, mean_interval

Scores = Float[np.ndarray, "B N"]
Marks = Bool[np.ndarray, "B N"]
Weights = Int[np.ndarray, "R B"]


class Pooled(NamedTuple):
    """A statistic within prompts, averaged, and over all responses of all prompts.

    `within` is None where no prompt has one, `overall` where there is none at all.
    """

    within: Interval | None
    overall: Interval | None
    prompts: int  # that have one


def _mean(values: Float[np.ndarray, " B"], *, level: float, seed: int):
    found = values[np.isfinite(values)]
    return mean_interval(found, level=level, seed=seed) if len(found) else None


def rank_correlation(
    score: Scores, length: Int[np.ndarray, "B N"], *, level: float, seed: int
) -> Pooled:
    """Spearman's correlation of a score with the length, in tokens.

    Within: of each prompt's N draws, where neither is constant. Overall: of all B N;
    the bootstrap keeps the ranks that they have in the pilot.
    """
    rank = lambda values, axis: scipy.stats.rankdata(values, axis=axis)
    within = _correlation(_moments(rank(score, 1), rank(length, 1)))
    flat = [rank(values, None).reshape(score.shape) for values in (score, length)]
    moments = _moments(*flat)  # [B 5]
    overall = None
    if np.isfinite(_correlation(moments.mean(0))):
        statistic = lambda rows: np.nan_to_num(_correlation(rows.mean(1)))
        overall = bootstrap(moments, statistic, level=level, seed=seed)
    count = int(np.isfinite(within).sum())
    return Pooled(_mean(within, level=level, seed=seed), overall, count)


def _moments(a: Scores, b: Scores) -> Float[np.ndarray, "B 5"]:
    """Means of a, b, a^2, b^2 and a b by row; centred, so that digits survive."""
    a, b = a - a.mean(), b - b.mean()
    return np.stack([x.mean(1) for x in (a, b, a * a, b * b, a * b)], 1)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """From `_moments` on the last axis; NaN where one of the two is constant."""
    a, b, aa, bb, ab = np.moveaxis(moments, -1, 0)
    spread = (aa - a * a) * (bb - b * b)
    scale = np.sqrt(np.maximum(spread, 0.0))
    defined = scale > 1e-9 * np.sqrt(aa * bb + 1e-300)
    return np.where(defined, (ab - a * b) / np.where(defined, scale, 1.0), np.nan)


def auc(score: Scores, correct: Marks, *, level: float, seed: int) -> Pooled:
    """P[ a right response scores above a wrong one ], ties one half.

    Within: pairs of one prompt, the mean over prompts that have both. Overall: pairs
    from all prompts, where a reward may also tell easy prompts from hard ones.
    """
    above = _pairs(score, correct)  # [B B]
    right, wrong = correct.sum(1), (~correct).sum(1)
    own = right * wrong
    within = np.where(own > 0, np.diag(above) / np.maximum(own, 1), np.nan)
    overall = None
    if right.any() and wrong.any():
        overall = _overall(above, right, wrong, level=level, seed=seed)
    count = int((own > 0).sum())
    return Pooled(_mean(within, level=level, seed=seed), overall, count)


def _pairs(score: Scores, correct: Marks) -> Float[np.ndarray, "B B"]:
    """Pairs (right of row, wrong of column) that are ranked rightly; ties one half."""
    wrong = [np.sort(row[~mark]) for row, mark in zip(score, correct, strict=True)]
    right = score[correct]
    prompt = np.repeat(np.arange(len(score)), correct.sum(1))
    found = np.zeros((len(score), len(score)))
    for column, values in enumerate(wrong):
        below = np.searchsorted(values, right, "left")
        upto = np.searchsorted(values, right, "right")
        won = (below + upto) / 2
        found[:, column] = np.bincount(prompt, won, minlength=len(score))
    return found


def _overall(above, right, wrong, *, level: float, seed: int) -> Interval:
    """The bootstrap of sum w A w / (sum w right) (sum w wrong), w counts of prompts."""

    def statistic(rows: np.ndarray) -> np.ndarray:
        count = np.stack([np.bincount(r, minlength=len(above)) for r in rows])
        won = np.einsum("rb,bc,rc->r", count, above, count, optimize=True)
        pairs = (count @ right) * (count @ wrong)
        return np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5)

    return bootstrap(np.arange(len(above)), statistic, level=level, seed=seed)


# ---- What sharpening is expected to give


class Step(NamedTuple):
    """The best of k by log-probability; None where no answers are known."""

    k: int
    log_prob: Interval  # mean log pi_base(y|x)
    length: Interval  # mean tokens
    accuracy: Interval | None
    over_sample: Interval | None  # accuracy minus that of one draw, paired
    over_greedy: Interval | None  # and minus that of the greedy response


def doublings(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [2**i for i in range((most - 1).bit_length())] + [most]


def lift(
    log_prob: Scores,
    length: Int[np.ndarray, "B N"],
    correct: Marks | None,
    greedy: Bool[np.ndarray, " B"] | None,
    *,
    level: float,
    seed: int,
) -> list[Step]:
    """Best of k for k = 1, 2, 4, ..., N by the exact order-statistics estimator."""
    best = lambda value: best_of_every_k(log_prob, value)
    interval = lambda value: mean_interval(value, level=level, seed=seed)
    likely, tokens = best(log_prob), best(length)
    right = None if correct is None else best(correct)
    steps = []
    for k in doublings(log_prob.shape[1]):
        pick = over_sample = over_greedy = None
        if correct is not None and right is not None:
            pick = right[:, k - 1]
            over_sample = interval(pick - correct.mean(1))
            over_greedy = None if greedy is None else interval(pick - greedy)
        means = interval(likely[:, k - 1]), interval(tokens[:, k - 1])
        accuracy = None if pick is None else interval(pick)
        steps.append(Step(k, *means, accuracy, over_sample, over_greedy))
    return steps


def limit_accuracy(
    right: Float[np.ndarray, " B"], *, level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Accuracy of y*, what sharpening converges to: on these prompts, and over mu.

    `right` is 1 or 0 where y* and its answer are known, NaN elsewhere, and counts as
    wrong below and right above. Over mu by Clopper-Pearson, the prompts being
    independent draws; each end misses with probability at most level/2.
    """
    size, unknown = len(right), int(np.isnan(right).sum())
    sure = int(np.nansum(right))
    low = clopper_pearson(sure, size, level=level).low
    high = clopper_pearson(sure + unknown, size, level=level).high
    return (sure / size, (sure + unknown) / size), (low, high)
