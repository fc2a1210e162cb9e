"""The hard family's exact optimum: enumeration, rationals and linear programs."""

import itertools
import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from levels import LEVEL

from theory.claim import compiled
from theory.families import as_float, compositions, hard_family
from theory.laws import adaptive_law, best_of_n_law
from theory.minimax import (
    COUNTS,
    Hard,
    adaptive_draws,
    adaptive_frontier,
    adaptive_optimum,
    adaptive_sft_optimum,
    bayes_error,
    best_of_n_mass,
    collects_all,
    fixed_error,
    fixed_optimum,
    hard,
    hard_coverage,
    rule_error,
    sft_error,
    sft_optimum,
    stopped,
)
from theory.quantities import coverage

TINY = Hard(size=5, d=2, weight=0.6)
SMALL = Hard(size=17, d=1, weight=0.5)


def posterior_error(size, draws):
    """1 - E[max_j P(j | responses)] over all responses, in rationals."""
    top, others = Fraction(2, size), Fraction(size - 2, size * (size - 1))
    right = Fraction(0)
    for seen in itertools.product(range(size), repeat=draws):
        # The likelihood of each response is revealed: y_j looks likelier to j alone.
        law = [math.prod(top if y == j else others for y in seen) for j in range(size)]
        told = [Fraction(law[j]) for j in range(size) if j in seen]
        silent = [Fraction(law[j]) for j in range(size) if j not in seen]
        right += sum(told, Fraction(0)) + max(silent, default=Fraction(0))
    return 1 - right / size


@pytest.mark.parametrize("size", [3, 4, 5])
def test_bayes_error_by_enumeration_in_rationals(size):
    draws = np.arange(6 if size < 5 else 5)
    exact = [float(posterior_error(size, int(k))) for k in draws]
    np.testing.assert_allclose(bayes_error(draws, size=size), exact, rtol=1e-13)


def occupancy(size, most):
    """Laws of the number of distinct values in k = 0..most draws from `size`."""
    law = np.eye(1, size + 1)[0]
    seen = np.arange(size + 1)
    for _ in range(most + 1):
        yield law
        law = law * seen / size + np.append(0.0, (law * (size - seen) / size)[:-1])


@pytest.mark.parametrize("size", [8, 40, 300])
def test_bayes_error_by_the_chain_of_distinct_values(size):
    most = 6 * size
    chain = np.array(
        [law @ (1 - 1 / (size - np.arange(size))) for law in occupancy(size - 1, most)]
    )
    draws = np.arange(most + 1)
    exact = (1 - 2 / size) ** draws * chain
    np.testing.assert_allclose(bayes_error(draws, size=size), exact, atol=3e-15)


@pytest.mark.parametrize("size", [2, 8, 40, 300])
def test_collecting_all_values(size):
    draws = np.arange(6 * size + 20)
    exact = [law[-1] for law in occupancy(size, len(draws) - 1)]
    np.testing.assert_allclose(collects_all(draws, size=size), exact, atol=1e-12)


def test_the_error_is_convex_and_its_gain_is_the_formula():
    for size in (3, 8, 50):
        gain = -np.diff(bayes_error(np.arange(4 * size), size=size))
        assert (np.diff(gain) <= 1e-15).all() and (gain > 0).all()
    first = (2 - 1 / 8 - 2 / 8) / 7  # g(M) at M = 8
    assert -np.diff(bayes_error(np.arange(2), size=8))[0] == pytest.approx(first)


@pytest.mark.parametrize("family", [TINY, SMALL, Hard(300, 3, 0.2)])
@pytest.mark.parametrize("N", [1, 3, 20])
def test_fixed_error_is_the_mean_over_visits(family, N):
    for n in (0, 1, 30, 200):
        weight = scipy.stats.binom.pmf(np.arange(n + 1), n, family.share)
        mean = weight @ bayes_error(N * np.arange(n + 1), size=family.size)
        assert fixed_error(family, n=n, N=N) == pytest.approx(
            mean, rel=1e-10, abs=1e-14
        )


def enumerated_risk(family, n, N):
    """Risk of the posterior's mode over all prompts x_0, x_1, ..: tiny families."""
    error = [float(posterior_error(family.size, N * k)) for k in range(n + 1)]
    risk = 0.0
    for prompts in itertools.product(range(family.d + 1), repeat=n):
        chance = math.prod(
            1 - family.weight if x == 0 else family.share for x in prompts
        )
        risk += chance * sum(
            family.share * error[prompts.count(i)] for i in range(1, family.d + 1)
        )
    return risk


def test_risk_over_all_prompts_by_enumeration():
    for n, N in ((0, 1), (3, 1), (1, 3), (2, 2)):
        found = TINY.weight * fixed_error(TINY, n=n, N=N)
        assert found == pytest.approx(enumerated_risk(TINY, n, N), rel=1e-12)


@pytest.mark.parametrize("family", [SMALL, hard(eps=1 / 32, c_cov=2.0, d=3)])
def test_one_response_a_prompt_is_the_best_split(family):
    eps = family.weight / 16
    one = fixed_optimum(family, eps=eps)
    risk = lambda n, N: family.weight * fixed_error(family, n=n, N=N)
    assert risk(one.n, 1) <= eps < risk(one.n - 1, 1)
    others = [fixed_optimum(family, eps=eps, N=N) for N in range(2, 3 * family.size)]
    assert min(c.m for c in others) >= one.m
    for cost in others[::7]:
        assert risk(cost.n, cost.N) <= eps < risk(cost.n - 1, cost.N)


def linear_program(size, error, horizon):
    """Least mean draws over all randomised stopping rules with this error.

    Variables: the mass that stops and that draws at (k, D); all stops at the horizon.
    """
    places = [(k, j) for k in range(horizon + 1) for j in range(min(k, size - 1) + 1)]
    at = {place: i for i, place in enumerate(places)}
    count = len(places)
    miss, balance = 1 - 2 / size, np.zeros((count, 2 * count))
    cost, wrong = np.zeros(2 * count), np.zeros(2 * count)
    for (k, j), i in at.items():
        balance[i, [i, count + i]] = 1.0
        cost[count + i] = 1.0
        wrong[i] = 1 - 1 / (size - j)
        for there, chance in (((k + 1, j), j), ((k + 1, j + 1), size - 1 - j)):
            if there in at:
                balance[at[there], count + i] -= miss * chance / (size - 1)
    draws = [(0, 0) if k == horizon else (0, None) for k, _ in places]
    found = scipy.optimize.linprog(
        cost,
        wrong[None],
        [error],
        balance,
        np.eye(1, count)[0],
        bounds=[(0, None)] * count + draws,
    )
    return found.fun


@pytest.mark.parametrize("size", [3, 4, 6])
def test_the_frontier_against_a_linear_program_over_all_stopping_rules(size):
    queries, error = adaptive_frontier(size)
    for share in (0.9, 0.5, 0.2, 0.05):
        target = share * error[0]
        least = linear_program(size, target, 40)
        found = np.interp(target, error[::-1], queries[::-1])
        assert found == pytest.approx(least, rel=1e-6)


def test_the_frontier_is_convex_and_its_thresholds_are_rules():
    queries, error = adaptive_frontier(12)
    slope = np.diff(error) / np.diff(queries)
    assert (np.diff(slope) > 0).all() and error[-1] == 0
    size, t = 12, 3
    stop = np.zeros((21, 21))
    stop[:, t:] = 1.0
    law = stopped(size, stop)  # D < 3 after 20 draws: (2/11)^20 and never stops
    assert float(rule_error(size, law)) == pytest.approx(error[t], rel=1e-9)


def test_adaptive_optimum_mixes_thresholds():
    family = Hard(8, 5, 0.5)
    queries, error = adaptive_frontier(8)
    middle = family.weight * (error[2] + error[3]) / 2
    expected = 5 * (queries[2] + queries[3]) / 2
    assert adaptive_optimum(family, eps=middle) == pytest.approx(expected)
    assert adaptive_optimum(family, eps=0.5) == 0.0


@pytest.mark.parametrize(("size", "most"), [(3, 6), (4, 5), (6, 4)])
def test_sft_error_by_enumeration(size, most):
    top = Fraction(7, 10)
    rest = (1 - top) / (size - 1)
    for visits in range(most + 1):
        right = Fraction(0)
        for counts in compositions(visits, size).tolist():
            ways = math.factorial(visits)
            for c in counts:
                ways //= math.factorial(c)
            chance = top ** counts[0] * rest ** (visits - counts[0]) * ways
            if counts[0] == max(counts):
                right += chance / counts.count(max(counts))
        found = sft_error(0.7, size=size)[visits]
        assert found == pytest.approx(float(1 - right), rel=1e-12)


def test_sft_fails_where_its_law_has_no_majority():
    assert (sft_error(0.5, size=9) == 1).all()
    assert (np.diff(sft_error(0.6, size=9)[1:]) <= 1e-12).all()


def simulated_wins(rng, *, size, top, visits, trials, fair):
    """How often j* = 0 is the most frequent; ties are broken fairly, or to index 0."""
    hit = rng.random((trials, visits)) < top
    other = rng.integers(1, size, (trials, visits))
    counts = np.zeros((trials, size))
    np.add.at(counts, (np.arange(trials)[:, None], np.where(hit, 0, other)), 1)
    noise = rng.random((trials, size)) if fair else 0.0
    return int((np.argmax(counts + 0.5 * noise, axis=1) == 0).sum())


@pytest.mark.statistical
def test_sft_error_by_simulation():
    rng, trials = np.random.default_rng(20241202), 40_000
    case = {"size": 60, "top": 0.52, "visits": 7, "trials": trials}
    win = 1 - sft_error(0.52, size=60)[7]
    p_value = lambda fair: (
        scipy.stats.binomtest(
            simulated_wins(rng, **case, fair=fair), trials, win
        ).pvalue
    )
    assert p_value(True) > LEVEL
    assert p_value(False) < LEVEL  # the planted bug: ties all won


@pytest.mark.parametrize("top", [0.55, 0.8])
@pytest.mark.parametrize("size", [100, 10_001])
def test_sft_error_in_many_responses_never_collides(size, top):
    """As M grows no other comes twice: two hits win, one hit ties K-1 others."""
    visits = np.arange(2, 12)
    none = (1 - top) ** visits
    one = visits * top * (1 - top) ** (visits - 1)
    expected = none + one * (1 - 1 / visits)
    found = sft_error(top, size=size)[2:12]
    np.testing.assert_allclose(found, expected, atol=40 / size)


def table(family):
    """x_0 and one of x_1..x_d with y_{j*} at column 1, from the rational family."""
    index = [1] * family.d
    rows = hard_family(
        index, size=family.size, gamma=Fraction(1, 2), weight=Fraction(1)
    )
    return jnp.asarray(as_float(rows.pi[:2]))


both_laws = compiled(
    lambda pi, mu, n: (adaptive_law(pi, mu_threshold=mu), best_of_n_law(pi, pi, n=n))
)


@pytest.mark.parametrize("last", [1, 2, 9, 30])
def test_laws_of_both_selections(last):
    pi, mu = table(SMALL), jnp.array([1 - SMALL.weight, SMALL.weight])
    threshold = (last - 1) * float(pi[1, 2]) * (1 + 1e-9) + 1e-12
    law, best = both_laws(pi, threshold, float(last))
    draws = float(mu @ law.mean_draws)
    assert adaptive_draws(SMALL, last) == pytest.approx(draws, rel=1e-12)
    mass = best_of_n_mass(SMALL, last)
    assert float(law.response[1, 1]) == pytest.approx(mass, rel=1e-12)
    assert float(best[1, 1]) == pytest.approx(mass, rel=1e-12)


def least_by_search(family, eps, price, most):
    """min n price(N) over every N <= most, n found one by one."""
    best = math.inf
    for N in range(1, most):
        error = sft_error(best_of_n_mass(family, N), size=family.size)
        for n in range(1, 200):
            if n * price(N) >= best:
                break
            weight = scipy.stats.binom.pmf(np.arange(COUNTS + 1), n, family.share)
            if family.weight * (weight @ error) <= eps:
                best = n * price(N)
    return best


def test_sft_optima_by_exhaustive_search():
    eps = SMALL.weight / 16
    found = sft_optimum(SMALL, eps=eps)
    assert found.m == found.n * found.N
    assert found.m == least_by_search(SMALL, eps, lambda N: N, 60)
    price = lambda last: adaptive_draws(SMALL, last)
    found = adaptive_sft_optimum(SMALL, eps=eps).m
    assert found == pytest.approx(least_by_search(SMALL, eps, price, 60), rel=1e-12)


def test_nobody_beats_the_optimum():
    for family in (SMALL, hard(eps=0.01, c_cov=3.0, d=4)):
        eps = family.weight / 16
        assert sft_optimum(family, eps=eps).m >= fixed_optimum(family, eps=eps).m
        adaptive = adaptive_sft_optimum(family, eps=eps).m
        assert adaptive >= adaptive_optimum(family, eps=eps)


@pytest.mark.parametrize("p", [1.0, 2.5])
def test_coverage_of_the_whole_family(p):
    index, size, weight = [1, 4, 4], 9, Fraction(1, 5)
    rows = hard_family(index, size=size, gamma=Fraction(1, 2), weight=weight)
    mu = jnp.asarray([float(w) for w in rows.mu])
    found = coverage(jnp.asarray(as_float(rows.pi)), mu, gamma=0.5, p=p)
    assert hard_coverage(Hard(9, 3, 0.2), p=p) == pytest.approx(float(found))


def test_the_papers_parameters():
    family = hard(eps=0.05, c_cov=0.05 * 7 + 1, d=3)
    assert family == Hard(28, 3, 0.05 * 16)  # 1 + 27
    assert hard(eps=0.01, c_cov=1.0, d=1, p=50.0).size == 8
    assert family.log_class == pytest.approx(3 * math.log(28))
    with pytest.raises(ValueError, match=r"0 < eps <= 1/16.*found eps=0.1"):
        hard(eps=0.1, c_cov=1.0, d=1)
    with pytest.raises(ValueError, match="expected eps > 0"):
        fixed_optimum(family, eps=0.0)
    with pytest.raises(ValueError, match="the error after 80 visits"):
        sft_optimum(Hard(8, 1, 0.5), eps=1e-12)
