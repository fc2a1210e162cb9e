"""Every quantity against its definition, written out again in exact rationals."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, rel_entr

from theory import quantities as q

EXACT = 1e-13  # relative: float64 sums of a handful of terms


def rational_rows(seed, prompts, responses, denominator=16):
    """Rows of multiples of 1/denominator, exact in float64, with ties and zeros."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(prompts):
        cuts = np.sort(rng.integers(0, denominator + 1, responses - 1))
        parts = np.diff([0, *cuts, denominator])
        rows.append([Fraction(int(part), denominator) for part in parts])
    return rows


def table(rows):
    return jnp.array([[float(value) for value in row] for row in rows])


def maximising(row, gamma):
    return [y for y, p in enumerate(row) if p >= (1 - gamma) * max(row)]


BASE = rational_rows(1, 6, 4)
POLICY = rational_rows(2, 6, 4)
MU = [Fraction(k, 16) for k in (1, 3, 0, 4, 6, 2)]  # prompt 2 is off supp(mu)


@pytest.fixture
def pi():
    return table(BASE)


@pytest.fixture
def pihat():
    return table(POLICY)


@pytest.fixture
def mu():
    return jnp.array([float(weight) for weight in MU])


def mean(values):
    return sum(weight * value for weight, value in zip(MU, values, strict=True))


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 4), Fraction(1, 2)])
def test_maximisers_and_mass(pi, gamma):
    members = q.maximisers(pi, gamma=float(gamma))
    assert [list(np.flatnonzero(row)) for row in np.asarray(members)] == [
        maximising(row, gamma) for row in BASE
    ]
    expected = [sum(row[y] for y in maximising(row, gamma)) for row in BASE]
    np.testing.assert_array_equal(q.mass(pi, members), [float(e) for e in expected])


def test_maximisers_include_every_exact_tie():
    row = jnp.array([[0.4, 0.1, 0.4, 0.1]])
    np.testing.assert_array_equal(q.maximisers(row), [[True, False, True, False]])


def test_a_response_at_the_threshold_is_not_lost_to_rounding():
    """0.8 * 0.05 exceeds 0.04 in floats; on paper 0.04 is in Y*_g, C_cov,g = 1/0.09."""
    row = jnp.array([[0.05, 0.04] + [0.0182] * 50])
    assert list(np.flatnonzero(q.maximisers(row, gamma=0.2))) == [0, 1]
    cover = q.coverage(row, jnp.ones(1), gamma=0.2)
    np.testing.assert_allclose(cover, 1 / 0.09, rtol=1e-12)


def test_the_slack_of_the_threshold_is_only_rounding_and_none_at_gamma_zero():
    row = jnp.array([[0.5, 0.5 * (1 - 1e-15), 0.4 * (1 - 1e-11)]])
    for gamma in (0.0, jnp.asarray(0.0)):
        assert list(np.flatnonzero(q.maximisers(row, gamma=gamma))) == [0]
    assert list(np.flatnonzero(q.maximisers(row, gamma=0.2))) == [0, 1]


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 2)])
@pytest.mark.parametrize("p", [1, 2, 5])
def test_coverage(pi, mu, gamma, p):
    masses = [sum(row[y] for y in maximising(row, gamma)) for row in BASE]
    expected = float(mean([1 / m**p for m in masses])) ** (1 / p)
    found = q.coverage(pi, mu, gamma=float(gamma), p=float(p))
    np.testing.assert_allclose(found, expected, rtol=EXACT)


def test_coverage_counts_the_mass_of_ties_and_coverage_bar_does_not():
    row, one = jnp.array([[0.25, 0.25, 0.25, 0.25]]), jnp.ones(1)
    assert float(q.coverage(row, one)) == 1.0
    assert float(q.coverage_bar(row, one)) == 4.0


def test_coverage_bar(pi, mu):
    expected = float(mean([1 / max(row) for row in BASE]))
    np.testing.assert_allclose(q.coverage_bar(pi, mu), expected, rtol=EXACT)


def test_coverage_at_large_p_tends_to_the_worst_prompt():
    row = jnp.array([[0.01] + [0.99 / 99] * 99, [1.0] + [0.0] * 99])
    row = row.at[0, 0].add(1e-6)
    weights = jnp.array([0.5, 0.5])
    found = float(q.coverage(row, weights, p=1e4))
    worst = 1.0 / float(row[0, 0])
    assert found == pytest.approx(worst * 0.5**1e-4, rel=1e-12)


def test_coverages_are_ordered():
    rows = table(rational_rows(3, 200, 5))
    for gamma in (0.1, 0.5, 0.9):
        for x in range(0, 200, 20):
            some, one = rows[x : x + 20], jnp.full(20, 0.05)
            near, exact = q.coverage(some, one, gamma=gamma), q.coverage(some, one)
            ordered = [1.0, near, exact, q.coverage_bar(some, one)]
            assert np.all(np.diff(ordered) >= -EXACT)


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1, 2)])
def test_fractions(pi, pihat, mu, gamma):
    off = [
        1 - sum(new[y] for y in maximising(row, gamma))
        for new, row in zip(POLICY, BASE, strict=True)
    ]
    for delta in sorted({*off, Fraction(1, 64), Fraction(1, 3)} - {0}):
        goal = {"delta": float(delta), "gamma": float(gamma)}
        sharpened = float(mean([int(1 - o >= 1 - delta) for o in off]))
        failed = float(mean([int(1 - o <= 1 - delta) for o in off]))
        assert float(q.sharpened_fraction(pihat, pi, mu, **goal)) == sharpened
        assert float(q.failure_fraction(pihat, pi, mu, **goal)) == failed


def test_sharpened_fraction_keeps_a_delta_below_float_epsilon():
    base, one = jnp.array([[0.6, 0.4]]), jnp.ones(1)
    policy = jnp.array([[1.0, 1e-20]])
    assert float(q.sharpened_fraction(policy, base, one, delta=2e-20)) == 1.0
    assert float(q.sharpened_fraction(policy, base, one, delta=5e-21)) == 0.0


def test_a_tie_with_delta_survives_rounding():
    policy, base = jnp.array([[0.7, 0.1, 0.2]]), jnp.array([[0.6, 0.2, 0.2]])
    assert 0.1 + 0.2 > 0.3
    assert float(q.sharpened_fraction(policy, base, jnp.ones(1), delta=0.3)) == 1.0


def concentrability(new, ref, beta):
    if any(a > 0 and b == 0 for a, b in zip(new, ref, strict=True)):
        return math.inf
    pairs = zip(new, ref, strict=True)
    return sum(float(a) * float(a / b) ** beta for a, b in pairs if a > 0)


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0, 2.0])
def test_concentrability(pihat, mu, beta):
    full = [[(p + Fraction(1, 4)) / 2 for p in row] for row in BASE]
    base = table(full)
    expected = sum(
        float(w) * concentrability(a, b, beta)
        for w, a, b in zip(MU, POLICY, full, strict=True)
    )
    found = q.concentrability_beta(pihat, base, mu, beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    logs = q.log_probability(pihat), q.log_probability(base)
    found = q.concentrability_beta_log(*logs, mu, beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if beta == 1.0:
        assert float(q.concentrability(pihat, base, mu)) == pytest.approx(
            expected, rel=1e-12
        )


@pytest.mark.parametrize("log", [False, True])
def test_concentrability_at_zeros(log):
    p = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    ref = jnp.array([[0.5, 0.0, 0.5], [0.5, 0.0, 0.5]])

    def found(weights):
        if not log:
            return float(q.concentrability_beta(p, ref, weights, beta=1.0))
        logs = q.log_probability(p), q.log_probability(ref)
        return float(q.concentrability_beta_log(*logs, weights, beta=1.0))

    assert found(jnp.array([0.5, 0.5])) == math.inf  # prompt 0 escapes the support
    assert found(jnp.array([0.0, 1.0])) == 2.0  # and does not count off supp(mu)


def test_margin_is_the_largest_that_satisfies_the_assumption(pi, mu):
    rivals = [
        (max(row), p)
        for row, weight in zip(BASE, MU, strict=True)
        for p in row
        if weight > 0 and 0 < p < max(row)
    ]
    largest = min(top / p - 1 for top, p in rivals)
    np.testing.assert_allclose(q.margin(pi, mu), float(largest), rtol=EXACT)
    assert all(top >= (1 + largest) * p for top, p in rivals)


@pytest.mark.parametrize(
    "row", [[0.25] * 4, [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
)
def test_margin_is_infinite_without_rivals(row):
    assert float(q.margin(jnp.array([row]), jnp.ones(1))) == math.inf


def test_margin_of_a_near_tie_keeps_its_digits():
    row = jnp.array([[0.5, 0.5 - 2.0**-40, 2.0**-40]])
    exact = Fraction(1, 2) / (Fraction(1, 2) - Fraction(1, 2**40)) - 1
    assert float(q.margin(row, jnp.ones(1))) == pytest.approx(float(exact), rel=EXACT)


def test_approximate_margin_compares_the_mass_of_the_set(pi, mu):
    gamma, ratios = Fraction(1, 4), []
    for row, weight in zip(BASE, MU, strict=True):
        near = maximising(row, gamma)
        total = sum(row[y] for y in near)
        others = [p for y, p in enumerate(row) if y not in near and p > 0]
        ratios += [total / p - 1 for p in others if weight > 0]
    found = q.approximate_margin(pi, mu, gamma=0.25)
    np.testing.assert_allclose(found, float(min(ratios)), rtol=EXACT)
    everything = jnp.array([[0.4, 0.3, 0.3]])
    assert float(q.approximate_margin(everything, jnp.ones(1), gamma=0.5)) == math.inf


def test_margins_on_a_table_done_by_hand():
    """Prompt 0 has two near-maximisers; prompt 1 has less margin, if it is drawn."""
    pi = jnp.array([[6.0, 5.0, 3.0, 2.0], [8.0, 7.0, 1.0, 0.0]]) / 16
    never, often = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    assert float(q.margin(pi, never)) == pytest.approx(6 / 5 - 1, rel=EXACT)
    assert float(q.margin(pi, often)) == pytest.approx(8 / 7 - 1, rel=EXACT)
    near = lambda mu, gamma: float(q.approximate_margin(pi, mu, gamma=gamma))
    assert near(never, 0.1) == pytest.approx(6 / 5 - 1, rel=EXACT)
    assert near(often, 0.1) == pytest.approx(8 / 7 - 1, rel=EXACT)
    assert near(often, 0.25) == pytest.approx((6 + 5) / 3 - 1, rel=EXACT)


def test_self_rewards():
    row = jnp.array([[0.5, 0.25, 0.25, 0.0]])
    log = [math.log(0.5), math.log(0.25), math.log(0.25), -math.inf]
    np.testing.assert_allclose(q.log_probability(row)[0], log, rtol=1e-15)
    lengths = jnp.array([[1, 2, 5, 3]])
    np.testing.assert_allclose(
        q.length_normalised(row, lengths)[0], np.array(log) / [1, 2, 5, 3], rtol=1e-15
    )
    answers = jnp.array([[7, 3, 3, 7]])
    np.testing.assert_array_equal(q.majority_mass(row, answers), [[0.5, 0.5, 0.5, 0.5]])


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.5, 1.0, 100.0])
def test_pi_star_beta_against_sixty_digits(beta):
    rows = [
        [0.5, 0.5 - 2.0**-30, 2.0**-30, 0.0],
        [0.25, 0.25, 0.25, 0.25],
        [1e-300, 1.0, 1e-5, 0.0],
        [0.4, 0.35, 0.25, 0.0],
    ]
    found = np.asarray(q.pi_star_beta(jnp.array(rows), beta=beta))
    logs = np.asarray(q.log_pi_star_beta(jnp.array(rows), beta=beta))
    with localcontext() as context:
        context.prec, context.Emin = 60, -(10**9)
        power = 1 + 1 / Decimal(beta)
        for x, row in enumerate(rows):
            weights = [Decimal(p) ** power if p else Decimal(0) for p in row]
            for y, weight in enumerate(weights):
                exact = weight / sum(weights)
                assert found[x, y] == pytest.approx(float(exact), rel=1e-11, abs=1e-300)
                if exact:
                    assert logs[x, y] == pytest.approx(float(exact.ln()), rel=1e-11)
                else:
                    assert logs[x, y] == -math.inf


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0, 20.0])
def test_tilt_against_scipy(pi, beta):
    reward = jnp.array(np.random.default_rng(4).normal(size=pi.shape))
    with np.errstate(divide="ignore"):
        logits = np.log(np.asarray(pi)) + np.asarray(reward) / beta
    expected = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(q.tilt(pi, reward, beta=beta), expected, rtol=1e-12)


def test_tilt_by_the_log_probability_is_pi_star_beta(pi):
    for beta in (0.05, 1.0, 7.0):
        tilted = q.tilt(pi, q.log_probability(pi), beta=beta)
        expected = q.pi_star_beta(pi, beta=beta)
        np.testing.assert_allclose(tilted, expected, rtol=1e-12, atol=1e-300)


def test_tilt_shuns_forbidden_responses_and_ignores_rewards_off_the_base():
    base = jnp.array([[0.5, 0.5, 0.0]])
    tilted = q.tilt(base, jnp.array([[0.0, -jnp.inf, 1e6]]), beta=1e-3)
    np.testing.assert_array_equal(tilted, [[1.0, 0.0, 0.0]])


def test_kl_against_scipy_and_its_infinities(pi, pihat):
    full = (pi + 0.25) / 2
    expected = rel_entr(np.asarray(pihat), np.asarray(full)).sum(axis=1)
    np.testing.assert_allclose(q.kl(pihat, full), expected, rtol=1e-12, atol=1e-15)
    logs = q.log_probability(pihat), q.log_probability(full)
    np.testing.assert_allclose(q.kl_log(*logs), expected, rtol=1e-12, atol=1e-15)
    p, ref = jnp.array([[0.5, 0.5], [1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.5, 0.5]])
    both = [math.inf, math.log(2)]
    np.testing.assert_allclose(q.kl(p, ref), both, rtol=1e-15)
    logs = q.log_probability(p), q.log_probability(ref)
    np.testing.assert_allclose(q.kl_log(*logs), both, rtol=1e-15)


@pytest.mark.parametrize("beta", [1e-4, 0.1, 1.0, 10.0])
def test_regret_is_a_kl(pi, pihat, mu, beta):
    """J_beta(pi*_beta) - J_beta(pi) = beta E_mu KL(pi||pi*_beta) (section 2)."""
    base = (pi + 0.25) / 2
    reward = q.log_probability(base)
    log_tilted = q.log_pi_star_beta(base, beta=beta)
    gain = q.objective(jnp.exp(log_tilted), base, reward, mu, beta=beta)
    gain -= q.objective(pihat, base, reward, mu, beta=beta)
    distance = q.expectation(mu, q.kl_log(q.log_probability(pihat), log_tilted))
    assert float(gain) > 0.01  # so that the identity is not 0 = 0
    np.testing.assert_allclose(gain, beta * distance, rtol=1e-11)


def test_objective_is_its_definition(pi, pihat, mu):
    reward, beta = jnp.array(np.random.default_rng(5).normal(size=pi.shape)), 0.7
    base = (pi + 0.25) / 2
    weights = np.asarray(mu)[:, None] * np.asarray(pihat)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(np.asarray(pihat) / np.asarray(base))
    payoff = np.asarray(reward) - beta * np.where(weights > 0, log_ratio, 0.0)
    found = q.objective(pihat, base, reward, mu, beta=beta)
    np.testing.assert_allclose(found, (weights * payoff).sum(), rtol=1e-12)


def test_hellinger_has_no_factor_one_half():
    p = jnp.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [1e-300, 1.0]])
    other = jnp.array([[0.0, 1.0], [0.5, 0.5], [0.75, 0.25], [0.0, 1.0]])
    cross = 2 - 4 * math.sqrt(3 / 16)  # 2 - 2 sum sqrt(p q)
    np.testing.assert_allclose(
        q.hellinger_squared(p, other), [2.0, 0.0, cross, 1e-300], rtol=1e-14
    )


def test_expectation_ignores_what_mu_never_draws():
    found = q.expectation(jnp.array([0.0, 1.0]), jnp.array([jnp.inf, 3.0]))
    assert float(found) == 3.0


def test_quantities_may_be_mapped_and_compiled(pi, pihat, mu):
    stack = jnp.stack([pi, pihat])
    found = jax.jit(jax.vmap(q.coverage, in_axes=(0, None)))(stack, mu)
    one_by_one = [q.coverage(table, mu) for table in stack]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-15)


def test_the_random_tables_hold_the_hard_cases():
    """Zeros, ties and prompts off supp(mu) are in the oracle's data, not hoped for."""
    flat = list(itertools.chain.from_iterable(BASE))
    assert Fraction(0) in flat
    assert any(len(maximising(row, Fraction(1, 2))) > 1 for row in BASE)
    assert 0 in MU
