"""The curves against the closed forms of their two-prompt instance."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import curves, quantities
from theory.laws import best_of_n_law
from theory.mle import cells, log_exceedance

C_COV, DELTA, CLASS_SIZE, RHO = 10.0, 0.1, 1000.0, 0.05
EPS = np.geomspace(0.2, 0.005, 6)


@pytest.fixture(scope="module")
def curve():
    with jax.enable_x64(True):
        return curves.queries_against_eps(
            jnp.array(EPS), c_cov=C_COV, delta=DELTA, class_size=CLASS_SIZE, rho=RHO
        )


def test_coverage_is_constant(curve):
    np.testing.assert_allclose(curve.coverage, C_COV, rtol=1e-12)


def test_hard_instance_is_a_table_with_the_asked_coverage():
    pi, mu = curves.hard_instance(0.05, c_cov=C_COV, responses=300)
    np.testing.assert_allclose(pi.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(mu, [0.9, 0.1], rtol=1e-14)
    np.testing.assert_array_equal(np.flatnonzero(quantities.maximisers(pi)), [0, 300])
    top, others = np.asarray(pi[1, 0]), np.asarray(pi[1, 1:])
    np.testing.assert_allclose(others[others > 0], top / 2, rtol=0.02)


def test_fixed_cost_is_the_proof_with_the_exact_law(curve):
    constant = 2 * math.log(CLASS_SIZE / RHO) / (1 - 2**-0.5) ** 2
    for eps, n, draws, m in zip(EPS, *curve.fixed, strict=True):
        assert n == math.ceil(constant / (DELTA * eps / 2))
        q = 2 * eps / (C_COV - 1 + 2 * eps)
        # N is the least whose best-of-N misses y_0 on the hard prompt below delta/2.
        assert (1 - q) ** float(draws) <= DELTA / 2 < (1 - q) ** (float(draws) - 1)
        assert m == n * draws


def test_fixed_n_may_fail_on_half_of_eps_only():
    """A hard prompt of weight 0.75 eps must be answered: half of eps is the fit's."""
    pi = jnp.asarray([[1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
    goals = {"delta": DELTA, "class_size": CLASS_SIZE, "rho": RHO}
    cost = curves.fixed_cost(pi, jnp.asarray([0.925, 0.075]), eps=0.1, **goals)
    assert 0.6 ** float(cost.N) <= DELTA / 2 < 0.6 ** (float(cost.N) - 1)


def test_adaptive_cost_is_the_proof_with_the_exact_mean(curve):
    constant = 2 * math.log(CLASS_SIZE / RHO) / (1 - 2**-0.5) ** 2
    mu_threshold = math.log(2 / DELTA)
    for eps, n, draws, m in zip(EPS, *curve.adaptive, strict=True):
        assert n == math.ceil(constant / (DELTA * eps))
        hard = 2 * eps
        q = hard / (C_COV - 1 + hard)
        others = (1 - q) / (math.ceil(2 / q) - 1)
        first, last = math.ceil(mu_threshold / q), math.ceil(mu_threshold / others)
        survived = np.where(np.arange(last) < first, 1.0, (1 - q) ** np.arange(last))
        mean = (1 - hard) * math.ceil(mu_threshold) + hard * survived.sum()
        assert float(draws) == pytest.approx(mean, rel=1e-10)
        assert float(m) == pytest.approx(float(n) * mean, rel=1e-10)
        assert draws <= (1 + mu_threshold) * C_COV  # Thm D.1, Cbar_cov = C_cov here


def test_slopes_are_those_of_the_theorems(curve):
    log_eps = np.log(EPS)
    for cost, slope in (
        (curve.fixed, curves.FIXED_SLOPE),
        (curve.adaptive, curves.ADAPTIVE_SLOPE),
    ):
        # Rounding n and N up moves log m by at most 1/n + 1/N; the coverage's own h in
        # q = h/(C-1+h) by 2 eps/(C-1). Over the whole range that bends the slope by:
        slack = (1 / cost.n + 1 / cost.N + 2 * EPS / (C_COV - 1)).max()
        bend = 2 * slack / (log_eps[0] - log_eps[-1])
        found = np.polyfit(log_eps, np.log(cost.m), 1)[0]
        assert abs(found - slope) < bend < 0.1


def test_costs_are_what_the_guarantee_asks(curve):
    """At the printed N the law of best-of-N is sharpened, and not at N - 1."""
    eps, draws = EPS[2], float(curve.fixed.N[2])
    pi, mu = curves.hard_instance(float(eps), c_cov=C_COV, responses=300)

    @jax.jit
    def fraction(n):
        law = best_of_n_law(pi, pi, n=n)
        return quantities.sharpened_fraction(law, pi, mu, delta=DELTA / 2)

    assert float(fraction(draws - 1)) < 1 - eps / 2 <= float(fraction(draws))


@pytest.mark.parametrize(("eps", "c_cov"), [(0.0, 10.0), (0.5, 10.0), (0.1, 1.0)])
def test_grids_off_the_instance_are_refused(eps, c_cov):
    with pytest.raises(ValueError, match=r"expected eps in \(0, 1/2\) and c_cov > 1"):
        curves.queries_against_eps(
            jnp.array([0.1, eps]),
            c_cov=c_cov,
            delta=DELTA,
            class_size=CLASS_SIZE,
            rho=RHO,
        )


# ---- What is needed: the laws of `confusion` and `private_confusion`


def enumerated(truth, mu, rivals, n):
    """P[ some rival is as likely as the truth ], over all data, by `theory.mle`."""
    members = np.stack([truth, *rivals])
    loss = np.r_[0.0, np.ones(len(rivals))]
    found = cells(truth, mu, members)
    return float(np.exp(log_exceedance(loss, np.ones(1), found, n=n))[0])


def leaning_class(coins, miss, rivals):
    """The tables of `Rivals`: 2^d right answers on the easy prompt, one wrong one."""
    a, delta = rivals.lean, rivals.delta
    sides = np.array(list(itertools.product([-1, 1], repeat=coins)))
    wide = max(2**coins, 2)
    pad = lambda row: np.pad(row, (0, wide - len(row)))
    even = np.full(2**coins, 0.5**coins)
    truth = np.stack([pad(even), pad(np.array([1 - miss, miss]))])
    wrong = pad(np.array([1 - delta, delta]))
    leaning = [np.stack([pad((0.5 + a * s * sides).prod(-1)), wrong]) for s in sides]
    return truth, [np.stack([pad(even), wrong]), *leaning]


@pytest.mark.parametrize(("coins", "n"), [(1, 30), (1, 31), (2, 9)])
@pytest.mark.parametrize("miss", [0.15, 0.02, 0.0])
def test_confusion_is_the_enumeration_of_all_data(coins, n, miss):
    rivals = curves.Rivals(coins, hard=0.4, delta=0.3)
    truth, others = leaning_class(coins, miss, rivals)
    assert len(others) + 1 == rivals.class_size
    found = curves.confusion(n, miss=miss, rivals=rivals)
    expected = enumerated(truth, np.array([0.6, 0.4]), others, n)
    assert found == pytest.approx(expected, rel=1e-9)
    assert 0 < found < 1


@pytest.mark.parametrize(("count", "n"), [(1, 60), (2, 12), (3, 7)])
@pytest.mark.parametrize("miss", [0.15, 0.0])
def test_private_confusion_is_the_enumeration_of_all_data(count, n, miss):
    hard, delta = 0.25, 0.3
    row = lambda off: np.array([1 - off, off])
    truth = np.stack([row(0.0)] + [row(miss)] * count)
    rivals = [truth.copy() for _ in range(count)]
    for k, rival in enumerate(rivals):
        rival[k + 1] = row(delta)
    mu = np.array([1 - count * hard] + [hard] * count)
    found = curves.private_confusion(n, miss=miss, hard=hard, delta=delta, count=count)
    assert found == pytest.approx(enumerated(truth, mu, rivals, n), rel=1e-9)
    assert 0 < found < 1


def test_an_unsharpened_truth_always_fails():
    rivals = curves.Rivals(1, hard=0.2, delta=0.1)
    assert curves.confusion(10**6, miss=0.1, rivals=rivals) == 1.0
    same = {"miss": 0.1, "hard": 0.2, "delta": 0.1, "count": 1}
    assert curves.private_confusion(10**6, **same) == 1.0
    with pytest.raises(ValueError, match="expected 0 < K h <= 1, found K = 6"):
        curves.private_confusion(9, **(same | {"count": 6}))


def test_majorities_by_enumeration_of_coins():
    """Three coins, five throws: 2^15 outcomes."""
    throws = np.array(list(itertools.product([0, 1], repeat=5))).sum(-1)
    one = np.maximum(throws, 5 - throws)
    total = (one[:, None, None] + one[:, None] + one).ravel()
    least = np.arange(8, 18)
    found = curves.majorities(least, np.full(10, 5), coins=3)
    expected = [(total >= w).mean() for w in least]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("coins", [1, 4])
def test_the_lean_loses_on_the_easy_prompt_what_the_hard_one_shows(coins):
    rivals = curves.Rivals(coins, hard=0.1, delta=0.2)
    sides = np.array([0.5 - rivals.lean, 0.5 + rivals.lean])
    divergence = coins * (0.5 * np.log(0.5 / sides)).sum()
    assert 0.9 * divergence == pytest.approx(-0.1 * math.log(0.8))


def test_least_prompts_finds_the_crossing():
    assert curves.least_prompts(lambda n: 0.9**n, rho=0.05) == 29  # 0.9^29 = 0.047
    assert curves.least_prompts(lambda n: 0.0, rho=0.05) == 1
    with pytest.raises(ValueError, match=r"expected failure\(n\) <= 0.05"):
        curves.least_prompts(lambda n: 1.0, rho=0.05)


def test_tied_answers_cost_the_adaptive_rule_and_not_the_fixed_one():
    """Two right answers on the easy prompt: 1/max pi_base is 2 there, C_cov is not."""
    goals = curves.Goals(*(jnp.array([v]) for v in (0.05, 10.0, 0.1, 4.0)))
    found = curves.queries(goals, rho=RHO, ties=2)
    q = 0.1 / 9.1
    assert float(found.coverage[0]) == pytest.approx(10.0)
    assert float(found.fixed.N[0]) == math.ceil(math.log(0.05) / math.log1p(-q))
    # ceil(2 mu) draws on the easy prompt and, on the hard one, k_1 = ceil(mu/q), and
    # after that until y_0 shows up or any other is accepted, at ceil(mu/p).
    threshold, p = math.log(20), (1 - q) / (math.ceil(2 / q) - 1)
    first, last = math.ceil(threshold / q), math.ceil(threshold / p)
    late = sum((1 - q) ** k for k in range(first, last))
    mean = 0.9 * math.ceil(2 * threshold) + 0.1 * (first + late)
    assert float(found.adaptive.N[0]) == pytest.approx(mean)
    assert float(found.adaptive_miss[0]) == pytest.approx((1 - q) ** last)
