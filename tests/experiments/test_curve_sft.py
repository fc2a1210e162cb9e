"""The cost of SFT-Sharpening: its points by enumeration of data, and by formula."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from experiments.curves import sft
from theory.curves import Goals
from theory.mle import cells, log_exceedance
from theory.s4_sft import HELLINGER

TINY = dataclasses.replace(
    sft.QUICK,
    eps=(0.2, 0.1, 0.05),
    c_cov=(3.0, 6.0),
    delta=(0.6, 0.3),
    rivals=(1, 3),
    coins=(2,),
    at_eps=0.1,
    at_c_cov=4.0,
    at_delta=0.3,
    class_eps=0.1,
    rho=0.2,
    overdraw=(1.0, 2.0),
)


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return sft.run(TINY, 0)


def values(points, panel, series):
    found = [p for p in points if (p.panel, p.series) == (panel, series)]
    return np.array([p.x for p in found]), np.array([p.y for p in found])


def tables(miss, hard, delta):
    """Truth and its three rivals: two right answers on the easy prompt, one wrong."""
    easy = 1 - hard
    a = 0.5 * math.sqrt(1 - (1 - delta) ** (2 * hard / easy))
    wrong = [1 - delta, delta]
    rows = [[0.5, 0.5], [0.5 + a, 0.5 - a], [0.5 - a, 0.5 + a]]
    truth = np.array([[0.5, 0.5], [1 - miss, miss]])
    return np.stack([truth, *(np.array([row, wrong]) for row in rows)])


def failure(members, mu, n):
    found = cells(members[0], np.array(mu), members)
    loss = np.r_[0.0, np.ones(len(members) - 1)]
    return math.exp(log_exceedance(loss, np.ones(1), found, n=n)[0])


@pytest.mark.parametrize("panel", ["eps", "coverage", "delta"])
def test_the_need_is_where_the_enumerated_failure_crosses_rho(points, panel):
    x, y = values(points, panel, sft.FIXED)
    goal = {"eps": 0.1, "c_cov": 4.0, "delta": 0.3}
    moved = {"coverage": "c_cov"}.get(panel, panel)
    checked = 0
    for value, m in zip(x, y, strict=True):
        eps, c_cov, delta = (goal | {moved: value}).values()
        hard = 2 * eps
        q = hard / (c_cov - 1 + hard)
        draws = math.ceil(math.log(delta / 2) / math.log1p(-q))
        n = m / draws
        assert n == int(n)  # N is the least with (1-q)^N <= delta/2
        if n <= 105:  # four cells: the outcomes are few enough
            members = tables((1 - q) ** draws, hard, delta)
            crossing = [failure(members, [1 - hard, hard], int(n) - k) for k in (0, 1)]
            assert crossing[0] <= TINY.rho < crossing[1]
            checked += 1
    assert checked > 0


def test_the_adaptive_need_uses_its_own_law_and_mean(points):
    """At C = 4, eps = 0.1, delta = 0.6: the stopping rule summed over draws."""
    x, y = values(points, "delta", sft.ADAPTIVE)
    assert x[0] == 0.6
    hard, delta = 0.2, 0.6
    q, threshold = hard / 3.2, math.log(2 / 0.6)
    other = (1 - q) / (math.ceil(2 / q) - 1)
    first, last = math.ceil(threshold / q), math.ceil(threshold / other)
    late = sum((1 - q) ** k for k in range(first, last))
    mean = 0.8 * math.ceil(2 * threshold) + 0.2 * (first + late)
    n = y[0] / mean
    assert n == pytest.approx(round(n), abs=1e-9)
    members = tables((1 - q) ** last, hard, delta)
    crossing = [failure(members, [0.8, 0.2], round(n) - k) for k in (0, 1)]
    assert crossing[0] <= TINY.rho < crossing[1]


def test_guarantees_are_the_formulas_and_no_need_exceeds_them(points):
    x, m = values(points, "eps", sft.GUARANTEED)
    for eps, found in zip(x, m, strict=True):
        q = 2 * eps / (3 + 2 * eps)
        draws = math.ceil(math.log(0.15) / math.log1p(-q))
        n = math.ceil(2 * HELLINGER * math.log(4 / 0.2) / (0.3 * eps))
        assert found == n * draws
    for panel in ("eps", "coverage", "delta"):
        _, guaranteed = values(points, panel, sft.GUARANTEED)
        _, need = values(points, panel, sft.FIXED)
        _, best = values(points, panel, sft.BEST)
        assert (best <= need).all() and (need < guaranteed).all()


def test_the_lower_bounds_are_the_printed_orders():
    goal = Goals(*(np.array(v) for v in (0.1, 10.0, 0.3, 4.0)))
    order = 10 * math.log(4) / (1 + math.log(100))
    assert sft.lower_bound(goal, power=2) == pytest.approx(100 * order)
    assert sft.lower_bound(goal, power=1) == pytest.approx(10 * order)


def test_private_rivals_by_enumeration(points):
    """Three hard prompts of weight 0.2 each: |Pi| = 4."""
    x, y = values(points, "class", sft.OWN)
    np.testing.assert_allclose(x, np.log(np.array([2, 4]) / 0.2))
    q = 0.2 / 3.2
    draws = math.ceil(math.log(0.15) / math.log1p(-q))
    miss = (1 - q) ** draws
    n = y[0] / draws
    truth = np.array([[1.0, 0.0], [1 - miss, miss]])
    rival = np.array([[1.0, 0.0], [0.7, 0.3]])
    crossing = [
        failure(np.stack([truth, rival]), [0.8, 0.2], round(n) - k) for k in (0, 1)
    ]
    assert crossing[0] <= TINY.rho < crossing[1]
    assert y[1] > y[0]


def test_leaning_rivals_by_drawing_up_all_coins(points):
    """d = 2 and N four times as large: the law of |heads - tails| of two coins."""
    _, (m,) = values(points, "class", sft.LEANING)
    q, hard, delta = 0.2 / 3.2, 0.2, 0.3
    draws = 4 * math.ceil(math.log(0.15) / math.log1p(-q))
    miss, n = (1 - q) ** draws, m / draws
    a = 0.5 * math.sqrt(1 - (1 - delta) ** (hard / (1 - hard)))

    def fails(n):
        total = 0.0
        for h in range(n + 1):
            easy = n - h
            pmf = [math.comb(easy, k) / 2**easy for k in range(easy + 1)]
            gain = [
                max(k, easy - k) * math.log(1 + 2 * a)
                + min(k, easy - k) * math.log(1 - 2 * a)
                for k in range(easy + 1)
            ]
            for t in range(h + 1):
                weight = math.comb(n, h) * hard**h * (1 - hard) ** easy
                weight *= math.comb(h, t) * miss**t * (1 - miss) ** (h - t)
                if weight < 1e-15:
                    continue
                shown = (h - t) * math.log((1 - miss) / (1 - delta))
                shown -= t * math.log(delta / miss)
                pairs = itertools.product(range(easy + 1), repeat=2)
                lucky = sum(
                    pmf[i] * pmf[j]
                    for i, j in pairs
                    if max(0.0, gain[i] + gain[j]) >= shown - 1e-9
                )
                total += weight * lucky
        return total

    assert fails(round(n)) <= TINY.rho < fails(round(n) - 1)


def test_measured_slopes_are_those_of_the_theorems():
    """The committed grids, at their ends, by the exact law: eps^-2 and eps^-1."""
    with jax.enable_x64(True):
        config = dataclasses.replace(
            TINY, eps=(0.02, 0.01), c_cov=(9.0,), delta=(0.3,), overdraw=(1.0,)
        )
        found = sft.run(config, 0)
    slope = lambda series: -np.diff(np.log2(values(found, "eps", series)[1]))[0]
    # Rounding n, and h = 2 eps in C - 1 + h, bend either by less than a tenth.
    assert slope(sft.FIXED) == pytest.approx(-2, abs=0.1)
    assert slope(sft.ADAPTIVE) == pytest.approx(-1, abs=0.1)
