"""The law of maximum likelihood against enumeration of every data sequence."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from levels import LEVEL

from theory.mle import cells, log_exceedance, replicate

MU = [Fraction(1, 3), Fraction(2, 3)]
HALF, THIRD, FIFTH = Fraction(1, 2), Fraction(1, 3), Fraction(1, 5)
CLASS = [
    [[HALF, HALF, 0], [THIRD, THIRD, THIRD]],
    [[HALF, 0, HALF], [THIRD, THIRD, THIRD]],
    [[FIFTH, 4 * FIFTH, 0], [HALF, FIFTH, 3 * FIFTH / 2]],
    [[HALF, HALF, 0], [FIFTH, 2 * FIFTH, 2 * FIFTH]],
]
LOSS = [0.0, 3.0, 1.0, 2.0]


def floats(nested):
    return np.array(nested, dtype=float)


def brute_force(loss, truth, mu, members, n):
    """P[worst loss among the likeliest = l], over all sequences, in rationals."""
    support = [(x, y) for x in range(len(mu)) for y in range(len(truth[x]))]
    law = {}
    for data in itertools.product(support, repeat=n):
        weight, likelihoods = Fraction(1), [Fraction(1)] * len(members)
        for x, y in data:
            weight *= mu[x] * truth[x][y]
            for k, member in enumerate(members):
                likelihoods[k] *= member[x][y]
        best = max(likelihoods)
        tied = [l for l, v in zip(loss, likelihoods, strict=True) if v == best]
        law[max(tied)] = law.get(max(tied), Fraction(0)) + weight
    return law


@pytest.mark.parametrize("truth", [0, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_exceedance_is_that_of_all_sequences(truth, n):
    law = brute_force(LOSS, CLASS[truth], MU, CLASS, n)
    found = cells(floats(CLASS[truth]), floats(MU), floats(CLASS))
    thresholds = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    log_f = log_exceedance(floats(LOSS), thresholds, found, n=n)
    expected = [sum(p for l, p in law.items() if l >= t) for t in thresholds]
    np.testing.assert_allclose(np.exp(log_f), floats(expected), rtol=1e-12)


def test_ties_go_against_the_claim():
    """One fair coin flipped twice: (1/4, 3/4) and (3/4, 1/4) tie on one head."""
    members = np.array([[[0.5, 0.5]], [[0.25, 0.75]], [[0.75, 0.25]]])
    found = cells(members[0], np.ones(1), members)
    loss = np.array([0.0, 5.0, 7.0])
    exceeds = np.exp(log_exceedance(loss, np.array([5.0, 7.0]), found, n=2))
    # Two heads or two tails select a biased coin; one of each selects the fair one.
    np.testing.assert_allclose(exceeds, [0.5, 0.25])
    no_fair = cells(members[1], np.ones(1), members[1:])
    worst = np.exp(log_exceedance(loss[1:], np.array([7.0]), no_fair, n=2))
    np.testing.assert_allclose(worst, [1 - 0.75**2])


def test_cells_with_one_likelihood_ratio_are_merged():
    truth = np.full((1, 40), 1 / 40)
    other = np.concatenate([np.full(10, 0.02), np.full(30, 0.8 / 30)])[None]
    found = cells(truth, np.ones(1), np.stack([truth, other]))
    assert sorted(found.probability.round(12)) == [0.25, 0.75]
    one_binomial = scipy.stats.binom(500, 0.25)
    log_f = log_exceedance(np.array([0.0, 1.0]), np.array([1.0]), found, n=500)
    ratio = np.log(np.array([0.8, 0.8 / 0.75]))
    wins = [k for k in range(501) if k * ratio[0] + (500 - k) * ratio[1] >= 0]
    assert np.exp(log_f[0]) == pytest.approx(one_binomial.pmf(wins).sum(), rel=1e-9)


def test_the_truth_must_be_a_member():
    members = floats(CLASS[1:])
    with pytest.raises(ValueError, match="truth among the members"):
        cells(floats(CLASS[0]), floats(MU), members)


def test_too_many_outcomes_are_refused_before_the_work():
    members = np.random.default_rng(0).dirichlet(np.ones(6), size=(2, 2))
    found = cells(members[0], np.array([0.5, 0.5]), members)
    with pytest.raises(ValueError, match="found n=100 draws in 12 cells"):
        log_exceedance(np.zeros(2), np.zeros(1), found, n=100)


def selected(skip_ties: bool):
    """Chi-square p-value of replications against the enumerated law, n = 4."""
    law = brute_force(LOSS, CLASS[0], MU, CLASS, 4)
    found = cells(floats(CLASS[0]), floats(MU), floats(CLASS))
    loss = floats(LOSS) * (-1 if skip_ties else 1)
    rng = np.random.default_rng(11)
    drawn = np.abs(replicate(rng, loss, found, n=4, replications=20_000))
    values = sorted(l for l, p in law.items() if p > 0)
    counts = [(drawn == v).sum() for v in values]
    expected = [20_000 * float(law[v]) for v in values]
    return scipy.stats.chisquare(counts, expected).pvalue


@pytest.mark.statistical
def test_replications_follow_the_enumerated_law():
    assert selected(skip_ties=False) > LEVEL


def test_replications_that_break_ties_kindly_are_caught():
    assert selected(skip_ties=True) < LEVEL
