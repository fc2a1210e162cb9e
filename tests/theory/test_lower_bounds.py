"""Lower bounds on the hard family: counterexamples by hand, second roads, power."""

import itertools
import math
from fractions import Fraction
from functools import cache

import jax
import numpy as np
import pytest

from theory.claim import QUICK, examine, unstack
from theory.lower_bounds import (
    CLAIMS,
    exact_guess,
    exact_h4,
    guess,
    lemma_h2,
    lemma_h3,
    lemma_h4,
    lemma_h4_repaired,
    theorem_31,
)
from theory.minimax import (
    LONGEST,
    Hard,
    adaptive_frontier,
    adaptive_optimum,
    bayes_error,
    few_draws,
    fixed_error,
    fixed_optimum,
    hard,
    rule_error,
    stopped,
)

BY_ID = {claim.id: claim for claim in CLAIMS}


@pytest.mark.parametrize("id", BY_ID)
def test_outcomes_twins_and_exponents(id):
    report = examine(jax.random.key(7), BY_ID[id], effort=QUICK._replace(instances=16))
    assert report.verdict.outcome == BY_ID[id].expected
    assert report.as_expected


def test_ids_and_repairs():
    assert {c.paper_id for c in CLAIMS} == {
        "Thm 3.1", "Thm 3.1'", "Thm D.2", "Lem H.2", "Lem H.3", "Lem H.4"
    }  # fmt: skip
    failing = {c.id for c in CLAIMS if c.expected == "fails"}
    assert failing == {c.repairs for c in CLAIMS if c.repairs}


# ---- Thm 3.1, 3.1', D.2


def point(**values):
    base = {"eps": 0.05, "c_cov": 1.0, "d": 1, "p": 1.0} | values
    return {name: np.array(value) for name, value in base.items()}


@pytest.mark.parametrize("adaptive", [False, True])
def test_without_queries_one_member_in_k_is_right(adaptive):
    """|Pi| = 8, eps = 7/8, d = C = 1: m = 0 is enough, the figure is positive."""
    i = point(eps=7 / 8, class_size=8)
    left, right = guess(i, adaptive=adaptive)
    figure = math.log(8) * (8 / 7) ** (1 if adaptive else 2) / (1 + math.log(8 / 7))
    assert (left, right) == (pytest.approx(figure / 1000), 0.0)
    exact = exact_guess(i, adaptive=adaptive)
    assert float(exact[0]) == pytest.approx(left, rel=1e-14) and exact[1] == 0
    short = point(eps=7 / 8 - 1e-6, class_size=8)
    assert guess(short, adaptive=adaptive)[1] == math.inf
    assert exact_guess(short, adaptive=adaptive) == (0, 0)


def test_at_no_query_the_optimum_is_the_guess():
    """d = 1, M = 8: the guess is right w.p. 1/8, and no learner does better."""
    assert 1 - fixed_error(Hard(8, 1, 1.0), n=0, N=1) == pytest.approx(1 / 8)
    assert fixed_optimum(Hard(8, 1, 1.0), eps=7 / 8).m == 0
    assert fixed_optimum(Hard(8, 1, 1.0), eps=7 / 8 - 1e-6).m == 1


@pytest.mark.parametrize("c_cov", [1.0, 7.0])
@pytest.mark.parametrize("p", [1.0, 3.0])
def test_sides_of_the_theorem_from_the_definitions(c_cov, p):
    eps, d = 1 / 20, 2
    size = max(8, math.ceil(1 + c_cov * eps ** (-1 / p) - 1e-9))
    log_class, x = d * math.log(size), c_cov * eps ** (-1 / p)
    left, m = theorem_31(False, point(eps=eps, c_cov=c_cov, d=d, p=p))
    expected = 0.086 * c_cov * log_class / (eps ** (1 + 1 / p) * (1 + math.log(x)))
    assert left == pytest.approx(expected)
    family = Hard(size, d, 16 * eps)
    risk = lambda n: family.weight * fixed_error(family, n=n, N=1)
    assert risk(int(m)) <= eps < risk(int(m) - 1)
    left, mean = theorem_31(True, point(eps=eps, c_cov=c_cov, d=d, p=p))
    assert left == pytest.approx(expected * eps * 0.46 / 0.086)
    assert mean == pytest.approx(adaptive_optimum(family, eps=eps))


def test_both_constants_are_the_limits():
    """m -> ln(16)/32 and E[m] -> 15/32 times d M/eps, d M: 0.086 and 0.46 are below."""
    family = hard(eps=1 / 16, c_cov=1e5, d=1)
    _, m = theorem_31(False, point(eps=1 / 16, c_cov=1e5))
    assert m / 16 / family.size == pytest.approx(math.log(16) / 32, rel=1e-5)
    assert adaptive_optimum(family, eps=1 / 16) / family.size == pytest.approx(
        15 / 32, rel=1e-4
    )
    assert 0.086 <= math.log(16) / 32 < 0.087 and 0.46 <= 15 / 32 < 0.47


# ---- Lem H.2


def test_lemma_h2_for_the_bayes_learner():
    """Two queries, M = 3, d = 2, Delta = 1/2: E err(K) with K ~ Bin(2, 1/4)."""
    one = [None] + [(i, y, top) for i in (0, 1) for y in range(3) for top in (0, 1)]
    pihat = np.zeros((len(one) ** 2, 3, 4))
    pihat[:, 0, 0] = 1.0
    for row, seen in enumerate(itertools.product(one, repeat=2)):
        for i in (0, 1):
            here = [s for s in seen if s and s[0] == i]
            told = [y for _, y, top in here if top]
            silent = [y for y in range(3) if y not in {y for _, y, _ in here}]
            pihat[row, i + 1, 1 + (told or silent or [0])[0]] = 1.0
    left, right = lemma_h2({"pihat": pihat, "weight": np.array(0.5)})
    exact = fixed_error(Hard(3, 2, 0.5), n=2, N=1)
    assert left == pytest.approx(exact) and right == pytest.approx(exact)
    half = {"pihat": pihat / 2, "weight": np.array(0.5)}  # never above 1/2
    assert lemma_h2(half) == (pytest.approx(exact), pytest.approx(2.0))


# ---- Lem H.3


def test_lemma_h3_constant_at_its_tightest_instance():
    """M = 8, n = 7, N = 1: E err = 1/8 at Delta/d = 0.8855, m = 0.7748 d M/Delta."""
    error = lambda share: fixed_error(Hard(8, 1, share), n=7, N=1)
    assert error(0.8854) > 1 / 8 > error(0.8856)
    i = {"size": 8, "d": 1, "weight": 0.78 * 8 / 7, "n": 7, "draws": 1}
    i = {name: np.array(value) for name, value in i.items()}
    left, right = lemma_h3(i, constant=0.78)
    assert left == 1 / 8 > right
    assert lemma_h3(i)[0] == 0  # not claimed at c = 0.77


@pytest.mark.parametrize("size", [8, 9, 12, 30, 100, 1000])
def test_lemma_h3_by_convexity_for_every_split(size):
    """err is convex: E err(NK) >= err at the mean, above 1/8 up to 0.76 M draws."""
    draws = 0.76 * size
    low = math.floor(draws)
    error = bayes_error(np.array([low, low + 1]), size=size)
    assert np.interp(draws, [low, low + 1], error) > 1 / 8


# ---- Lem H.4


def never(size):
    return {"size": np.array(size), "stop": np.zeros((LONGEST + 1, LONGEST + 1))}


def test_the_counterexample_to_lemma_h4():
    """M = 6, draw until y_{j*} shows: no error, P[m_i <= 2] = 1 - (2/3)^2 = 5/9."""
    left, error = lemma_h4(never(6))
    assert (left, error) == (pytest.approx(5 / 9 / (4 * math.e)), 0.0)
    exact = exact_h4(never(6))
    assert float(exact[0]) == pytest.approx(left, rel=1e-15) and exact[1] == 0
    assert lemma_h4_repaired(never(6)) == (0.0, 0.0)


def test_the_repair_is_attained():
    """M = 6, stop at two distinct others: Q = 4/5, error (4/9)(4/5)(3/4) = 4/15."""
    i = never(6)
    i["stop"][2, 2] = 1.0
    assert lemma_h4_repaired(i) == (pytest.approx(4 / 15), pytest.approx(4 / 15))


def by_sequences(size, rule, last):
    """Error, P[m_i <= last] and Q[m_i <= last] over all sequences, in rationals.

    y_0 is the hidden one; `rule` stops at (k, D) w.p. rule[k][D], never after `last`.
    """
    top, others = Fraction(2, size), Fraction(size - 2, size * (size - 1))

    @cache
    def walk(seen):
        k, distinct = len(seen), len(set(seen))
        stop = Fraction(float(rule[k][distinct]))
        here = stop * np.array([1 - Fraction(1, size - distinct), 1, 1])
        if k == last:
            return here
        found = np.array([Fraction(0), top, Fraction(0)])
        ahead = np.array([Fraction(0)] * 3)
        for y in range(1, size):
            inner = walk((*seen, y))
            scale = np.array([others, others, Fraction(1, size - 1)])
            ahead = ahead + inner * scale
        return here + (1 - stop) * (found + ahead)

    return walk(())


@pytest.mark.parametrize(("size", "last"), [(6, 2), (5, 4), (9, 3)])
def test_stopping_rules_by_enumeration_of_all_sequences(size, last):
    rng = np.random.default_rng(3)
    stop = np.zeros((LONGEST + 1, LONGEST + 1))
    stop[: last + 1, : last + 1] = rng.integers(0, 9, (last + 1, last + 1)) / 8
    error, few, never_shown = by_sequences(size, stop, last)
    law = stopped(size, stop, Fraction)
    assert rule_error(size, law, Fraction) == error
    assert law.sum() == never_shown
    if last == size // 3:
        assert few_draws(size, law, Fraction) == few
    assert float(rule_error(size, stopped(size, stop))) == pytest.approx(float(error))


@pytest.mark.parametrize("size", [6, 8, 17, 100, 1000])
def test_the_adaptive_bound_survives_with_its_proof_mended(size):
    """Error 1/c_1 leaves Q[m_i > M/3] >= 1-3/c_1, so E[m_i] >= (4/27)(1-3/c_1) M.

    The exact optimum at c_1 = 16 is well above, from (M-1)(1-1/M-1/16)/(2-3/M) on.
    """
    queries, error = adaptive_frontier(size)
    least = float(np.interp(1 / 16, error[::-1], queries[::-1]))
    gain = (2 - 3 / size) / (size - 1)
    assert least >= (1 - 1 / size - 1 / 16) / gain >= (4 / 27) * (13 / 16) * size


def test_the_attack_on_lemma_h4_reaches_every_size():
    batch = BY_ID["Lem H.4"].attack(jax.random.key(1), QUICK)[0]
    sizes = {int(i["size"]) for i in unstack(batch)}
    assert sizes == set(range(6, 41))
