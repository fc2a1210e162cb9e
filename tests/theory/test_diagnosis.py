"""Bounds from a pilot: their exact coverage by enumeration, and every law twice."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jsharp.stats import clopper_pearson
from theory import curves, diagnosis, laws, prices, quantities
from theory.claim import compiled
from theory.pilot import ROUNDING, Known, Pilot, known
from theory.prices import Goal

TABLES = [
    [0.5, 0.3, 0.2],
    [0.34, 0.33, 0.33],
    [0.9, 0.06, 0.04],
    [0.45, 0.45, 0.1],
    [0.3, 0.25, 0.2, 0.15, 0.1],
]
GOAL = Goal(eps=0.25, delta=0.1, rho=0.05, log_class=9.0, dimension=3)


def pilot_of(pi, draws, greedy=None) -> Pilot:
    """A pilot of tables pi [B Y] with the responses `draws` [B N], each one token.

    The greedy response is the first draw, where none is given.
    """
    pi, draws = np.asarray(pi, float), np.asarray(draws)
    greedy = draws[:, 0] if greedy is None else np.asarray(greedy)
    return Pilot(
        ids=tuple(f"p{i}" for i in range(len(draws))),
        prompts=tuple((i,) for i in range(len(draws))),
        tokens=tuple(tuple((int(y),) for y in row) for row in draws),
        log_prob=np.log(np.take_along_axis(pi, draws, 1)),
        length=np.ones_like(draws),
        cut=np.zeros(draws.shape, bool),
        correct=None,
        greedy=tuple((int(y),) for y in greedy),
        greedy_log_prob=np.log(pi[np.arange(len(pi)), greedy]),
        greedy_correct=None,
    )


def whole(pi) -> Known:
    """Known by draws that show every response of full tables [B Y] once."""
    pi = np.asarray(pi, float)
    return known(pilot_of(pi, np.tile(np.arange(pi.shape[1]), (len(pi), 1))))


def every_pilot(row, draws: int):
    """All Y^N pilots of one prompt as the B rows of one, and their probabilities."""
    row = np.asarray(row)
    rows = np.array(list(itertools.product(range(len(row)), repeat=draws)))
    return known(pilot_of(np.tile(row, (len(rows), 1)), rows)), row[rows].prod(1)


def alone(level: float, found: Known) -> float:
    """The level at which each of these rows is bounded as if it were the only one."""
    return level * len(found.mass)


# ---- What is known


def test_known_ranks_distinct_responses_and_counts_what_is_left():
    found = known(pilot_of([[0.5, 0.3, 0.2]], [[1, 0, 1, 1]]))
    np.testing.assert_allclose(found.mass, [[0.5, 0.3]])
    assert found.place.tolist() == [[1, 0, 1, 1]] and found.maximiser == ((0,),)
    left = 1 - 0.8 * math.exp(-ROUNDING)
    assert found.unseen == pytest.approx([left]) and not found.searched.any()


def test_the_greedy_response_is_known_though_it_is_no_draw():
    pi, draws = [[0.5, 0.3, 0.2]], [[1, 1, 2, 1]]
    found = known(pilot_of(pi, draws, greedy=[0]))
    np.testing.assert_allclose(found.mass, [[0.5, 0.3, 0.2]])
    assert found.place.tolist() == [[1, 1, 2, 1]] and found.maximiser == ((0,),)
    assert diagnosis.certified(found).all()
    assert not diagnosis.certified(known(pilot_of(pi, draws))).any()


def test_what_is_left_is_bounded_though_ties_are_as_far_off_as_their_rounding():
    """A tie that was not drawn may lie `rounding` below the mode."""
    rounding = 0.02
    pi = np.array([[0.4, 0.4 * math.exp(-rounding), 0.0]])
    pi[0, 2] = 1 - pi[0, :2].sum()
    mode = {"id": "p0", "completion_ids": [0], "logprob": math.log(0.4), "exact": True}
    mode |= {"ties": [[0], [1]], "mass_upper": 0.8, "rounding": rounding}
    found = known(pilot_of(pi, [[0, 0]]), [mode])
    assert found.unseen[0] >= pi[0, 2] > 1 - 0.8 * math.exp(-ROUNDING)
    assert found.ceiling == pytest.approx([0.4 * math.exp(rounding)])
    # Nor is y* alone where its rival was drawn, but cannot be told from it.
    found = known(pilot_of(pi, [[0, 1]]), [mode])
    assert diagnosis.ties(found).tolist() == [1]
    assert not diagnosis.unique(found).any() and diagnosis.certified(found).all()


def test_a_certified_mode_is_known_though_it_was_not_drawn():
    mode = {"id": "p0", "completion_ids": [0], "logprob": math.log(0.4), "exact": True}
    mode |= {"ties": [[0], [2]], "mass_upper": 0.8, "mass_lower": 0.4, "rounding": 0.0}
    pilot = pilot_of([[0.4, 0.2, 0.4]] * 2, [[1, 1]] * 2)
    found = known(pilot, [mode])
    assert found.searched.tolist() == [True, False]
    np.testing.assert_allclose(found.mass, [[0.4, 0.4, 0.2], [0.2, 0, 0]], atol=1e-12)
    bounds = diagnosis.maximisers(found, level=0.05)
    assert (bounds.low[0], bounds.high[0]) == (pytest.approx(0.4), pytest.approx(0.8))
    assert diagnosis.ties(found).tolist() == [2, 1]
    assert diagnosis.margins(found, level=0.05).high[0] == 0
    open_mode = mode | {"exact": False, "mass_upper": 0.25, "completion_ids": [1]}
    found = known(pilot, [open_mode | {"logprob": math.log(0.2)}])
    top = diagnosis.likeliest(found, level=0.05)
    left = 1 - 0.2 * math.exp(-ROUNDING)  # less than u = 0.91 of two draws
    assert top.high.tolist() == pytest.approx([0.25, left])


def test_rounding_does_not_unseat_a_certified_mode():
    pilot = pilot_of([[0.4, 0.4 * math.exp(1e-6)]], [[1, 1]])
    mode = {"id": "p0", "completion_ids": [0], "logprob": math.log(0.4), "exact": True}
    mode |= {"ties": [[0]], "mass_upper": 0.4, "mass_lower": 0.4, "rounding": 1e-5}
    found = known(pilot, [mode])
    assert found.maximiser == ((0,),) and found.place.tolist() == [[1, 1]]
    np.testing.assert_allclose(found.mass, [[0.4, 0.4]], rtol=1e-12)


# ---- Exact coverage of the bounds


@pytest.mark.parametrize("row", TABLES)
@pytest.mark.parametrize("level", [0.9, 0.3, 0.05])
def test_all_bounds_hold_together_at_their_level(row, level):
    found, weight = every_pilot(row, 5)
    assert weight.sum() == pytest.approx(1)
    level_of_all = alone(level, found)
    first, second = np.sort(row)[::-1][:2]
    pairs = [
        (diagnosis.likeliest(found, level=level_of_all), first),
        (diagnosis.margins(found, level=level_of_all), math.log(first / second)),
    ]
    for gamma in (0.0, 0.2, 0.6):
        near = np.asarray(row)[np.asarray(row) >= (1 - gamma) * first].sum()
        bounds = diagnosis.near_maximisers(found, gamma=gamma, level=level_of_all)
        pairs.append((bounds, near))
    missed = np.zeros(len(weight), bool)
    for bounds, truth in pairs:
        inside = (bounds.low <= truth + 1e-9) & (truth <= bounds.high + 1e-9)
        assert inside[bounds.exact].all()  # what is certain never misses
        assert (bounds.low <= bounds.high).all()
        missed |= ~inside
    # Three values of gamma share one bound by counts each; one at a time is claimed.
    assert weight[missed].sum() <= level * (1 + 2 / 3)


def test_the_level_is_nearly_used_up():
    """A maximiser just above u = 1 - a^(1/N), never seen: missed with nearly a."""
    level, draws = 0.9, 6
    u = -math.expm1(math.log(level / 3) / draws)
    top, many = 1.01 * u, 12
    row = [top] + [(1 - top) / many] * many
    assert row[1] < u
    found = known(pilot_of([row], [[1, 2, 3, 4, 5, 6]]))
    high = diagnosis.likeliest(found, level=level).high[0]
    assert high == pytest.approx(u) and high < top
    assert 0.9 < (1 - top) ** draws / (level / 3) <= 1


def test_the_certificate_needs_more_than_all_that_is_left():
    found = known(pilot_of([[0.5, 0.3, 0.2]] * 3, [[0, 0], [0, 1], [1, 2]]))
    # 0.5 against 0.5, 0.2 and 0.5 left: only the second is certain.
    assert diagnosis.certified(found).tolist() == [False, True, False]


def test_gamma_zero_holds_where_maximisers_tie():
    """Uniform over 50: the likeliest seen is 1/50, and Y* is everything."""
    found = known(pilot_of([[0.02] * 50], [list(range(8))]))
    bounds = diagnosis.near_maximisers(found, gamma=0.0, level=0.05)
    assert bounds.high[0] == 1.0
    assert bounds.low[0] == pytest.approx(0.02)
    assert diagnosis.maximisers(found, level=0.05).high[0] < 1  # there y* is unique


def test_gamma_counts_the_draws_of_near_maximisers():
    """Upwards by Clopper-Pearson: 9 of 30 draws were at or above half of b."""
    row = [0.2, 0.12, 0.02] + [0.004] * 165
    draws = [[0] * 6 + [1] * 3 + [2] * 4 + list(range(3, 20))]
    found = known(pilot_of([row], draws))
    bounds = diagnosis.near_maximisers(found, gamma=0.5, level=0.05)
    one_sided = clopper_pearson(9, 30, level=2 * 0.05 / 3)
    assert bounds.high[0] == pytest.approx(one_sided.high, rel=1e-12)
    # Nothing above b can hide from 30 draws, and 0.12 is more than half of it.
    assert bounds.low[0] == pytest.approx(0.32)


def test_a_margin_is_exact_only_where_no_draw_was_needed():
    """The third, of 0.34, was not drawn: it is the second likeliest."""
    draws = [[0] * 15 + [1] * 15]
    bounds = diagnosis.margins(known(pilot_of([[0.36, 0.3, 0.34]], draws)), level=0.05)
    assert bounds.low == pytest.approx(bounds.high)  # that all were drawn is likely
    assert not bounds.exact.any()
    sure = diagnosis.margins(known(pilot_of([[0.6, 0.3, 0.1]], draws)), level=0.05)
    assert sure.exact.all() and sure.low == pytest.approx([math.log(2)])


# ---- Profile and coverage


def test_exact_coverage_is_that_of_the_definitions():
    pi = np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04], [0.45, 0.45, 0.1]])
    found, mu = whole(pi), np.full(3, 1 / 3)
    mass = diagnosis.maximisers(found, level=0.05)
    assert mass.exact.all()
    table = jnp.asarray(pi), jnp.asarray(mu)
    covers = compiled(lambda gamma: quantities.coverage(*table, gamma=gamma))
    low, high = diagnosis.coverage(mass)
    assert low == pytest.approx(float(covers(0.0)), rel=1e-9)
    assert high == pytest.approx(np.mean(1 / pi.max(1)), rel=1e-9)
    for gamma in (0.0, 0.3, 0.7):
        near = diagnosis.near_maximisers(found, gamma=gamma, level=0.05)
        exact = float(covers(gamma))
        assert diagnosis.coverage(near) == pytest.approx((exact, exact), rel=1e-9)
    first, second = np.sort(pi)[:, ::-1][:, :2].T
    margin = diagnosis.margins(found, level=0.05)
    np.testing.assert_allclose(margin.low, np.log(first / second), atol=1e-9)
    assert margin.exact.all()


def test_profile_and_its_band():
    ends = np.array([0.5, 0.1, 0.02]), np.array([0.5, 0.4, 0.02])
    mass = diagnosis.Bounds(*ends, np.array([True, False, True]))
    at = np.array([1.0, 2.0, 2.1, 10.0, 50.0, 51.0])
    found = diagnosis.profile(mass, at, level=0.05)
    np.testing.assert_allclose(found.high * 3, [3, 3, 2, 2, 1, 0])
    np.testing.assert_allclose(found.low * 3, [3, 3, 2, 1, 1, 0])
    width = diagnosis.band(3, level=0.05)
    np.testing.assert_allclose(found.band_high, np.minimum(found.high + width, 1))
    np.testing.assert_allclose(found.band_low, np.maximum(found.low - width, 0))


@pytest.mark.parametrize("size", [4, 25, 200])
def test_the_band_holds_for_every_two_point_law(size):
    """There sup |F_B - F| = |mean - p|, with a binomial law."""
    width = diagnosis.band(size, level=0.05)
    count = np.arange(size + 1)
    for p in np.linspace(0.02, 0.98, 33):
        outside = np.abs(count / size - p) > width
        assert scipy.stats.binom.pmf(count[outside], size, p).sum() <= 0.05
    half = np.abs(count / size - 0.5) > width / 2  # a band of half the width does not
    assert scipy.stats.binom.pmf(count[half], size, 0.5).sum() > 0.05


def test_truncated_coverage_is_the_integral_over_the_band():
    """E min(Z, M) = 1 + integral over 1..M of P[Z >= t], at the edge of the band."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0.002, 0.5, 60)
    mass = diagnosis.Bounds(low, np.minimum(low * 1.5, 1.0), np.zeros(60, bool))
    width = diagnosis.band(60, level=0.05)
    for most in (3.0, 40.0, 1000.0):
        here, over = diagnosis.truncated_coverage(mass, most=most, level=0.05)
        ends = {"low": 1 / mass.high, "high": 1 / mass.low}
        cuts = np.unique(np.clip([1.0, most, *ends["low"], *ends["high"]], 1.0, most))
        middle, step = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
        share = {k: (v[:, None] >= middle).mean(0) for k, v in ends.items()}
        for i, name in enumerate(ends):
            assert here[i] == pytest.approx(1 + share[name] @ step)
        assert over[0] == pytest.approx(1 + np.maximum(share["low"] - width, 0) @ step)
        assert over[1] == pytest.approx(1 + np.minimum(share["high"] + width, 1) @ step)


# ---- Prices


PI = np.random.default_rng(1).dirichlet(np.full(6, 0.4), size=16)
MU = np.full(16, 1 / 16)


@compiled
def exact_laws(table, mu, eps, delta):
    """What the theory says of a table, the second road to every price."""
    asked = {"eps": eps, "delta": delta, "class_size": math.exp(9.0), "rho": 0.05}
    return {
        "by_prompt": laws.least_n_by_prompt(table, delta=delta),
        "least": laws.least_n(table, mu, eps=eps, delta=delta),
        "adaptive": laws.adaptive_law(
            table, mu_threshold=jnp.log(2.0 / delta)
        ).mean_draws,
        "fixed": curves.fixed_cost(table, mu, **asked).m,
        "adaptive_cost": curves.adaptive_cost(table, mu, **asked).m,
        "on_mode": laws.best_of_n_law(table, table, n=7.0).max(1),
        "cover": quantities.coverage(table, mu),
    }


def test_least_draws_is_the_law_of_best_of_n_on_tables():
    mass = diagnosis.maximisers(whole(PI), level=0.05)
    np.testing.assert_allclose(mass.low, PI.max(1), rtol=1e-12)
    for delta, eps in itertools.product((0.5, 0.1, 1e-3), (0.001, 0.25, 0.26, 0.9)):
        exact = exact_laws(PI, MU, eps, delta)
        needed = prices.draws_needed(mass.low, delta=delta)
        np.testing.assert_array_equal(needed, np.asarray(exact["by_prompt"]))
        assert prices.least_draws(needed, eps=eps) == float(exact["least"])
        found = prices.found_by(mass.low, 7)
        np.testing.assert_allclose(found, exact["on_mode"], rtol=1e-9)
    edges = prices.draws_needed(np.array([0.0, 1.0, 0.9]), delta=0.1)
    assert edges.tolist() == [math.inf, 1, 1]


def test_adaptive_draws_bound_the_exact_law():
    top = diagnosis.likeliest(whole(PI), level=0.05)
    for delta in (0.9, 0.1, 1e-3):
        low, high = prices.adaptive_draws(top, delta=delta)
        exact = np.asarray(exact_laws(PI, MU, 0.25, delta)["adaptive"])
        assert (low <= exact * (1 + 1e-12)).all() and (exact <= high + 1e-9).all()
        assert (high - low < 0.03 * low).all() or delta > 0.01
    one = diagnosis.Bounds(np.array([0.2]), np.array([0.2]), np.array([True]))
    last = laws.two_level_draws(15, 10**6, q=0.2)  # ceil(ln(20)/0.2) = 15
    assert prices.adaptive_draws(one, delta=0.1)[1][0] == pytest.approx(last, rel=1e-12)


def test_prices_are_those_of_the_theory_on_a_table():
    top = diagnosis.likeliest(whole(PI), level=0.05)
    exact = exact_laws(PI, MU, 0.25, 0.1)
    cost = prices.prices(top, top, GOAL, margin=0.7, log_responses=2.0)
    assert cost["fixed N"].m == pytest.approx((float(exact["fixed"]),) * 2, rel=1e-12)
    low, high = cost["adaptive N"].m
    assert low <= float(exact["adaptive_cost"]) <= high < 1.1 * low
    cover = float(exact["cover"])
    log_size = 9.0 + math.log(20)
    half = 0.25 / 2  # the other half of eps are the prompts that the margin leaves out
    pairs = 8 * cover * log_size / (0.1 * half) ** 2  # errata, "the size of beta"
    assert cost["regression"].m == pytest.approx((2 * pairs,) * 2, rel=1e-9)
    beta = prices.regression_beta(GOAL, margin=0.7, cover=cover)
    assert beta == pytest.approx(0.7 * 0.1 * half / (2 * math.log(cover)))
    # T is where the two sides of Thm 4.3 repaired meet.
    rounds, beta = cost["XPO"].m[0] / 2, 0.7 / (math.log(20) + 2.0)
    sec = 16 * 4 * math.log(1 + 8 * rounds / 4) / math.log(9)
    reach = 2 * (1 + 0.7 + math.log(cover))
    right = (
        sec * (math.log(2 * rounds / 0.05) + 9.0) * (reach / (0.1 * half * beta)) ** 2
    )
    assert rounds - 1 == pytest.approx(13_800 * right, rel=1e-9)
    theorem = 2 * cover * math.log(20) / 0.25
    assert prices.theorem_draws(cover, GOAL) == math.ceil(theorem)


def test_without_a_margin_nothing_is_promised_and_without_a_rival_all_is_easiest():
    top = diagnosis.likeliest(whole(PI), level=0.05)
    cost = lambda m: prices.prices(top, top, GOAL, margin=m, log_responses=2.0)
    none, cover = cost(0.0), diagnosis.coverage(top)[1]
    for name in ("regression", "XPO"):
        assert none[name].n == math.inf and none[name].m == (math.inf, math.inf)
    assert math.isfinite(none["fixed N"].m[1])
    assert prices.regression_beta(GOAL, margin=0.0, cover=1.0) == 0
    alone, wide = cost(math.inf), cost(1e9)
    assert alone["regression"] == wide["regression"]
    assert alone["XPO"].m == pytest.approx(wide["XPO"].m, rel=1e-6)
    assert alone["XPO"].m[1] < cost(5.0)["XPO"].m[1]
    assert prices.regression_beta(GOAL, margin=math.inf, cover=cover) == math.inf


def test_draws_over_the_population_need_enough_prompts():
    mass = np.full(200, 0.5)
    mass[:10] = 0.01
    bounds = diagnosis.Bounds(mass, mass, np.ones(200, bool))
    asked = dict(delta=0.1, level=0.05)
    assert prices.population_draws(bounds, eps=0.01, **asked) is None
    low, high = prices.population_draws(bounds, eps=0.2, **asked)
    assert low == high == 4  # 2^-4 < 0.1
    low, high = prices.population_draws(bounds, eps=0.04, **asked)
    assert (low, high) == (4, 230)  # 0.99^230 < 0.1: not excluded
