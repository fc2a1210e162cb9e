"""Judging samples: accuracy and log-likelihood of every way to pick a response.

    measures [B N] and of greedy [B], score [B N] per self-reward  ->  rows, intervals

NumPy on the host. Every estimate is a mean over prompts, so every interval is a paired
bootstrap over prompts, and one resampling serves all rows; best-of-k uses the exact
order-statistics estimator.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from jsharp.selection import best_of_every_k
from jsharp.stats import Interval, bootstrap

ACCURACY = "accuracy"  # the measure that coverage, gain and lift are about
RESAMPLES = 2000
_AT_ONCE = 256  # picks whose resampled means are held together


class Measured(NamedTuple):
    """What is known of N sampled responses and one greedy response to B prompts.

    Measures by name, such as log_prob or num_tokens; `accuracy` is 1 where a response
    is right and 0 elsewhere, and is left out where no answers are known.
    """

    sampled: Mapping[str, np.ndarray]  # measure -> [B N]
    greedy: Mapping[str, np.ndarray]  # measure -> [B]
    score: Mapping[str, np.ndarray]  # self-reward -> [B N]


class Pick(NamedTuple):
    """One way to pick a response of k, and what that is expected to give per prompt.

    `by` is greedy, sample (one draw), a self-reward, or coverage: is any of the k
    right? Coverage needs the answers: it bounds every selection, and is none itself.
    """

    by: str
    k: int
    value: dict[str, Float[np.ndarray, " B"]]  # by measure


def picks(measured: Measured, *, joint: Collection[str] = ()) -> list[Pick]:
    """Greedy, one sample, the best of k by each self-reward, coverage; k = 1..N.

    Self-rewards in `joint` score a candidate by all N together, so that their best of
    fewer would know more than those: they have k = N alone. With majority that is the
    vote of N, shared by the answers of equal count. (The expected vote of k < N draws
    has no estimator as cheap as that of a best of k, and is not given.)
    """
    floats = lambda found: {name: np.asarray(x, float) for name, x in found.items()}
    sampled, greedy = floats(measured.sampled), floats(measured.greedy)
    n = next(iter(sampled.values())).shape[1]
    found = [
        Pick("greedy", 1, greedy),
        Pick("sample", 1, {name: x.mean(1) for name, x in sampled.items()}),
    ]
    for by, score in measured.score.items():
        best = {name: best_of_every_k(score, x) for name, x in sampled.items()}
        for k in range(n if by in joint else 1, n + 1):
            found.append(Pick(by, k, {name: x[:, k - 1] for name, x in best.items()}))
    if ACCURACY in sampled:
        # 1 - C(n-c, k) / C(n, k): the unbiased pass@k is a best of k by the answers.
        best = best_of_every_k(sampled[ACCURACY], sampled[ACCURACY])
        for k in range(1, n + 1):
            found.append(Pick("coverage", k, {ACCURACY: best[:, k - 1]}))
    return found


class Row(NamedTuple):
    """The means of a pick over prompts, with their intervals.

    gain: accuracy minus greedy's. lift: 100 (accuracy - greedy's) / greedy's, in per
    cent; None where greedy is never right, an end infinite where it may well never be.
    Both are None where no answers are known.
    """

    by: str
    k: int
    mean: dict[str, Interval]  # by measure
    gain: Interval | None = None
    lift: Interval | None = None

    @property
    def name(self) -> str:
        names = {"greedy": "greedy", "sample": "one sample"}
        named = f"best of {self.k}, {self.by}"
        if self.by == "coverage":
            named = f"coverage at {self.k}"
        return names.get(self.by, named)


def summarise(found: Sequence[Pick], *, level: float, seed: int) -> list[Row]:
    """The row of every pick, the first of which is greedy; all intervals are paired."""
    right = [pick.value.get(ACCURACY) for pick in found]
    return _rows(found, right, right[0], level, seed)


def changes(
    before: Sequence[Pick], after: Sequence[Pick], *, level: float, seed: int
) -> list[Row]:
    """Rows of after minus before, paired over the same prompts; greedy comes first.

    Their means are differences. Gain and lift are those of `after` over the greedy
    accuracy of `before`, as the paper reports a sharpened model (Table 1).
    """
    earlier = {(pick.by, pick.k): pick.value for pick in before}
    found, right = [], []
    for pick in after:
        if (old := earlier.get((pick.by, pick.k))) is None:
            continue
        shared = [name for name in pick.value if name in old]
        change = {name: pick.value[name] - old[name] for name in shared}
        found.append(pick._replace(value=change))
        right.append(pick.value.get(ACCURACY))
    return _rows(found, right, before[0].value.get(ACCURACY), level, seed)


def _rows(
    found: Sequence[Pick],
    right: Sequence[np.ndarray | None],
    greedy: np.ndarray | None,
    level: float,
    seed: int,
) -> list[Row]:
    """The means of `found`, and of each its gain and lift, `right` over `greedy`."""
    counts, rows = _counts(found[0], seed), []
    for start in range(0, len(found), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        values = [x for pick in found[some] for x in pick.value.values()]
        means = iter(_intervals(_mean(values, counts), level))
        for pick, marks in zip(found[some], right[some], strict=True):
            mean = {name: next(means) for name in pick.value}
            row = Row(pick.by, pick.k, mean)
            if greedy is not None and marks is not None:
                gain, lift = _over(greedy, marks, counts, level)
                row = row._replace(gain=gain, lift=lift)
            rows.append(row)
    return rows


def _over(
    greedy: Float[np.ndarray, " B"],
    right: Float[np.ndarray, " B"],
    counts: Float[np.ndarray, "B R"],
    level: float,
) -> tuple[Interval, Interval | None]:
    """Gain and lift of `right` over `greedy`."""
    before, after = _mean([greedy, right], counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = np.where(after == before, 0.0, 100 * (after - before) / before)
    gain, lift = _intervals(np.stack([after - before, lift]), level)
    return gain, lift if before[0] > 0 else None


def _counts(pick: Pick, seed: int) -> Float[np.ndarray, "B R"]:
    """How often each prompt counts: once, and then in every resample.

    These are the resamples of `stats.bootstrap`; so a mean is a matrix product.
    """
    size = len(next(iter(pick.value.values())))
    rows = np.random.default_rng(seed).integers(0, size, (RESAMPLES, size))
    counts = np.zeros((1 + RESAMPLES, size))
    counts[0] = 1
    np.add.at(counts, (np.arange(1, 1 + RESAMPLES)[:, None], rows), 1)
    return counts.T


def _mean(
    values: Sequence[Float[np.ndarray, " B"]], counts: Float[np.ndarray, "B R"]
) -> Float[np.ndarray, "M R"]:
    return np.stack(values) @ counts / len(counts)


def _intervals(draws: Float[np.ndarray, "M R"], level: float) -> list[Interval]:
    """Percentile intervals of rows whose first column is the estimate."""
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(draws[:, 1:], [level / 2, 1 - level / 2], axis=1)
    high = np.where(np.isnan(high), np.inf, high)  # between two infinite lifts
    each = zip(draws[:, 0].tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*numbers) for numbers in each]


class Flips(NamedTuple):
    """On how many prompts one policy is right and the other wrong."""

    won: int  # right after, wrong before
    lost: int  # wrong after, right before
    p_value: float  # of the exact two-sided McNemar (sign) test


def flips(before: Bool[np.ndarray, " B"], after: Bool[np.ndarray, " B"]) -> Flips:
    """Prompts won and lost; under no difference, won is Binomial(won + lost, 1/2)."""
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if not won + lost:
        return Flips(0, 0, 1.0)
    return Flips(won, lost, float(scipy.stats.binomtest(won, won + lost).pvalue))


class Samples(NamedTuple):
    """N sampled responses and one greedy response to each of B prompts, marked."""

    correct: np.ndarray  # [B N] bool
    log_prob: np.ndarray  # [B N] log pi_base(y|x)
    score: Mapping[str, np.ndarray]  # self-reward name -> [B N]
    greedy_correct: np.ndarray  # [B] bool
    greedy_log_prob: np.ndarray  # [B]


def compare(samples: Samples, *, level: float, seed: int) -> list[Row]:
    """Greedy, one sample, best of N by each self-reward, coverage at N; in this order.

    Their measures are accuracy and log_prob.
    """
    measured = Measured(
        {ACCURACY: samples.correct, "log_prob": samples.log_prob},
        {ACCURACY: samples.greedy_correct, "log_prob": samples.greedy_log_prob},
        samples.score,
    )
    n = samples.correct.shape[1]
    found = picks(measured, joint=samples.score)
    some = [pick for pick in found if pick.k == n or pick.by in ("greedy", "sample")]
    return summarise(some, level=level, seed=seed)


class Curve(NamedTuple):
    """Best of k for k = 1..N: accuracy with interval, and mean log pi_base."""

    k: np.ndarray
    accuracy: list[Interval]
    log_prob: np.ndarray


def best_of_k_curve(samples: Samples, reward: str, *, level: float, seed: int) -> Curve:
    """How the best of k by one self-reward improves with k (figures 1b, 3, 4)."""
    measures = {ACCURACY: samples.correct, "log_prob": samples.log_prob}
    greedy = {ACCURACY: samples.greedy_correct, "log_prob": samples.greedy_log_prob}
    measured = Measured(measures, greedy, {reward: samples.score[reward]})
    found = [pick for pick in picks(measured) if pick.by in ("greedy", reward)]
    rows = summarise(found, level=level, seed=seed)[1:]
    return Curve(
        np.array([row.k for row in rows]),
        [row.mean[ACCURACY] for row in rows],
        np.array([row.mean["log_prob"].estimate for row in rows]),
    )


def paired_gain(
    before: np.ndarray, after: np.ndarray, *, level: float, seed: int
) -> Interval:
    """Mean of after - before over the same prompts [B], with its paired interval."""
    pairs = np.stack([np.asarray(before, float), np.asarray(after, float)], 1)
    gain = lambda v: (v[..., 1] - v[..., 0]).mean(1)
    return bootstrap(pairs, gain, level=level, seed=seed)
