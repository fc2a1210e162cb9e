"""Thm 4.1 against a second road: every data sequence, and totals by hand."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from theory import s4_sample_complexity
from theory.claim import QUICK, compiled, unstack
from theory.laws import least_n
from theory.s4_sample_complexity import PROMPTS, exact_total, guarantee

total_printed = compiled(s4_sample_complexity.total_printed)
total_repaired = compiled(s4_sample_complexity.total_repaired)


def instance(**changed):
    """An easy and a hard prompt; rivals have 0.4 and 0.8 off Y* on it."""
    base = {
        "base": [[1.0, 0.0, 0.0], [0.5, 0.3, 0.2]],
        "mu": [0.4, 0.6],
        "eps": 0.5,
        "delta": 0.3,
        "n": 4,
        "offs": [0.4, 0.8],
        "members": 3,
    }
    return {name: np.array(value) for name, value in (base | changed).items()}


def failure_by_sequences(law, rivals, weight, n):
    """P[ a rival is as likely as the truth ], over all 4^n sequences of cells."""
    cells = [(1 - weight, None), *((weight * p, y) for y, p in enumerate(law))]
    total = 0.0
    for data in itertools.product(cells, repeat=n):
        seen = [y for _, y in data if y is not None]
        of = lambda row, seen=seen: math.prod(row[y] for y in seen)
        if any(of(rival) >= of(law) * (1 - 1e-12) for rival in rivals):
            total += math.prod(p for p, _ in data)
    return total


@pytest.mark.parametrize("n", [1, 4, 6])
def test_the_guarantee_is_the_enumeration_of_all_data(n):
    # N = ceil(2 C ln(2/delta)/eps) = 13: C = 0.4 + 0.6/0.5, and 2^-13 is off Y*.
    draws = math.ceil(2 * 1.6 * math.log(2 / 0.3) / 0.5)
    off, tail = 0.5**draws, 0.2**draws  # all draws off y_0, all draws y_2
    law = [1 - off, off - tail, tail]
    scaled = lambda mass: [1 - mass, *(mass * p / off for p in law[1:])]
    failure = failure_by_sequences(law, [scaled(0.4), scaled(0.8)], 0.6, n)
    left, right = guarantee(instance(n=n))
    assert left == n
    assert right == pytest.approx(PROMPTS * math.log(3 / failure) / (0.3 * 0.5))


def test_the_constants_are_twice_those_of_the_proof():
    """Each of the two terms of Thm 4.1' is eps/2."""
    step = (math.sqrt(0.3) - math.sqrt(0.15)) ** 2 / 0.3
    assert pytest.approx(2 * 2 / step) == PROMPTS
    assert round(PROMPTS, 1) == 46.6
    assert s4_sample_complexity.DRAWS == 2


def test_a_rival_that_is_sharpened_is_no_failure():
    """0.3 off Y* is allowed, 0.301 is not, on more than eps of the prompts."""
    assert guarantee(instance(offs=[0.3, 0.2]))[1] == math.inf
    assert guarantee(instance(offs=[0.301, 0.2]))[1] < math.inf
    assert guarantee(instance(offs=[0.9, 0.9], eps=0.6))[1] == math.inf
    assert guarantee(instance(offs=[0.9, 0.9], members=1))[1] == math.inf


def test_too_few_draws_leave_the_truth_itself_unsharpened():
    left, right = guarantee(instance(members=1), draws=0.1)
    assert (left, right) == (4.0, 0.0)  # F = 1 and |Pi| = 1: log(|Pi|/F) = 0


@pytest.mark.parametrize("delta", [0.5, 0.75, 1 - 2.0**-30])
def test_the_total_near_delta_one_is_n_and_the_printed_one_vanishes(delta):
    """One certain response: N = 1 and m = n = ceil(46.6 ln 4/(delta/2))."""
    fits = math.log(4) / (delta / 2)
    i = {
        "pi": jnp.array([[1.0, 0.0]]),
        "mu": jnp.ones(1),
        "delta": jnp.asarray(delta),
        "class_size": jnp.asarray(2.0),
        "rho": jnp.asarray(0.5),
        "eps": jnp.asarray(0.5),
    }
    left, right = total_printed(i)
    assert float(left) == math.ceil(4 * fits / (1 - 0.5**0.5) ** 2)
    assert float(right) == pytest.approx(2000 * fits * math.log(1 / delta))
    assert (left > right) == (delta > 0.99)
    exact = exact_total({name: np.asarray(a) for name, a in i.items()})
    assert tuple(map(float, exact)) == pytest.approx((float(left), float(right)))
    draws = 1 + 4 * math.log(2 / delta)
    bound = (1 + 4 * fits / (1 - 0.5**0.5) ** 2) * draws
    assert float(total_repaired(i)[1]) == pytest.approx(bound) and left <= bound


def test_the_repaired_order_has_the_stated_constant():
    """(1 + 46.6 x)(1 + 2 y) <= 166 x y wherever x >= log 2 and y >= log 2."""
    least = math.log(2)  # of log(|Pi|/rho)/(delta eps), and of C log(2/delta)/eps
    assert (1 + PROMPTS * least) * (1 + 2 * least) <= 166 * least**2
    assert (1 + PROMPTS * least) / least < 48.1


def test_markov_is_nearly_tight_on_its_instances(key):
    """A hair less than eps/2 of hard prompts, and one draw would have been enough."""
    claim = s4_sample_complexity.CLAIMS[2]
    designed, families = claim.attack(key, QUICK)
    for i in unstack(designed):
        draws = {"eps": float(i["eps"]) / 2, "delta": float(i["delta"]) / 2}
        tables = jnp.asarray(i["pi"]), jnp.asarray(i["mu"])
        assert float(least_n(*tables, **draws)) > 1
        allowed = draws | {"eps": draws["eps"] * (1 + 1e-6)}
        assert float(least_n(*tables, **allowed)) == 1
    goals = zip(families["eps"], families["delta"], families["rho"], strict=True)
    assert len(set(goals)) == min(QUICK.instances, 7 * 5 * 2)
