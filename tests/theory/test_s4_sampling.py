"""Prop C.1, Lem I.1 and the query counts of Thm D.1, against sums over draws."""

import math
from fractions import Fraction
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from theory import s4_sampling
from theory.claim import QUICK, compiled
from theory.families import two_level
from theory.s4_sampling import exact_queries, exact_total

lemma_i1_error = compiled(s4_sampling.lemma_i1_error)
lemma_i1_mean = compiled(s4_sampling.lemma_i1_mean)
prop_c1 = compiled(s4_sampling.prop_c1)
prop_c1_short = compiled(partial(s4_sampling.prop_c1, shortfall=0.9))
queries_printed = compiled(s4_sampling.queries_printed)
queries_repaired = compiled(s4_sampling.queries_repaired)
total_printed = compiled(s4_sampling.total_printed)
total_repaired = compiled(s4_sampling.total_repaired)
queries_lower = compiled(s4_sampling.queries_lower)

ROWS = {
    "unique": [Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)],
    "tied": [Fraction(2, 5), Fraction(2, 5), Fraction(1, 5)],
    "uniform": [Fraction(1, 3)] * 3,
    "point": [Fraction(1), Fraction(0), Fraction(0)],
    "zero": [Fraction(3, 4), Fraction(1, 4), Fraction(0)],
}


def instance(row, **parameters):
    pi = jnp.array([[float(p) for p in row]])
    return {"pi": pi} | {name: jnp.asarray(float(v)) for name, v in parameters.items()}


def stopping(row, threshold):
    """E[N] and P[no maximiser by N], summing P[N > k] = P[max of k < mu/k] over k."""
    modes = max(row)
    present = [p for p in row if p > 0]
    horizon = math.ceil(threshold / min(present)) + 1
    late = lambda k: sum((p for p in row if p < threshold / k), Fraction(0)) ** k
    mean = 1 + sum(late(k) for k in range(1, horizon + 1))
    other = [p for p in row if p < modes]
    unseen = lambda k: (
        sum((p for p in other if p < threshold / k), Fraction(0)) ** k
        if k
        else Fraction(1)
    )
    missed = sum(unseen(k - 1) * sum(other) - unseen(k) for k in range(1, horizon + 1))
    return mean, missed


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "threshold", [Fraction(1, 7), Fraction(9, 10), Fraction(16, 5)]
)
def test_lemma_i1_sides_by_summing_over_draws(name, threshold):
    row = ROWS[name]
    top, modes = max(row), row.count(max(row))
    mean, missed = stopping(row, threshold)
    i = instance(row, threshold=threshold, extra=0.0)
    left, right = lemma_i1_mean(i)
    assert float(left) == pytest.approx(float(mean), rel=1e-12)
    assert float(right) == pytest.approx(float((threshold + Fraction(1, modes)) / top))
    left, right = lemma_i1_error(i)
    assert float(left) == pytest.approx(float(missed), rel=1e-12, abs=1e-300)
    assert float(right) == pytest.approx(math.exp(-modes * threshold))


def test_waiting_beyond_the_rule_only_helps():
    i = instance(ROWS["unique"], threshold=0.9, extra=0.0)
    at = [
        float(lemma_i1_error(i | {"extra": jnp.asarray(e)})[0]) for e in (0.0, 1.0, 3.0)
    ]
    assert at[1] == pytest.approx(at[0] * 0.5) and at[2] == pytest.approx(at[0] * 0.125)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("rho", [0.999, 0.3, 1e-6])
def test_prop_c1_is_a_power_of_the_mass_off_the_set(name, rho):
    row, gamma = ROWS[name], Fraction(2, 5)
    q = sum(p for p in row if p >= (1 - gamma) * max(row))
    n = max(1, math.ceil(-math.log(rho) / q))
    left, right = prop_c1(instance(row, gamma=gamma, rho=rho))
    assert float(left) == pytest.approx(float((1 - q) ** n), rel=1e-12, abs=1e-300)
    assert float(right) == rho and left <= right


def test_prop_c1_needs_its_draws():
    i = instance([Fraction(1, 20)] + [Fraction(19, 400)] * 20, gamma=0.0, rho=1e-4)
    assert prop_c1(i)[0] <= 1e-4 < prop_c1_short(i)[0]


def test_near_ties_meet_every_rho_and_gamma(key):
    """Prop C.1's designed rows must not share one period with its parameters."""
    claim = next(c for c in s4_sampling.CLAIMS if c.id == "Prop C.1")
    (batch,) = claim.attack(key, QUICK)
    near_tie = two_level(s4_sampling.RESPONSES, best=1, ratio=0.999)
    # In order, so as the attack wrote it: the zoo's own rows are shuffled.
    designed = np.flatnonzero((batch["pi"][:, 0] == near_tie).all(-1))
    assert len(set(batch["rho"][designed])) == 5
    assert len(set(batch["gamma"][designed])) == 4


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_uniform_law_stops_at_a_constant(size):
    """N_mu = ceil(M ln 4) at delta = 1/2: the counterexample to the printed E[m]."""
    pi = np.full((1, size), 1 / size)
    i = {"pi": jnp.asarray(pi), "mu": jnp.ones(1), "delta": jnp.asarray(0.5)}
    left, right = queries_printed(i)
    assert float(left) == pytest.approx(math.ceil(size * math.log(4)), rel=1e-12)
    assert float(right) == pytest.approx(1000 * math.log(2))
    assert float(queries_repaired(i)[1]) == pytest.approx((1 + math.log(4)) * size)
    exact = exact_queries({"pi": pi, "mu": np.ones(1), "delta": np.array(0.5)})
    assert exact[0] == math.ceil(size * math.log(4))
    assert float(exact[1]) == pytest.approx(float(right), rel=1e-14)


def test_the_repaired_query_count_averages_over_prompts():
    rows = [ROWS["unique"], ROWS["tied"]]
    threshold = math.log(2 / 0.3)
    means = [float(stopping(row, Fraction(threshold))[0]) for row in rows]
    i = {
        "pi": jnp.array([[float(p) for p in row] for row in rows]),
        "mu": jnp.array([0.25, 0.75]),
        "delta": jnp.asarray(0.3),
    }
    left, right = queries_repaired(i)
    assert float(left) == pytest.approx(0.25 * means[0] + 0.75 * means[1], rel=1e-12)
    assert float(right) == pytest.approx((1 + threshold) * (0.25 * 2 + 0.75 * 2.5))
    lower, mean = queries_lower(i)
    assert float(lower) == pytest.approx(threshold * (0.25 * 2 + 0.75 * 2.5))
    assert float(mean) == float(left) >= float(lower)


@pytest.mark.parametrize("delta", [0.5, 0.75, 1 - 2.0**-30])
def test_the_total_near_delta_one_is_n_and_the_printed_one_vanishes(delta):
    """One certain response: E[m] = n ceil(ln(2/delta)), n = ceil(c ln 4/(delta/2))."""
    i = {
        "pi": jnp.array([[1.0, 0.0]]),
        "mu": jnp.ones(1),
        "delta": jnp.asarray(delta),
        "class_size": jnp.asarray(2.0),
        "rho": jnp.asarray(0.5),
        "eps": jnp.asarray(0.5),
    }
    fits = math.log(4) / (delta / 2)
    n, threshold = math.ceil(fits * 2 / (1 - 0.5**0.5) ** 2), math.log(2 / delta)
    left, right = total_printed(i)
    assert float(left) == n * math.ceil(threshold)
    assert float(right) == pytest.approx(1000 * fits * math.log(1 / delta))
    assert (left > right) == (delta > 0.99)
    exact = exact_total({name: np.asarray(a) for name, a in i.items()})
    assert (float(exact[0]), float(exact[1])) == pytest.approx(
        (float(left), float(right)), rel=1e-9
    )
    bound = (1 + fits * 2 / (1 - 0.5**0.5) ** 2) * (1 + threshold)
    assert float(total_repaired(i)[1]) == pytest.approx(bound) and left <= bound
