"""Lem J.1, J.2, J.3: loops over pairs, rationals, and the constants by calculus."""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from theory.claim import QUICK, compiled, unstack
from theory.families import generator
from theory.s4_pairs import (
    CLAIMS,
    FOURTH,
    ROOTS,
    exact_j1,
    exact_j3,
    lemma_j1,
    lemma_j1_repaired,
    lemma_j2,
    lemma_j3,
)

J1, J1_REPAIRED = compiled(lemma_j1), compiled(lemma_j1_repaired)
J2, J3 = compiled(lemma_j2), compiled(lemma_j3)
J3_PRINTED = compiled(partial(lemma_j3, add=0.0))


def as_jax(i):
    return {name: jnp.asarray(a) for name, a in i.items()}


def two_points(p, q, beta=1.0, **rest):
    """pi_base = (1-p, p), pi = (1-q, q) in the shape of the claims' instances."""
    pad = lambda row: np.array([row + [0.0] * 3] * 2)
    i = {"base": pad([1 - p, p]), "pi": pad([1 - q, q]), "mu": np.full(2, 0.5)}
    rest = {n: pad(v) if isinstance(v, list) else np.array(v) for n, v in rest.items()}
    return i | {"beta": np.array(float(beta))} | rest


def random_instance(key):
    rng = generator(key)
    rows = {n: rng.dirichlet(np.ones(5), size=2) for n in ("base", "pi", "pihat")}
    mu = np.array([0.3, 0.7])
    return rows | {"mu": mu, "beta": np.array(0.7), "eta": np.array(0.8)}


def pairs_by_loops(i, pi):
    """Delta, its probability and E[(pi_base/pi)^beta], nothing vectorised."""
    delta, weight, c = [], [], 0.0
    for x, mass in enumerate(i["mu"]):
        base, other, beta = i["base"][x], i[pi][x], float(i["beta"])
        for y in np.flatnonzero(base):
            c += mass * base[y] * (base[y] / other[y]) ** beta
            for z in np.flatnonzero(base):
                ratio = (other[y] / base[y]) / (other[z] / base[z])
                delta.append(beta * math.log(ratio))
                weight.append(mass * base[y] * base[z])
    return np.array(delta), np.array(weight), c


def test_the_counterexample_to_lemma_j1():
    """pi_base = (1/2, 1/2), pi = (9/10, 1/10), beta = 1, s = 3: 1/2 > e^-3."""
    p, q = Fraction(1, 2), Fraction(1, 10)
    c = (1 - p) ** 2 / (1 - q) + p**2 / q
    size = (1 - q) * p / ((1 - p) * q)  # e^|Delta| where y != y'
    assert (c, size, 2 * p * (1 - p)) == (Fraction(25, 9), 9, Fraction(1, 2))
    assert 2 * c + 3 < size and Fraction(1, 2) > math.exp(-3)
    left, right = (float(side) for side in J1(as_jax(two_points(0.5, 0.1))))
    assert left == pytest.approx(0.5)
    assert right == pytest.approx(math.exp(-(9 - 50 / 9)))
    exact = exact_j1(two_points(0.5, 0.1), printed=True)
    assert [float(side) for side in exact] == pytest.approx([left, right], rel=1e-12)
    assert 0.5 <= 2 * c / size  # log(2C) + s at the same value of |Delta|


def test_lemma_j1_by_loops(key):
    i = random_instance(key)
    delta, weight, c = pairs_by_loops(i, "pi")
    size = np.abs(delta)
    tail = np.array([weight[size >= v * (1 - 1e-12)].sum() for v in size])
    worst = (tail * np.exp(size) / (2 * c)).max()
    left, right = J1_REPAIRED(as_jax(i))
    assert float(left / right) == pytest.approx(worst, rel=1e-12)
    assert 0.1 < worst < 1


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_factor_two_of_lemma_j1_is_needed(beta):
    """q << p << 1 and p (p/q)^beta large: the ratio tends to one."""
    i = two_points(1e-3, 1e-3 * 1e-8 ** (1 / beta), beta)
    left, right = J1_REPAIRED(as_jax(i))
    assert 0.998 < float(left / right) <= 1


@pytest.mark.parametrize("printed", [True, False])
def test_decimals_agree_with_floats(key, printed):
    i = random_instance(key)
    floats = (J1 if printed else J1_REPAIRED)(as_jax(i))
    exact = exact_j1(i, printed=printed)
    assert [float(v) for v in exact] == pytest.approx(
        [float(v) for v in floats], rel=1e-11
    )


def test_the_mean_of_cosh_is_at_most_c(key):
    """E[cosh Delta] = C at beta = 1 (full support), less below: the module's step."""
    drawn = random_instance(key)
    for beta in (0.2, 0.7, 1.0):
        i = drawn | {"beta": np.array(beta), "mu": np.array([0.0, 1.0])}
        delta, weight, c = pairs_by_loops(i, "pi")
        mean = weight @ np.cosh(delta)
        assert mean <= c * (1 + 1e-12)
        assert (mean == pytest.approx(c, rel=1e-12)) == (beta == 1.0)


root: Any = brentq(lambda a: a / math.tanh(a / 2) - 4, 1, 10)
TOUCH = float(root)
SLOPE = TOUCH**4 / (math.cosh(TOUCH) - 1)


def envelope(c):
    """The least concave function over arccosh(w)^4 on w >= 1."""
    return SLOPE * (c - 1) if c < math.cosh(TOUCH) else math.acosh(c) ** 4


def test_the_envelope_is_concave_and_above():
    w = np.cosh(np.linspace(0, 60, 20_001))
    values = np.array([envelope(v) for v in w])
    assert (np.arccosh(w) ** 4 <= values * (1 + 1e-12)).all()
    slopes = np.diff(values) / np.diff(w)
    assert (np.diff(slopes) <= 1e-9 * slopes[:-1]).all()
    assert (round(SLOPE, 3), round(math.cosh(TOUCH), 2)) == (9.762, 23.04)


def test_the_constants_of_lemmas_j2_and_j3():
    ratio = lambda t: -envelope(math.exp(t)) / (t**4 + 1)
    best: Any = minimize_scalar(ratio, bounds=(0.1, 3.0), method="bounded")
    assert FOURTH - 0.001 < -best.fun <= FOURTH
    excess = lambda t: t - envelope(math.exp(t)) ** 0.25
    largest: Any = minimize_scalar(excess, bounds=(0.1, 3.0), method="bounded")
    assert ROOTS / 2 - 0.02 < -largest.fun <= ROOTS / 2
    for t in np.linspace(1e-6, 500, 5001):  # and nowhere else
        assert ratio(t) >= -FOURTH and excess(t) >= -ROOTS / 2


def test_the_constant_of_lemma_j2_is_attained():
    """Two points at beta = 1 with |Delta| = 3.83 and C = 2.41."""
    share = 1.4137 / (math.cosh(TOUCH) - 1)  # P[Delta != 0] = 2p(1-p)
    p = (1 - math.sqrt(1 - 2 * share)) / 2
    q = p / (p + (1 - p) * math.exp(TOUCH))
    left, right = J2(as_jax(two_points(p, q)))
    assert float(left) == pytest.approx(share * TOUCH**4)
    assert 0.9999 < float(left / right) <= 1


def test_lemma_j3_by_loops(key):
    i = random_instance(key)
    fit, weight, c = pairs_by_loops(i, "pihat")
    star = np.concatenate(
        [(np.log(r)[:, None] - np.log(r)[None]).ravel() for r in i["base"]]
    )
    power = i["base"] ** (1 + 1 / 0.7)
    tilted = {"tilted": power / power.sum(-1, keepdims=True)}
    _, _, c_star = pairs_by_loops(i | tilted, "tilted")
    tested = (i["mu"][:, None, None] * i["pi"][:, :, None] * i["base"][:, None]).ravel()
    near = (np.abs(star) <= 0.8) & (np.abs(fit) <= 0.8)
    over = weight[np.abs(star) > 0.8].sum() + weight[np.abs(fit) > 0.8].sum()
    c_pi = (i["mu"] @ (i["pi"] ** 2 / i["base"])).sum()
    assert 0 < near.sum() < near.size
    last = (math.log(c) + math.log(c_star) + ROOTS) * over**0.25
    right = c_pi**0.5 * ((weight @ (near * (star - fit) ** 2)) ** 0.5 + last)
    left = tested @ np.abs(star - fit)
    sides = [float(side) for side in J3(as_jax(i))]
    assert sides == pytest.approx([left, right], rel=1e-11)
    exact = [float(side) for side in exact_j3(i, add=0)]
    printed = [float(side) for side in J3_PRINTED(as_jax(i))]
    assert exact == pytest.approx([left, 1000 * printed[1]], rel=1e-11)


@pytest.mark.parametrize("t", [0.5**4, 0.5**16])
def test_the_counterexample_to_lemma_j3(t):
    """pi_base = pihat = pi = ((1+t)/2, (1-t)/2), beta = 1: of order t against t^2."""
    row = [(1 + t) / 2, (1 - t) / 2]
    i = two_points(row[1], row[1], eta=t, pihat=row)
    left, right = (float(side) for side in J3_PRINTED(as_jax(i)))
    share = (1 - t * t) / 2  # P[y != y']
    assert left == pytest.approx(share * math.log((1 + t) / (1 - t)), rel=1e-9)
    assert right == pytest.approx(math.log1p(t * t) * share**0.25, rel=1e-6)
    assert left / right > 1 / t
    assert float(J3(as_jax(i))[1]) > left


def test_beta_above_one_needs_its_own_term():
    """pi_base = (1-p, p), pihat = (1-2p, 2p), pi = (0, 1), beta = 1/p = 2^20."""
    p = 0.5**20
    i = two_points(p, 1.0, 1 / p, eta=1.0, pihat=[1 - 2 * p, 2 * p])
    left, right = (float(v) for v in J3(as_jax(i)))
    bare = (1 - p) * (math.log(2 * (1 - p) / (1 - 2 * p)) / p + math.log((1 - p) / p))
    assert left == pytest.approx(bare, rel=1e-9) and left < right
    at_one = compiled(partial(lemma_j3, add=1.0, with_beta=False))(as_jax(i))
    assert left > 1000 * float(at_one[1])


@pytest.mark.parametrize("id", ["Lem J.3", "Lem J.3 (beta > 1)"])
def test_decimals_confirm_the_claims_own_counterexamples(key, id):
    claim = next(c for c in CLAIMS if c.id == id)
    (batch,) = claim.attack(key, QUICK)
    sides, exact = claim.sides(batch), claim.exact
    assert exact is not None
    for k in (0, 10):
        found = [float(side) for side in exact(unstack(batch)[k])]
        assert found == pytest.approx([sides.left[k], sides.right[k]], rel=1e-5)
