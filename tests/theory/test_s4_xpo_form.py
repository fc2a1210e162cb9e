"""The final form of Thm 4.3: its counterexample by hand, its repaired rounds."""

import math

import numpy as np
import pytest

from theory.claim import QUICK, unstack
from theory.s4_xpo import exploration, log_term
from theory.s4_xpo_form import (
    CLAIMS,
    ROUNDS,
    exact_final_form,
    final_form,
    sharpened_by_xpo,
)
from theory.xpo_law import answer_law, extrapolation, problem

BY_ID = {claim.id: claim for claim in CLAIMS}


@pytest.fixture
def small(key):
    """The instances base (2, 1)/3, beta = 1/6, eps = 1/2, delta = 1/4, T = 2."""
    return unstack(BY_ID["Thm 4.3"].attack(key, QUICK)[0])


def test_the_hypotheses_by_hand(small):
    """g = 1, 1/beta = 6 >= 2 log(2|Y|/delta) = log 256 (e^6 > 256); 2/3 < 3/4."""
    i = small[-1]
    np.testing.assert_allclose(i["base"], [[2 / 3, 1 / 3]])
    assert float(i["beta"]) == pytest.approx(1 / 6)
    assert 1 / i["beta"] >= 2 * math.log(2 * 2 / i["delta"])
    star = i["members"][1, 0]
    assert star[0] >= 1 - i["delta"] / 2
    assert (i["members"][0, 0, 0] < 1 - i["delta"]) and (2 / 3 < 1 - i["delta"])


def test_the_probability_is_that_of_the_exact_law(small):
    """P[the answer is pi*_beta] = 1/3 at T = 2, with R_max = 1 + log 3."""
    i = small[-1]
    p = problem(i)._replace(reward_max=1 + math.log(3))
    alpha = exploration(i, p, extrapolation(i, p), power=-1)
    law = answer_law(p, alpha=alpha, rounds=2)
    left, right = final_form(i)
    assert left == pytest.approx(1 - law[1], abs=1e-12) == 2 / 3
    assert right == i["rho"] == 0.1


def test_the_rounds_asked_for_are_fewer_than_two(small):
    """SEC = 2 a^2/lambda, and its bound is at most twice that at T = 2."""
    i = small[-1]
    p = problem(i)._replace(reward_max=1 + math.log(3))
    dimension = extrapolation(i, p)
    asked = (1 + math.log(3)) ** 2 * dimension * log_term(i) / (1 / 48) ** 2
    assert 1000 * 2 * asked < 2
    assert final_form(small[0])[1] == 1.0  # h = 1/8: silent, T is too small


def test_decimals_and_floats_agree(small):
    for i in small:
        exact = np.array(exact_final_form(i), float)
        np.testing.assert_allclose(final_form(i), exact, rtol=1e-12)


def test_a_sharpened_base_is_not_held_against_the_claim(small):
    """delta = 0.4: pi_base has 2/3 > 1-delta on Y*, and is a good answer."""
    i = small[-1] | {"delta": np.array(0.4)}
    assert final_form(i)[0] == float(exact_final_form(i)[0]) == 0.0


def test_the_control_asks_for_rounds_that_no_sec_can_cancel(small):
    assert all(final_form(i, floor=1.0)[1] == 1.0 for i in small)


def test_the_constant_of_the_repaired_form():
    """(4 sqrt2 + sqrt17) sqrt(L/(T-1)) (R+V) <= beta eps delta/12 from it on."""
    assert (4 * math.sqrt(2) + math.sqrt(17)) ** 2 * 144 == pytest.approx(13_774, abs=1)
    assert 13_774 < ROUNDS < 13_900


def test_a_short_run_is_judged_by_its_mass(key):
    """T = 2: pi_base and the member near it are not sharpened, pi*_beta is."""
    batch = BY_ID["Thm 4.3 (repaired)"].attack(key, QUICK)[0]
    short = sharpened_by_xpo(batch, constant=1e-9)
    assert short.queries == 2 * 2 * int(batch["replications"].sum())
    assert (short.low > 0.1).any()
    lenient = batch | {"eps": np.full(4, 0.999), "delta": np.full(4, 0.999)}
    assert (sharpened_by_xpo(lenient, constant=1e-9).left == 0).all()
