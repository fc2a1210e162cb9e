"""Lem F.1: the two roads to the bound agree, and what the check sees is exact."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
from levels import LEVEL

from theory.claim import QUICK, judge, ratio
from theory.s4_mle import CLAIMS, lemma_f1, lemma_f1_sampled, tightest


def pair(p, q, n):
    members = np.array([[[p, 1 - p]], [[q, 1 - q]]])
    return {"members": members, "mu": np.ones(1), "n": np.array(n)}


def hellinger_squared(p, q):
    affinity = math.sqrt(p * q) + math.sqrt((1 - p) * (1 - q))
    return 2 - 2 * affinity


@pytest.mark.parametrize(
    ("p", "q", "n"), [(0.5, 0.1, 12), (0.3, 0.7, 101), (1, 0.9, 7)]
)
def test_two_members_by_a_binomial_tail(p, q, n):
    """pi_1 is chosen when enough draws favour it; left is D^2, right its bound."""
    gain = lambda k, a: scipy.special.xlogy(k, a) + scipy.special.xlogy(n - k, 1 - a)
    wins = [k for k in range(n + 1) if gain(k, q) >= gain(k, p)]
    f = scipy.stats.binom(n, p).pmf(wins).sum()
    left, right = lemma_f1(pair(p, q, n))
    if f == 0:  # a fair member that can never be selected: only the truth is left
        assert (left, right) == (0.0, pytest.approx(2 * math.log(2) / n))
    else:
        assert left == pytest.approx(hellinger_squared(p, q))
        assert right == pytest.approx(2 * math.log(2 / f) / n, rel=1e-9)


def test_a_member_repeated_does_not_enlarge_the_class():
    once = pair(0.5, 0.2, 9)
    twice = once | {"members": once["members"][[0, 1, 1]]}
    assert lemma_f1(twice) == lemma_f1(once)


def test_one_member_has_no_loss_and_no_room():
    alone = {"members": np.array([[[0.4, 0.6]]]), "mu": np.ones(1), "n": np.array(5)}
    assert lemma_f1(alone) == (0.0, 0.0)


def test_tightest_ignores_members_that_are_never_selected():
    left, right = np.array([0.0, 5.0, 1.0]), np.array([1.0, np.inf, 2.0])
    assert tightest(left, right) == (1.0, 2.0)
    assert ratio(left, right).tolist() == [0.0, 0.0, 0.5]


def test_the_sampled_claim_says_which_constant_it_can_rule_out(key):
    """0.7 for 2 fails on its instances and 1 does not: power stated, power had."""
    claim = next(c for c in CLAIMS if c.id == "Lem F.1 (32 members)")
    batches = claim.attack(key, QUICK)
    outcome = lambda c: judge(batches, partial(lemma_f1_sampled, constant=c)).outcome
    assert (outcome(0.7), outcome(1.0)) == ("fails", "holds")
    assert "rule out the constant 0.7, not 1" in claim.statement


def test_a_seed_replays_the_same_replications():
    batch = {k: a[None] for k, a in pair(0.5, 0.4, 50).items()}
    batch |= {"rho": np.array([0.5]), "seed": np.array([3])}
    batch |= {"replications": np.array([4000])}
    one, two = lemma_f1_sampled(batch), lemma_f1_sampled(batch)
    assert one.left == two.left and one.low <= one.left <= one.high
    assert one.queries == 4000 * 50


@pytest.mark.statistical
def test_the_sampled_fraction_is_that_of_the_exact_law():
    """rho for which the bound is just below D^2, so that failing is selecting pi_1."""
    n, p, q = 40, 0.5, 0.3
    rho = 2 * math.exp(-n * hellinger_squared(p, q) / 2) * 1.001
    gain = math.log(q / p), math.log((1 - q) / (1 - p))
    wins = [k for k in range(n + 1) if k * gain[0] + (n - k) * gain[1] >= 0]
    f = scipy.stats.binom(n, p).pmf(wins).sum()
    batch = {k: a[None] for k, a in pair(p, q, n).items()}
    batch |= {"replications": np.array([4000])}
    sides = lemma_f1_sampled(batch | {"rho": np.array([rho]), "seed": np.array([5])})
    assert sides.right[0] == rho and sides.low[0] <= sides.left[0] <= sides.high[0]
    failed = round(sides.left[0] * 4000)
    assert scipy.stats.binomtest(failed, 4000, f).pvalue > LEVEL
    assert scipy.stats.binomtest(failed, 4000, 0.7 * f).pvalue < LEVEL
