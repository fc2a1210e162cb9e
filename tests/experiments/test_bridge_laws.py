"""The bridge's laws: by enumeration, by scipy, by the laws on tables."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.bridge import laws
from jsharp.stats import loglog_slope
from theory import quantities
from theory.laws import best_of_n_law
from theory.prices import found_by

MASS = np.array([0.07, 0.3, 0.12, 0.95, 0.5])


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def pi():
    """Rows of one mode each."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(7), 5)
    assert (np.sort(table, 1)[:, -1] > np.sort(table, 1)[:, -2]).all()
    return table


def test_coverage_is_that_of_the_table(pi):
    mu = np.full(len(pi), 1 / len(pi))
    assert laws.coverage(pi.max(1)) == pytest.approx(
        float(quantities.coverage(jnp.asarray(pi), jnp.asarray(mu))), rel=1e-12
    )


@pytest.mark.parametrize("draws", [1, 2, 7, 64])
def test_best_of_n_is_the_mode_by_the_mass_of_the_mode_alone(pi, draws):
    table = jnp.asarray(pi)
    law = np.asarray(best_of_n_law(table, table, n=draws))
    np.testing.assert_allclose(
        found_by(pi.max(1), draws), law[np.arange(5), pi.argmax(1)]
    )


@pytest.mark.parametrize("delta", [1.9, 0.9, 0.1])
def test_the_adaptive_law_is_that_of_draws_one_at_a_time(pi, delta):
    ordered = -np.sort(-pi, 1)
    found = laws.adaptive(np.log(ordered), delta=delta)
    rng, mu, runs = np.random.default_rng(0), math.log(2 / delta), 4000
    for row, on_mode, draws in zip(ordered, *found, strict=True):
        y = rng.choice(len(row), (runs, 200), p=row)
        top = np.maximum.accumulate(row[y], axis=1)
        stop = (1 / top <= np.arange(1, 201) / mu).argmax(1)
        kept = top[np.arange(runs), stop] == row[0]
        # Five standard errors, of which that of a share is at most 1/2.
        assert abs(kept.mean() - on_mode) < 5 * 0.5 / math.sqrt(runs)
        error = (stop + 1).std() / math.sqrt(runs)
        assert abs((stop + 1).mean() - draws) <= 5 * error + 1e-9


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_the_count_of_successes_is_that_of_all_outcomes(trials):
    each = np.repeat(MASS[:4], trials)
    found = np.zeros(len(each) + 1)
    for outcome in itertools.product((0, 1), repeat=len(each)):
        won = np.array(outcome, bool)
        found[won.sum()] += np.prod(np.where(won, each, 1 - each))
    np.testing.assert_allclose(laws.successes(MASS[:4], trials), found, atol=1e-15)
    by_scipy = scipy.stats.poisson_binom(each).pmf(np.arange(len(each) + 1))
    np.testing.assert_allclose(found, by_scipy, atol=1e-12)


def test_a_p_value_is_below_u_with_probability_at_most_u():
    law = laws.successes(MASS, 6)
    p = np.array([laws.two_sided(law, k) for k in range(len(law))])
    for u in np.unique(p):
        assert law[p <= u].sum() <= u + 1e-12
    assert p.max() == 1 and p[0] < 1e-3 and p[-1] < 1e-3


def drawn(seed: int, mass: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and membership of n draws: the mode scores above everything else."""
    rng = np.random.default_rng(seed)
    member = rng.random((len(mass), n)) < mass[:, None]
    return np.where(member, 0.0, -1 - rng.random(member.shape)), member


@pytest.mark.parametrize("k, trials", [(1, 7), (2, 3), (3, 2), (7, 1)])
def test_blocks_are_disjoint_and_their_best_is_counted(k, trials):
    score, member = drawn(0, MASS, 7)
    found = laws.blocks(score, member, MASS, k)
    won = [member[b, k * t : k * t + k].any() for b in range(5) for t in range(trials)]
    assert found.count == sum(won) and found.trials == trials
    law = scipy.stats.poisson_binom(np.repeat(1 - (1 - MASS) ** k, trials))
    tails = law.cdf(sum(won)), law.sf(sum(won) - 1)
    assert found.p_value == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)


def test_the_best_is_by_score_and_not_by_membership():
    score, member = drawn(0, MASS, 8)
    assert (
        laws.blocks(-score, member, MASS, 8).count
        < laws.blocks(score, member, MASS, 8).count
    )


def test_the_law_is_kept_and_planted_faults_are_refused():
    mass = np.random.default_rng(1).uniform(0.05, 0.2, 128)
    score, member = drawn(2, mass, 64)
    sizes = (1, 2, 4, 8, 16, 32, 64)
    least = lambda law, q: min(
        laws.blocks(score, member, q, k, law_of=law(k)).p_value for k in sizes
    )
    assert least(lambda k: k, mass) > 0.01 / len(sizes)
    assert least(lambda k: k + 1, mass) < 1e-6
    assert least(lambda k: k, 1.15 * mass) < 1e-3


@pytest.mark.parametrize("delta", [0.5, 0.01])
def test_the_term_of_draws_bounds_what_a_perfect_fit_misses(delta):
    """Thm 4.1' without its statistical term, by its exact left side."""
    for draws in (1, 3, 10, 100, 1000):
        missed = (found_by(MASS, draws) <= 1 - delta).mean()
        term = laws.coverage_term(laws.coverage(MASS), draws, delta=delta)
        assert missed <= term <= 1
    assert laws.coverage_term(5.0, 100, delta=0.5) == pytest.approx(
        5 * math.log(4) / 100
    )


def test_one_slope_for_all_rows_is_that_of_a_regression_with_dummies():
    rng = np.random.default_rng(3)
    n = np.array([[64.0, 256.0, 1024.0], [1.0, 5.0, 9.0], [10.0, 20.0, 80.0]])
    y = (
        np.array([[2.0], [5.0], [0.3]])
        * n**-0.7
        * np.exp(0.1 * rng.normal(size=(3, 3)))
    )
    found = laws.common_slope(n, np.stack([y, 2 * y, n**0.5]))
    design = np.hstack([np.log(n).reshape(-1, 1), np.kron(np.eye(3), np.ones((3, 1)))])
    beta = np.linalg.lstsq(design, np.log(y).ravel(), rcond=None)[0]
    np.testing.assert_allclose(found, [beta[0], beta[0], 0.5])


def test_the_slope_of_one_row_is_the_known_one():
    x, y = np.array([1.0, 3.0, 9.0, 20.0]), np.array([1.0, 0.5, 0.1, 0.2])
    found = laws.common_slope(x[None], y[None])
    np.testing.assert_allclose(found, loglog_slope(x, y, level=0.1).slope)


def test_what_has_no_power_is_refused():
    n = np.array([[1.0, 4.0, 16.0]])
    with pytest.raises(ValueError, match="positive"):
        laws.common_slope(n, n - 4)


def test_the_distance_is_below_that_of_the_whole_laws():
    """Data processing, on laws of six responses of which two are in Y*."""
    rng = np.random.default_rng(4)
    p, q = rng.dirichlet(np.ones(6), (2, 500))
    whole = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(-1)
    found = laws.distance(p[:, :2].sum(-1), q[:, :2].sum(-1))
    assert (found <= whole + 1e-12).all() and (found > 0).all()
    two = laws.distance(p[:, 0], q[:, 0])
    coins = [np.stack([x[:, 0], 1 - x[:, 0]], -1) for x in (p, q)]
    np.testing.assert_allclose(
        two, ((np.sqrt(coins[0]) - np.sqrt(coins[1])) ** 2).sum(-1)
    )


def test_the_distance_of_an_exact_fit_falls_as_the_theorem_s_rate():
    """A coin of 999 known ones by maximum likelihood: 1/n, where the masses' own
    difference falls as its root. The exact mean over all counts: no draw is made."""
    members, truth = np.linspace(0.001, 0.999, 999), 0.7
    n = np.array([[64, 256, 1024]])
    distances, differences = [], []
    for size in n[0]:
        count = np.arange(size + 1)[:, None]
        best = (count * np.log(members) + (size - count) * np.log1p(-members)).argmax(1)
        law = scipy.stats.binom.pmf(count[:, 0], size, truth)
        distances.append(law @ laws.distance(members[best], truth))
        differences.append(law @ np.abs(members[best] - truth))
    rate = laws.common_slope(n.astype(float), np.array([distances]))
    assert rate == pytest.approx(-1.0, abs=0.05)
    slow = laws.common_slope(n.astype(float), np.array([differences]))
    assert slow == pytest.approx(-0.5, abs=0.05)
