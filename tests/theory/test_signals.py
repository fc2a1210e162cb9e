"""What self-rewards say of the answers, each figure by a second road."""

import itertools

import numpy as np
import pytest
import scipy.stats

from theory import signals


def marked(seed: int, size: int = 9, draws: int = 6):
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=(size, draws)), 1)  # with ties
    length = rng.integers(1, 6, (size, draws))
    return score, length, rng.random((size, draws)) < rng.random((size, 1))


def test_rank_correlation_is_spearmans():
    score, length, _ = marked(0)
    score[2], length[4] = 1.0, 3  # a prompt where a rank is not defined
    found = signals.rank_correlation(score, length, level=0.05, seed=0)
    rest = [i for i in range(len(score)) if i not in (2, 4)]
    each = [scipy.stats.spearmanr(score[i], length[i]).statistic for i in rest]
    assert found.within.estimate == pytest.approx(np.mean(each))
    assert found.prompts == len(rest)
    overall = scipy.stats.spearmanr(score.ravel(), length.ravel()).statistic
    assert found.overall.estimate == pytest.approx(overall)
    assert found.overall.low < overall < found.overall.high
    # The bootstrap: a prompt that comes twice brings its draws twice.
    a, b = np.random.default_rng(1).normal(size=(2, 9, 6)) + np.arange(9)[:, None]
    rows = np.array([0, 0, 3, 4, 4, 4, 5, 8, 2])
    again = signals._correlation(signals._moments(a, b)[rows].mean(0))
    assert again == pytest.approx(np.corrcoef(a[rows].ravel(), b[rows].ravel())[0, 1])
    same = signals.rank_correlation(score, np.ones_like(length), level=0.05, seed=0)
    assert same.within is None and same.overall is None


def _share_above(score, correct) -> float:
    pairs = itertools.product(score[correct], score[~correct])
    return float(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))


def test_auc_counts_pairs():
    score, _, correct = marked(1)
    correct[0], correct[1] = True, False  # no pair within
    found = signals.auc(score, correct, level=0.05, seed=0)
    both = [i for i in range(len(score)) if correct[i].any() and not correct[i].all()]
    each = [_share_above(score[i], correct[i]) for i in both]
    assert found.within.estimate == pytest.approx(np.mean(each))
    assert found.prompts == len(both) < len(score)
    assert found.overall.estimate == pytest.approx(_share_above(score, correct))
    # The bootstrap: a prompt that comes twice brings its pairs twice.
    above = signals._pairs(score, correct)
    rows = np.random.default_rng(0).integers(0, 9, (2000, 9))
    again = [_share_above(score[row], correct[row]) for row in rows[:20]]
    taken = [above[np.ix_(row, row)].sum() for row in rows[:20]]
    pairs = [correct[row].sum() * (~correct[row]).sum() for row in rows[:20]]
    np.testing.assert_allclose(np.divide(taken, pairs), again)
    all_right = signals.auc(score, np.ones_like(correct), level=0.05, seed=0)
    assert all_right.within is None and all_right.overall is None


def test_lift_is_the_mean_over_all_subsets():
    score, length, correct = marked(2, size=4, draws=5)
    score = score + np.arange(5) * 1e-3 - 10  # no ties
    found = signals.lift(score, length, correct, correct[:, 0], level=0.05, seed=0)
    assert [step.k for step in found] == [1, 2, 4, 5]
    for step in found:
        best = [
            [max(subset, key=lambda i, row=row: score[row, i]) for row in range(4)]
            for subset in itertools.combinations(range(5), step.k)
        ]
        pick = lambda value, best=best: np.mean(
            [[value[row, i] for row, i in enumerate(each)] for each in best]
        )
        assert step.accuracy.estimate == pytest.approx(pick(correct))
        assert step.log_prob.estimate == pytest.approx(pick(score))
        assert step.length.estimate == pytest.approx(pick(length))
        gain = pick(correct) - correct.mean()
        assert step.over_sample.estimate == pytest.approx(gain)
        gain = pick(correct) - correct[:, 0].mean()
        assert step.over_greedy.estimate == pytest.approx(gain)
    blind = signals.lift(score, length, None, None, level=0.05, seed=0)
    assert blind[0].accuracy is None and blind[0].log_prob == found[0].log_prob


def test_lift_predicts_best_of_k_without_bias():
    """The mean over all 27 pilots of 3 draws is the exact law's accuracy."""
    row, right = np.array([0.5, 0.3, 0.2]), np.array([False, True, True])
    draws = np.array(list(itertools.product(range(3), repeat=3)))
    weight = row[draws].prod(1)
    length = np.ones((1, 3), int)
    lift_of = lambda y: signals.lift(
        np.log(row)[y[None]], length, right[y[None]], None, level=0.05, seed=0
    )
    found = [[step.accuracy.estimate for step in lift_of(y)] for y in draws]
    # 0 is the likeliest, and wrong: the best of k is right where no draw is 0.
    assert weight @ np.array(found) == pytest.approx([0.5, 0.5**2, 0.5**3])


def test_the_limit_counts_what_is_not_known_both_ways():
    right = np.array([1.0, 1.0, 0.0, np.nan])
    here, mu = signals.limit_accuracy(right, level=0.05)
    assert here == (0.5, 0.75)
    sure = scipy.stats.binomtest(2, 4).proportion_ci(0.95)
    most = scipy.stats.binomtest(3, 4).proportion_ci(0.95)
    assert mu == pytest.approx((sure.low, most.high))
