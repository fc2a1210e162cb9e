"""Thm 4.2: counterexamples by hand, closed forms, and what the exact need shows."""

import math
from fractions import Fraction

import numpy as np
import pytest

from theory.claim import QUICK, unstack
from theory.regression import class_facts, responses
from theory.s4_queries import (
    CLAIMS,
    _adversary,
    beta_printed,
    beta_repaired,
    exact_queries,
    exact_unsharpened,
    prescribed_beta,
    queries,
    queries_printed,
    unsharpened,
)

CLAIM = {claim.id: claim for claim in CLAIMS}


def test_a_slow_tilt_by_hand():
    """g_m = 1, beta = 1/2, pi_base prop. to (2, 1 x 32): 32/(8 + 32) is off Y*."""
    weights = [Fraction(2) ** 3] + [Fraction(1)] * 32  # w^(1 + 1/beta), 1/beta = 2
    assert 1 - weights[0] / sum(weights) == Fraction(4, 5)
    # 1/beta = 1000/(delta eps) needs 2^(3 + 1/beta) others: the claim's own family.
    numbers = {"beta": 1.0, "delta": 0.5, "eps": 0.5, "n": 1.0}
    i = responses([0.0, 5 * math.log(2)], [math.log(2), 0.0], **numbers)
    half = lambda f, i: 0.5
    assert unsharpened(i, beta=half) == (1.0, 0.5)


def test_the_claims_own_slow_tilts(key):
    (batch,) = CLAIM["Thm 4.2"].attack(key, QUICK)
    for i in unstack(batch):
        allowed = float(beta_printed(class_facts(i), i))  # g_m = 1
        assert allowed == pytest.approx(float(i["delta"] * i["eps"]) / 1000)
        left, right = unsharpened(i, beta=beta_printed)
        assert (left, right) == (1.0, float(i["eps"]))
        assert tuple(map(float, exact_unsharpened(i))) == (left, right)
        assert unsharpened(i, beta=beta_repaired)[0] == 0.0


def test_a_beta_above_the_prescribed_one_is_refused():
    i = _adversary()
    queries(i)
    with pytest.raises(ValueError, match="expected beta <= 0"):
        queries(i | {"beta": 1.01 * i["beta"]})


def test_both_forms_of_m_by_closed_formulas():
    i = _adversary(conc=1e3, gap=2.0, delta=0.3, eps=0.2, rho=0.05)
    q, h = np.exp(i["log_mass"][0, 1]), float(i["mu"][0])
    exact = 2 * math.ceil(math.log(0.05) / math.log1p(-2 * h * q * (1 - q)))
    enough = 2 * math.ceil(8 * 1e3 * math.log(40) / (0.3 * 0.2) ** 2)
    left, right = queries(i)
    assert left == exact and right == pytest.approx(enough, abs=2.0)
    f = class_facts(i)
    order = 1e3 * (f.log_loss + math.log(40)) ** 3 / (math.expm1(2) * 0.06) ** 2
    said = queries_printed(i)
    assert said[0] == exact
    assert said[1] == pytest.approx(2 * float(f.hidden) * order, rel=1e-6)


def test_the_need_does_not_depend_on_the_margin():
    needs = {queries(_adversary(gap=gap))[0] for gap in (1e-3, 0.1, 1.0, 30.0)}
    assert max(needs) <= min(needs) * (1 + 1e-6)


def test_decimals_confirm_that_printed_m_is_too_small():
    i = _adversary(gap=60.0)
    assert tuple(map(float, exact_queries(i))) == queries_printed(i)
    assert queries_printed(i)[1] == 2 < 1e6 < queries(i)[0]


def test_exponents_of_the_hardest_class():
    fit = CLAIM["Thm 4.2 (repaired)"].exponents
    assert fit is not None
    found = {exponent.of: exponent for exponent in fit(QUICK)}
    assert all(exponent.agrees for exponent in found.values())
    slopes = {name: round(e.found.slope, 1) for name, e in found.items()}
    rates = {"C_conc": 1.0, "1/delta": 2.0, "1/eps": 2.0}
    assert slopes == {f"m against {name}": rate for name, rate in rates.items()}


def test_prescribed_beta_leaves_half_of_delta_eps():
    beta = prescribed_beta(gap=0.7, log_cover=1.3, delta=0.2, eps=0.1)
    assert beta * 1.3 / 0.7 == pytest.approx(0.01)
