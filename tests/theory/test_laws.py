"""The laws against enumeration of every sequence of draws, in exact rationals."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import laws

# Compiled once per shape and reused: the numbers of a rule are traced.
best_of_n_law = jax.jit(laws.best_of_n_law)
adaptive_law = jax.jit(laws.adaptive_law)
stopping_time_survival = jax.jit(laws.stopping_time_survival)
least_n = jax.jit(laws.least_n)

# Multiples of 1/16, exact in float64: ties, zeros, a certain response, and thresholds
# at which k = mu/pi(y) holds with equality.
ROWS = [
    [Fraction(part, 16) for part in parts]
    for parts in [
        (16, 0, 0, 0),
        (8, 8, 0, 0),
        (4, 4, 4, 4),
        (1, 1, 6, 8),
        (7, 1, 7, 1),
        (0, 3, 0, 13),
        (2, 4, 2, 8),
        (5, 6, 2, 3),
        (1, 2, 2, 11),
        (3, 3, 9, 1),
    ]
]
SCORES = [
    [0, 0, 1, 2],
    [2, 1, 0, 3],
    [1, 1, 0, 1],
    [0, 1, 1, 0],
    [-math.inf, 0, 5, 0],
    [3, 3, 3, 3],
    [0, -math.inf, 2, 2],
    [0.5, 0.5, -1, 4],
    [2, 1, 1, 0],
    [1, 0, 0, 0],
]


def table(rows):
    return jnp.array([[float(value) for value in row] for row in rows])


def enumerated_best_of_n(row, score, n):
    """The first of the largest scores wins; every sequence is visited."""
    law = [Fraction(0)] * len(row)
    drawn = [y for y, p in enumerate(row) if p > 0]
    for sequence in itertools.product(drawn, repeat=n):
        best = max(sequence, key=lambda y: score[y])  # max keeps the first
        law[best] += math.prod(row[y] for y in sequence)
    return law


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_against_every_sequence(n):
    expected = [
        enumerated_best_of_n(row, score, n)
        for row, score in zip(ROWS, SCORES, strict=True)
    ]
    found = best_of_n_law(table(ROWS), table(SCORES), n=float(n))
    np.testing.assert_allclose(found, table(expected), rtol=1e-13, atol=0)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_of_the_likelihood_against_every_sequence(n):
    expected = [enumerated_best_of_n(row, row, n) for row in ROWS]
    pi = table(ROWS)
    found = best_of_n_law(pi, pi, n=float(n))
    np.testing.assert_allclose(found, table(expected), rtol=1e-13, atol=0)
    with np.errstate(divide="ignore"):
        logs = jnp.array(np.log(np.asarray(pi)))
    np.testing.assert_array_equal(best_of_n_law(pi, logs, n=float(n)), found)


EXTREME = [
    [0.5, 1e-9, 1e-300, 0.5 - 1e-9],
    [1e-10, 1e-5, 0.25, 0.75 - 1e-5 - 1e-10],
    [0.25, 0.25, 0.25, 0.25],
    [1e-300, 1e-200, 1e-100, 1.0],
    [2.0**-30, 1 - 2.0**-30, 0.0, 0.0],
]
EXTREME_SCORES = [[1, 3, 4, 2], [3, 2, 1, 0], [0, 1, 2, 3], [0, 1, 2, 3], [1, 0, 2, 3]]


def decimal_best_of_n(row, score, n):
    """F(y)^n - F(<y)^n in 400 digits, on the row divided by its exact sum."""
    exact = [Decimal(p) for p in row]
    total = sum(exact, Decimal(0))
    law = []
    for p, s in zip(exact, score, strict=True):
        ranked = list(zip(exact, score, strict=True))
        above = sum((x for x, t in ranked if t > s), Decimal(0)) / total
        tie = sum((x for x, t in ranked if t == s), Decimal(0)) / total
        won = (1 - above) ** n - (1 - above - tie) ** n
        law.append(won * p / total / tie if tie else Decimal(0))
    return law


@pytest.mark.parametrize("n", [1, 50, 10**6, 10**9])
def test_best_of_n_keeps_relative_accuracy(n):
    found = np.asarray(best_of_n_law(table(EXTREME), table(EXTREME_SCORES), n=float(n)))
    with localcontext() as context:
        context.prec, context.Emin = 400, -(10**12)
        expected = [
            decimal_best_of_n(row, score, n)
            for row, score in zip(EXTREME, EXTREME_SCORES, strict=True)
        ]
        expected = [[float(value) for value in row] for row in expected]
    # A row's sum is off one by an ulp, which n draws may amplify n-fold.
    np.testing.assert_allclose(found, expected, rtol=1e-12 + n * 4e-16, atol=1e-300)


@pytest.mark.parametrize("n", [1, 2, 7.5, 1e3, 1e9])
def test_best_of_n_is_a_law(n):
    law = best_of_n_law(table(ROWS), table(SCORES), n=float(n))
    np.testing.assert_allclose(law.sum(axis=-1), 1.0, rtol=1e-14)
    assert np.all(law >= 0)


def enumerated_adaptive(row, mu_threshold):
    """Eq 10 to the letter: draw until 1/max_j pi(y_j) <= k/mu, keep the best.

    Sequences with the same best response so far are one state: nothing else matters to
    the rule. Returns the response law, E[N], and the law of N.
    """
    law, mean, stopping = [Fraction(0)] * len(row), Fraction(0), {}
    running, k = {None: Fraction(1)}, 0
    while running:
        k, still = k + 1, {}
        for (best, weight), y in itertools.product(running.items(), range(len(row))):
            if row[y] == 0:
                continue
            now = y if best is None or row[y] > row[best] else best
            if 1 / row[now] <= k / mu_threshold:
                law[now] += weight * row[y]
                mean += k * weight * row[y]
                stopping[k] = stopping.get(k, 0) + weight * row[y]
            else:
                still[now] = still.get(now, 0) + weight * row[y]
        running = still
    return law, mean, stopping


THRESHOLDS = [
    Fraction(1, 16),
    Fraction(1),
    Fraction(3, 2),
    Fraction(3),
    Fraction(53, 16),
]


@pytest.mark.parametrize("mu_threshold", THRESHOLDS)
def test_adaptive_law_against_every_sequence(mu_threshold):
    outcomes = [enumerated_adaptive(row, mu_threshold) for row in ROWS]
    found = adaptive_law(table(ROWS), mu_threshold=float(mu_threshold))
    expected = table([law for law, _, _ in outcomes])
    np.testing.assert_allclose(found.response, expected, rtol=1e-13, atol=0)
    means = [float(mean) for _, mean, _ in outcomes]
    np.testing.assert_allclose(found.mean_draws, means, rtol=1e-13)


@pytest.mark.parametrize("mu_threshold", THRESHOLDS)
def test_stopping_time_against_every_sequence(mu_threshold):
    draws = jnp.arange(70)
    found = stopping_time_survival(table(ROWS), draws, mu_threshold=float(mu_threshold))
    for row, survival in zip(ROWS, np.asarray(found), strict=True):
        stopping = enumerated_adaptive(row, mu_threshold)[2]
        assert max(stopping) == math.ceil(mu_threshold / min(p for p in row if p))
        for k, value in enumerate(survival):
            exact = sum(weight for stop, weight in stopping.items() if stop > k)
            assert value == pytest.approx(float(exact), rel=1e-13, abs=0)


def test_the_enumeration_meets_equality_in_the_stopping_rule():
    """Some k = mu/pi(y) exactly: only there do k >= and k > differ."""
    ties = [
        (mu_threshold / p).denominator == 1
        for mu_threshold in THRESHOLDS
        for row in ROWS
        for p in row
        if p
    ]
    assert 10 < sum(ties) < len(ties)


def test_the_mean_is_the_sum_of_the_survival():
    """Two roads to E[N] where it takes millions of draws to stop at worst."""
    pi = jnp.array([[0.02, 0.01, 1e-6, 0.97 - 1e-6], [0.4, 0.3, 0.3 - 1e-6, 1e-6]])
    law = adaptive_law(pi, mu_threshold=5.3)
    draws = jnp.arange(2000)
    survival = stopping_time_survival(pi, draws, mu_threshold=5.3)
    assert np.all(survival[:, -1] < 1e-17)
    np.testing.assert_allclose(law.mean_draws, survival.sum(axis=1), rtol=1e-13)


def test_adaptive_law_at_extreme_probabilities():
    """No tail is cut: the bound on N is about 1e300 here, the mean is not."""
    pi = jnp.array([[1e-300, 1e-9, 0.5, 0.5 - 1e-9], [0.0, 1e-300, 1e-12, 1.0]])
    law = adaptive_law(pi, mu_threshold=math.log(20))
    np.testing.assert_allclose(law.response.sum(axis=-1), 1.0, rtol=1e-14)
    # Row 0: 0.5 is accepted from k=6, its rival from k=6 too; both draws are likely.
    # Row 1: its first three draws include y=3 but for 1e-36, and then N = 3.
    np.testing.assert_allclose(law.mean_draws, [6.0, 3.0], rtol=1e-7)
    assert np.all(law.mean_draws >= jnp.array([6.0, 3.0]))
    bound = (math.log(20) + 1.0) / jnp.max(pi, axis=-1)
    assert np.all(law.mean_draws <= bound)  # Lem I.1, |y*| = 1


def test_a_certain_response_is_kept_after_the_least_draws():
    law = adaptive_law(jnp.array([[0.0, 1.0]]), mu_threshold=2.5)
    np.testing.assert_array_equal(law.response, [[0.0, 1.0]])
    np.testing.assert_array_equal(law.mean_draws, [3.0])


def enumerated_least_n(rows, weights, eps, delta, gamma):
    n = 0
    while True:
        n += 1
        good = Fraction(0)
        for row, weight in zip(rows, weights, strict=True):
            missed = sum(p for p in row if p < (1 - gamma) * max(row))
            good += weight * (1 - missed**n >= 1 - delta)
        if good >= 1 - eps:
            return n


WEIGHTS = [Fraction(k, 32) for k in (1, 2, 3, 4, 5, 0, 6, 2, 8, 1)]


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 2)])
@pytest.mark.parametrize("delta", [Fraction(1, 2), Fraction(1, 16), Fraction(1, 10**6)])
@pytest.mark.parametrize("eps", [Fraction(k, 32) for k in (1, 3, 8, 20, 31)])
def test_least_n_is_the_least(gamma, delta, eps):
    expected = enumerated_least_n(ROWS, WEIGHTS, eps, delta, gamma)
    goal = {"eps": float(eps), "delta": float(delta), "gamma": float(gamma)}
    mu = jnp.array([float(weight) for weight in WEIGHTS])
    assert float(least_n(table(ROWS), mu, **goal)) == expected


def test_least_n_at_ties_that_rounding_would_break():
    # Ten equal prompts of which three need more: their mass is eps = 0.3, though
    # 0.1 + 0.1 + 0.1 > 0.3 in floats. Then 0.1^3 against delta = 0.001.
    pi = jnp.array([[0.9, 0.1]] * 7 + [[0.51, 0.49]] * 3)
    assert 0.1 + 0.1 + 0.1 > 0.3
    mu = jnp.full(10, 0.1, float)
    assert float(least_n(pi, mu, eps=0.3, delta=0.001)) == 3.0
    assert float(least_n(pi, mu, eps=0.29, delta=0.001)) == 10.0


@pytest.mark.parametrize(("missed", "delta", "n"), [(0.4, 0.064, 3), (0.1, 1e-8, 8)])
def test_least_n_where_the_logarithms_are_off_by_an_ulp(missed, delta, n):
    assert math.log(delta) / math.log(missed) == pytest.approx(n, abs=1e-14)
    pi = jnp.array([[1 - missed, missed]])
    assert float(least_n(pi, jnp.ones(1), eps=0.5, delta=delta)) == n


def test_least_n_where_nothing_and_where_everything_is_asked():
    pi, mu = jnp.array([[0.75, 0.25], [1.0, 0.0]]), jnp.array([0.5, 0.5])
    assert float(least_n(pi, mu, eps=1.0, delta=1e-9)) == 1.0
    assert float(least_n(pi, mu, eps=0.5, delta=1e-9)) == 1.0
    assert float(least_n(pi, mu, eps=1e-12, delta=0.25)) == 1.0
    assert float(least_n(pi, mu, eps=1e-12, delta=0.24)) == 2.0


@pytest.mark.parametrize("eps", [0.5, 0.01, 1e-6])
def test_prompts_needed_is_the_least_that_the_proof_allows(eps):
    found = laws.prompts_needed(class_size=1000, rho=0.05, delta=0.1, eps=eps)
    term = lambda n: 2 * math.log(1000 / 0.05) / ((1 - 2**-0.5) ** 2 * 0.1 * n)
    assert term(float(found)) <= eps < term(float(found) - 1)


@jax.jit
def every_law(pi, n):
    adaptive = laws.adaptive_law(pi, mu_threshold=3.37)
    return {
        "best_of_n": laws.best_of_n_law(pi, pi, n=n),
        "adaptive response": adaptive.response,
        "adaptive mean": adaptive.mean_draws,
    }


def test_gradients_are_finite_at_zeros_and_ties():
    jacobian = jax.jit(jax.jacrev(every_law))
    for n in (1.0, 7.0, 1e9):
        for name, gradient in jacobian(table([*ROWS, *EXTREME]), n).items():
            assert np.isfinite(gradient).all(), name
            assert np.any(gradient != 0), name


def test_gradients_are_right_in_the_interior():
    here = jnp.array([[0.4, 0.3, 0.2, 0.1], [0.05, 0.15, 0.62, 0.18]])
    along = jnp.array([[3.0, -1.0, 2.0, -4.0], [1.0, -2.0, 4.0, -3.0]])
    value, step = lambda pi: every_law(pi, 7.0), 1e-6
    ahead, behind = value(here + step * along), value(here - step * along)
    for name, slope in jax.jvp(value, (here,), (along,))[1].items():
        expected = (ahead[name] - behind[name]) / (2 * step)
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_laws_may_be_mapped():
    pi, counts = table(ROWS), jnp.array([1.0, 3.0, 1e6])
    law = lambda n: best_of_n_law(pi, pi, n=n)
    one_by_one = [law(n) for n in counts]
    np.testing.assert_allclose(jax.vmap(law)(counts), one_by_one, rtol=1e-12)


def test_single_precision_is_refused():
    pi = table(ROWS).astype(jnp.float32)
    with pytest.raises(TypeError, match="best_of_n_law: theory needs float64"):
        laws.best_of_n_law(pi, pi, n=2)
    with pytest.raises(TypeError, match="adaptive_law: theory needs float64"):
        laws.adaptive_law(pi, mu_threshold=1.0)
