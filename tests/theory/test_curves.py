"""The curves against the closed forms of their two-prompt instance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import curves, quantities
from theory.laws import best_of_n_law

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
