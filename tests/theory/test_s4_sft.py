"""Thm 4.1' and D.1 against a second road: every data sequence, in rationals."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from theory.s4_sft import HELLINGER, off_mass, theorem

HALF, FIFTH, SEVENTH, NINTH = (Fraction(1, k) for k in (2, 5, 7, 9))
BASE = [[HALF, Fraction(3, 10), FIFTH], [2 * FIFTH, 2 * FIFTH, FIFTH]]
GAMMAS = [Fraction(0), Fraction(2, 5), HALF, Fraction(3, 5)]  # where some Y*_g grows
MU = [Fraction(1, 4), Fraction(3, 4)]
OTHERS = [
    [[3 * NINTH, 4 * NINTH, 2 * NINTH], [5 * SEVENTH, SEVENTH, SEVENTH]],
    [[HALF, HALF, Fraction(0)], [SEVENTH, 4 * SEVENTH, 2 * SEVENTH]],
]


def best_of_n(row, n):
    """The law of the likeliest of n draws, ties shared evenly, over all n-tuples."""
    law = [Fraction(0)] * len(row)
    for draws in itertools.product(range(len(row)), repeat=n):
        top = max(row[y] for y in draws)
        tied = [y for y in draws if row[y] == top]
        for y in tied:
            law[y] += math.prod((row[z] for z in draws), start=Fraction(1)) / len(tied)
    return law


def near(row, gamma):
    return {y for y, p in enumerate(row) if p >= (1 - gamma) * max(row)}


def failed(member, gamma, delta):
    """P_mu[ member(Y*_g) <= 1-delta ]."""
    total = Fraction(0)
    for x, row in enumerate(BASE):
        mass = sum(member[x][y] for y in near(row, gamma))
        total += MU[x] if mass <= 1 - delta else 0
    return total


def exceedance(values, truth, members, n):
    """P[ worst value among the likeliest members >= v ] for each v, by sequences."""
    cells = list(itertools.product(range(2), range(3)))
    law = dict.fromkeys(set(values), Fraction(0))
    for data in itertools.product(cells, repeat=n):
        weight = math.prod((MU[x] * truth[x][y] for x, y in data), start=Fraction(1))
        scores = [math.prod(m[x][y] for x, y in data) for m in members]
        chosen = [v for v, s in zip(values, scores, strict=True) if s == max(scores)]
        law[max(chosen)] += weight
    return lambda v: float(sum(p for value, p in law.items() if value >= v))


@pytest.mark.parametrize("delta", [Fraction(1, 4), Fraction(3, 5)])
@pytest.mark.parametrize("n", [1, 3])
def test_thm_41_is_the_enumeration_of_all_data(delta, n):
    draws = 2
    truth = [best_of_n(row, draws) for row in BASE]
    members = [truth, *OTHERS]
    n_star = draws / math.log(2 / float(delta))
    cover = [
        float(
            sum(
                m / sum(r[y] for y in near(r, g)) for m, r in zip(MU, BASE, strict=True)
            )
        )
        for g in GAMMAS
    ]
    fails = [[float(failed(m, g, delta)) for g in GAMMAS] for m in members]
    excess = [
        max(f - c / n_star for f, c in zip(row, cover, strict=True)) for row in fails
    ]
    probability = exceedance(excess, truth, members, n)
    best = (0.0, 0.0)
    for row in fails:
        for f, c in zip(row, cover, strict=True):
            p = probability(f - c / n_star)
            if p > 0:
                right = HELLINGER * math.log(3 / p) / (float(delta) * n) + c / n_star
                best = max(best, (f / right, right))
    left, right = theorem(
        {
            "base": np.array(BASE, float),
            "mu": np.array(MU, float),
            "others": np.array(OTHERS, float),
            "members": np.array(3),
            "delta": np.array(float(delta)),
            "n": np.array(n),
            "draws": np.array(float(draws)),
        }
    )
    assert left / right == pytest.approx(best[0], rel=1e-9)
    assert best[0] > 0


def test_the_constant_is_that_of_the_proof():
    """(sqrt delta - sqrt(delta/2))^2 = delta (1 - 1/sqrt 2)^2; 2/that is 23.3."""
    step = (math.sqrt(0.3) - math.sqrt(0.15)) ** 2 / 0.3
    assert pytest.approx(2 / step) == HELLINGER
    assert round(HELLINGER, 1) == 23.3


def test_adaptive_data_have_no_coverage_term():
    """One member: P_mu fails nowhere, since the rule misses Y* with mass delta/2."""
    instance = {
        "base": np.array(BASE, float),
        "mu": np.array(MU, float),
        "others": np.array(OTHERS, float),
        "members": np.array(1),
        "delta": np.array(0.5),
        "n": np.array(4),
    }
    assert theorem(instance) == (0.0, 0.0)


def test_off_mass_moves_exactly_that_mass_and_keeps_proportions():
    base = np.array([[0.4, 0.4, 0.2, 0.0], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]])
    law = np.array([[0.45, 0.45, 0.1, 0.0], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]])
    moved = off_mass(law, base, 0.3)
    np.testing.assert_allclose(moved[0], [0.35, 0.35, 0.3, 0.0])
    np.testing.assert_allclose(moved[1], law[1])  # every response is a maximiser
    np.testing.assert_allclose(moved[2], [0.7, 0.1, 0.1, 0.1])
