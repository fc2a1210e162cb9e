"""The exact steps of Thm 4.3 and J.3: rationals, decimals, counterexamples by hand."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import QUICK, compiled, unstack, vectorised
from theory.families import two_level, zoo
from theory.s4_xpo_steps import (
    CLAIMS,
    SMALL,
    exact_linear_softmax,
    exact_mass,
    linear_softmax,
    mass_off,
    sharpened,
)

BY_ID = {claim.id: claim for claim in CLAIMS}
MASS = {r: compiled(partial(mass_off, rule=r)) for r in ("printed", "repaired", "half")}


def off_mass(row, power):
    """pi*_beta(not Y*) for 1 + 1/beta = power, weights in plain Python."""
    weights = [(p / max(row)) ** power for p in row]
    return sum(w for w in weights if w < 1) / sum(weights)


def on_row(row, delta):
    return {"pi": jnp.asarray([row], float), "delta": jnp.asarray(delta)}


def test_the_counterexample_to_the_mass_step():
    """pi = (11, 1)/12, delta = 1/1000, 1/beta = 2: 1/1332 > 1/2000, as in errata.md."""
    row, delta = [Fraction(11, 12), Fraction(1, 12)], Fraction(1, 1000)
    g = row[0] / row[1] - 1
    assert g == 10
    assert 2 >= float(2 / g) * math.log(2 * 2 / delta)  # e^10 > 4000
    off = off_mass(row, 3)
    assert off == Fraction(1, 1332) and off > delta / 2
    length = math.log(4000)
    left, right = MASS["printed"](on_row([11 / 12, 1 / 12], 1e-3))
    assert float(left) == pytest.approx(off_mass([11, 1], 1 + length / 5), rel=1e-9)
    assert float(right) == 5e-4 and float(left) > 3 * float(right)
    left, right = MASS["repaired"](on_row([11 / 12, 1 / 12], 1e-3))
    assert float(left) == pytest.approx(
        off_mass([11, 1], length / math.log(11)), rel=1e-9
    )
    assert float(left) < float(right)


def test_where_no_number_of_rounds_sharpens_a_linear_softmax():
    """pi = (1000, 1 x 1000)/2000, delta = 1/4, B = 3.6: as in errata.md (Thm J.3)."""
    delta, g, bound, theta = 0.25, 999, 3.6, math.log(1000) / 2
    length = math.log(2 * 1001 / delta)
    power = 1 + 2 * length / g
    assert theta <= g * bound / (3 * length) and power * theta <= bound
    off = off_mass([1000.0] + [1.0] * 1000, power)
    assert off == pytest.approx(0.469, abs=5e-4) and off > delta


@pytest.mark.parametrize("rule", ["printed", "repaired", "half"])
@pytest.mark.parametrize("delta", [1e-6, 0.3])
def test_the_rules_for_beta(rule, delta):
    row = [0.4, 0.4, 0.15, 0.05]
    g, length = 0.4 / 0.15 - 1, math.log(2 * 4 / delta)
    power = {
        "printed": 1 + 2 * length / g,
        "repaired": length / math.log(1 + g),
        "half": 1 + length / g,
    }[rule]
    left, right = MASS[rule](on_row(row, delta))
    assert float(left) == pytest.approx(off_mass(row, power), rel=1e-9)
    assert float(right) == delta / 2


def test_where_the_base_is_sharp_enough_any_beta_will_do():
    """1 + g = 999 > 2|Y|/delta = 8: 1/beta is nearly 0, pi*_beta nearly pi_base."""
    left, right = MASS["repaired"](on_row([0.999, 0.001], 0.5))
    assert float(left) == pytest.approx(0.001, rel=1e-4)
    assert float(left) < float(right)


def test_decimals_and_floats_agree_on_the_mass(key):
    batch = zoo(key, count=20, prompts=1, responses=5)
    batch["pi"] = np.maximum(batch["pi"], 1e-3)
    batch["pi"] /= batch["pi"].sum(-1, keepdims=True)
    batch["pi"] = np.round(batch["pi"], 6)  # no ties up to rounding
    spread = [len(set(row[0])) > 1 for row in batch["pi"]]
    batch = {"pi": batch["pi"][spread], "delta": np.resize([1e-4, 0.7], sum(spread))}
    found = vectorised(partial(mass_off, rule="printed"))(batch)
    exact = np.array([exact_mass(i) for i in unstack(batch)], float)
    big = exact[:, 0] > 1e-250
    assert big.any()
    np.testing.assert_allclose(found.left[big], exact[big, 0], rtol=1e-8)
    np.testing.assert_allclose(found.right, exact[:, 1], rtol=1e-12)


def test_the_border_of_the_printed_rule():
    """2 log(1+g) = g at 2.5129: below it holds for every delta, above it fails."""
    assert 2 * math.log1p(SMALL) > SMALL and 2 * math.log1p(2.52) < 2.52
    for g, holds in ((SMALL, True), (2.8, False)):
        row = two_level(1001, best=1, ratio=1 / (1 + g))
        sides = [MASS["printed"](on_row(row, d)) for d in (0.5, 1e-12, 1e-100)]
        assert all(left <= right for left, right in sides) == holds


@pytest.mark.parametrize("delta", [1e-9, 1e-3, 0.5, 0.999])
def test_the_least_distance_of_a_failing_policy(delta):
    """Two responses: D_H^2 = (sqrt d - sqrt(d/2))^2 + (sqrt(1-d/2) - sqrt(1-d))^2."""
    rest = (math.sqrt(1 - delta / 2) - math.sqrt(1 - delta)) ** 2
    distance = delta * (1 - math.sqrt(0.5)) ** 2 + rest
    base = np.sqrt([1 - delta / 2, delta / 2])
    just_over = delta * (1 + 1e-9)
    i = {
        "pi": jnp.asarray(base / base.sum())[None],
        "pihat": jnp.array([[1 - just_over, just_over]]),
        "mu": jnp.ones(1),
        "beta": jnp.asarray(1.0),
        "delta": jnp.asarray(delta),
    }
    left, right = jax.jit(sharpened)(i)
    assert float(left) == 1.0
    assert float(right) == pytest.approx(12 * distance / delta, rel=1e-6)
    assert float(right) > 1 > 11 / 12 * float(right) or delta >= 0.5
    allowed = i | {"pihat": jnp.array([[1 - delta, delta]])}
    assert float(sharpened(allowed)[0]) == 0.0  # mass 1-delta is enough (Def 3.1)


def test_the_constant_twelve_could_be_eleven_point_seven():
    """1/(1 - 1/sqrt2)^2 = 11.66 is the least constant that works as delta -> 0."""
    assert 1 / (1 - math.sqrt(0.5)) ** 2 == pytest.approx(11.6569, abs=1e-4)
    batch = BY_ID["Thm 4.3 (sharpened)"].attack(jax.random.key(0), QUICK)
    for constant, holds in ((11.65, False), (11.67, True)):
        sides = vectorised(partial(sharpened, constant=constant))(batch[0])
        assert (sides.left <= sides.right).all() == holds


def test_a_prompt_that_is_never_drawn_does_not_silence_the_claim():
    i = {
        "pi": jnp.array([[0.9, 0.1], [0.5, 0.4]]),
        "pihat": jnp.array([[0.2, 0.8], [0.5, 0.5]]),
        "mu": jnp.array([1.0, 0.0]),
        "beta": jnp.asarray(1.0),
        "delta": jnp.asarray(0.5),
    }
    assert float(sharpened(i)[0]) == 1.0
    assert float(sharpened(i | {"mu": jnp.array([0.5, 0.5])})[0]) == 0.0


def line(g, delta):
    """phi = (1, -1), theta* = log(1+g)/2: the margin is g."""
    return {
        "features": jnp.array([[1.0], [-1.0]]),
        "theta": jnp.array([math.log(1 + g) / 2]),
        "delta": jnp.asarray(delta),
    }


def test_the_counterexample_to_the_norm_condition():
    """g = 3, delta = 1/2: theta* = log 2, B = log 2 log 8 = 1.44, pi*_beta at 1.65."""
    length = math.log(2 * 2 / 0.5)
    theta, beta = math.log(2), 3 / (2 * length)
    ball = 3 * length * theta / 3
    needed = (1 + 1 / beta) * theta
    assert (round(ball, 2), round(needed, 2)) == (1.44, 1.65)
    i = line(3.0, 0.5)
    left, right = compiled(partial(linear_softmax, norm="printed", tilt="printed"))(i)
    assert float(left) == pytest.approx(needed / ball, rel=1e-12)
    assert float(right) == 1.0
    # pi*_beta = (4^k, 1)/(4^k + 1), k = 1+1/beta, and no smaller theta gives it.
    tilted = 4.0 ** (1 + 1 / beta)
    assert math.log(tilted) / 2 == pytest.approx(needed)
    exact = exact_linear_softmax({n: np.asarray(a) for n, a in i.items()})
    assert float(exact[0]) == pytest.approx(float(left), rel=1e-12)


@pytest.mark.parametrize(("g", "delta"), [(10.0, 1e-3), (1.0, 0.9), (50.0, 0.5)])
def test_both_forms_on_the_line(g, delta):
    length = math.log(4 / delta)
    off = lambda power: 2 / delta / (1 + (1 + g) ** power)
    found = compiled(partial(linear_softmax, norm="printed", tilt="printed"))
    expected = max(g / (3 * length) + 2 / 3, off(1 + 2 * length / g))
    assert float(found(line(g, delta))[0]) == pytest.approx(expected, rel=1e-9)
    power = max(length / math.log(1 + g), 1 + 1e-6)
    expected = max(1.0, off(power))
    left, right = compiled(linear_softmax)(line(g, delta))
    assert float(left) == pytest.approx(expected, rel=1e-9)
    assert float(left) <= float(right) * (1 + 1e-12)
