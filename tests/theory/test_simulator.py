"""The simulator against the exact laws: on a grid of uniforms, then by chi-square."""

import math
from fractions import Fraction
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from levels import LEVEL

from jsharp import loop, update
from jsharp.policy import freeze
from jsharp.tabular import prompts_of, table
from jsharp.xpo import xpo
from theory import laws, simulator
from theory.claim import compiled
from theory.families import compositions

# Sixteenths, five responses: ties, zeros before, inside and behind a level, a point
# mass, a uniform law, and k = mu/pi(y) with equality at some mu below.
SIXTEENTHS = [
    (0, 16, 0, 0, 0),
    (8, 0, 8, 0, 0),
    (4, 4, 0, 4, 4),
    (1, 1, 6, 8, 0),
    (7, 1, 0, 7, 1),
    (3, 4, 2, 6, 1),
    (2, 2, 2, 1, 9),
]
SCORES = [
    [2, 0, 0, 1, 2],
    [1, 1, 1, 0, 3],
    [1, 1, 0, 0, 1],
    [0, 1, 1, 0, 0],
    [-math.inf, 0, 5, 0, 0],
    [3, 3, 3, 3, 3],
    [0.5, -1, 4, 0.5, 0.5],
]
THRESHOLDS = [1 / 16, 1.0, 3.3125]


def tables():
    return jnp.asarray(SIXTEENTHS, float) / 16, jnp.asarray(SCORES, float)


best_of_n = compiled(
    lambda key, ranked, n: simulator.best_of_n(key, ranked, n=n, trials=6000)
)
adaptive = compiled(lambda key, rule: simulator.adaptive(key, rule, trials=6000))
rank = compiled(simulator.rank)
places = compiled(lambda ranked, n: simulator.best_of_n_places(ranked, n=n))
stopping = compiled(lambda pi, mu: simulator.stopping(pi, mu_threshold=mu))


def frequencies(found, size):
    return np.stack([np.bincount(row, minlength=size) for row in np.asarray(found)])


def joint_of_eq_10(row, mu):
    """P[N_mu = k, yhat = y] of Eq 10 to the letter, in rationals: {(k, y): P}."""
    law, running, k = {}, {None: Fraction(1)}, 0
    row, mu = [Fraction(p, 16) for p in row], Fraction(mu)
    while running:
        k, still = k + 1, {}
        for best, weight in running.items():
            for y, p in enumerate(row):
                if p == 0:
                    continue
                now = y if best is None or p > row[best] else best
                into = law if 1 / row[now] <= k / mu else still
                at = (k, now) if into is law else now
                into[at] = into.get(at, Fraction(0)) + weight * p
        running = still
    return law


# ---- exact: what the samplers make of a grid of uniforms

GRID = 512


def on_a_grid(monkeypatch):
    """Uniforms become the midpoints of a grid; two draws after another, its square."""
    middle = (np.arange(GRID) + 0.5) / GRID

    def exponential(key, shape, dtype=float):
        del key
        waits = -np.log1p(-np.repeat(middle, shape[-1] // GRID))
        return jnp.broadcast_to(jnp.asarray(waits, dtype), shape)

    def uniform(key, shape, dtype=float):
        del key
        again = np.tile(middle, shape[-1] // GRID)
        return jnp.broadcast_to(jnp.asarray(again, dtype), shape)

    monkeypatch.setattr(jax.random, "exponential", exponential)
    monkeypatch.setattr(jax.random, "uniform", uniform)


@pytest.mark.parametrize("n", [1.0, 2.0, 7.5, 1e6])
def test_best_of_n_inverts_its_exact_law(monkeypatch, key, n):
    """A response is won on one interval of the uniform, so by its law up to 1/GRID."""
    on_a_grid(monkeypatch)
    pi, score = tables()
    found = simulator.best_of_n(key, rank(pi, score), n=n, trials=GRID)
    law = np.asarray(laws.best_of_n_law(pi, score, n=n))
    error = frequencies(found, 5) / GRID - law
    assert np.abs(error).max() <= 1 / GRID
    assert not frequencies(found, 5)[law == 0].any()


@pytest.mark.parametrize("mu", THRESHOLDS)
def test_adaptive_inverts_its_exact_joint_law(monkeypatch, key, mu):
    """N by one uniform, yhat given N by the other: each up to 1/GRID."""
    on_a_grid(monkeypatch)
    found = simulator.adaptive(key, stopping(tables()[0], mu), trials=GRID**2)
    for row, responses, draws in zip(SIXTEENTHS, *found, strict=True):
        law = joint_of_eq_10(row, mu)
        code = np.asarray(draws).astype(int) * 5 + np.asarray(responses)
        values, counts = np.unique(code, return_counts=True)
        seen = dict(zip(values.tolist(), counts / GRID**2, strict=True))
        exact = {k * 5 + y: float(p) for (k, y), p in law.items()}
        assert set(seen) <= set(exact)
        for at, p in exact.items():
            assert abs(seen.get(at, 0.0) - p) <= 2 / GRID, (row, divmod(at, 5))


@pytest.mark.parametrize("n", [1.0, 50.0, 1e9])
def test_the_sorted_law_is_the_law(n):
    pi, score = tables()
    rare = jnp.array([[0.5, 1e-9, 1e-300, 0.5 - 1e-9, 0.0]])
    for p, s in [(pi, score), (pi, pi), (rare, rare)]:
        ranked = rank(p, s)
        found = np.zeros(p.shape)
        at = np.asarray(ranked.response)
        np.put_along_axis(found, at, np.asarray(places(ranked, n))[:, :5], 1)
        expected = laws.best_of_n_law(p, s, n=n)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


def test_a_certain_response_and_one_response(key):
    one, keys = rank(jnp.ones((2, 1)), jnp.zeros((2, 1))), jax.random.split(key)
    np.testing.assert_array_equal(best_of_n(keys[0], one, 3.0), 0)
    found = adaptive(keys[1], stopping(jnp.ones((2, 1)), 2.5))
    np.testing.assert_array_equal(found.draws, 3.0)


# ---- maximum likelihood


def test_maximum_likelihood_is_that_of_the_products():
    """Against products of rationals over every outcome of n = 3; zeros, ties."""
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 4, size=(70, 2, 2)) + np.array([[[0, 1], [1, 0]]])
    parts[40] = parts[3]  # a tie, decided for the first
    members = parts / parts.sum(-1, keepdims=True)
    exact = [[[Fraction(int(p), int(r.sum())) for p in r] for r in m] for m in parts]
    logs = simulator.log_likelihoods(jnp.asarray(members))
    counts = compositions(3, 4)
    chosen = simulator.maximum_likelihood(jnp.asarray(counts, float), logs)
    for outcome, k in zip(counts, np.asarray(chosen), strict=True):
        product = [
            math.prod(p ** int(c) for p, c in zip(sum(m, []), outcome, strict=True))
            for m in exact
        ]
        assert product[k] == max(product)
    only_third = simulator.maximum_likelihood(jnp.full(4, 5.0), logs[:, [3, 40, 3]])
    assert int(only_third) == 0


# ---- XPO


def test_runs_are_those_of_the_algorithm_on_tables(key):
    """The same keys through jsharp.tabular's table, one run at a time."""
    with jax.numpy_dtype_promotion("standard"):  # as the library is written
        _compare_runs(key)


def _compare_runs(key):
    rng = np.random.default_rng(3)
    base = jnp.asarray(rng.dirichlet(np.ones(5), size=3))
    members = jnp.asarray(rng.dirichlet(np.ones(5), size=(20, 3)))
    prompts = jax.vmap(prompts_of)(jnp.asarray(rng.integers(3, size=(6, 2))))
    keys = jax.random.split(key, 4)
    rates = {"alpha": 0.1, "beta": 0.5}
    run = compiled(partial(simulator.xpo_runs, **rates))
    state, info = run(keys.copy(), base, members, prompts)

    policy, log = table(3, 5), jnp.log(members)
    algorithm = xpo(
        policy,
        freeze(policy, jnp.log(base)),
        update.finite_class(log),
        rounds=6,
        **rates,
    )
    scan = compiled(lambda k: loop.scan(k, algorithm, jnp.log(base), prompts))
    every = jnp.concatenate([log, jnp.log(base)[None]])
    for r in range(4):
        expected, infos = scan(keys[r])
        np.testing.assert_allclose(state.update.inner[r], expected.update.inner)
        np.testing.assert_allclose(info.objective[r], infos.objective)
        np.testing.assert_array_equal(every[state.params[r]], expected.params)
    assert len(set(np.asarray(state.update.params).tolist())) > 1


# ---- by chi-square, with the simulator's own randomness


def chi_square(counts, law):
    """Statistic and degrees of freedom; cells that expect less than 8 are pooled."""
    counts, expected = np.ravel(counts), np.ravel(law) * np.sum(counts)
    assert not counts[expected == 0].any()
    order = np.argsort(expected)
    pooled = np.maximum(0, np.searchsorted(np.cumsum(expected[order]), 8.0))
    cells = np.maximum(np.arange(len(order)) - pooled, 0)
    counts, expected = (
        np.bincount(cells, weights=a[order]) for a in (counts, expected)
    )
    return ((counts - expected) ** 2 / expected).sum(), len(expected) - 1


def best_of_n_statistics(key, *, tied=None, extra=0.0):
    pi, score = tables()
    ranked = rank(pi, score)
    ranked = ranked if tied is None else ranked._replace(tied=jnp.asarray(tied))
    for i, n in enumerate([1.0, 2.0, 5.0, 1e6]):
        found = best_of_n(jax.random.fold_in(key, i), ranked, n + extra)
        law = laws.best_of_n_law(pi, score, n=n)
        yield from map(chi_square, frequencies(found, 5), np.asarray(law))


def adaptive_statistics(key, *, late=0.0, unheld=False):
    for i, mu in enumerate(THRESHOLDS):
        rule = stopping(tables()[0], mu)
        rule = rule._replace(first=rule.first + late)
        rule = rule._replace(before=jnp.zeros_like(rule.before)) if unheld else rule
        found = adaptive(jax.random.fold_in(key, i), rule)
        for row, responses, draws in zip(SIXTEENTHS, *found, strict=True):
            law = np.zeros((80, 5))
            for (k, y), p in joint_of_eq_10(row, mu).items():
                law[k, y] = p
            code = np.asarray(draws).astype(int) * 5 + np.asarray(responses)
            counts = np.bincount(code, minlength=law.size)
            if not unheld:
                yield chi_square(counts, law)
            else:  # impossible cells are not what this twin is about
                yield chi_square(np.where(law.ravel() > 0, counts, 0), law)


def mean_statistics(key, *, longer=0.0):
    """Squared z-scores of the mean N_mu on rows of 300 responses, where N is ~ 200."""
    pi = jnp.asarray(np.random.default_rng(1).dirichlet(np.full(300, 0.3), size=4))
    draws = np.asarray(adaptive(key, stopping(pi, 3.7)).draws)
    mean = np.asarray(laws.adaptive_law(pi, mu_threshold=3.7).mean_draws)
    z = (draws.mean(1) * (1 + longer) - mean) / (draws.std(1) / math.sqrt(6000))
    return [(value**2, 1) for value in z]


def replication_statistics(key, *, draws=3.0):
    """The member chosen from n = 4 best-of-3 responses, by enumerating the counts."""
    rng = np.random.default_rng(5)
    pi, members = rng.dirichlet(np.ones(3), size=2), rng.dirichlet(np.ones(3), (5, 2))
    mu = np.array([0.25, 0.75])
    pi, mu = jnp.asarray(pi), jnp.asarray(mu)
    ranked, prompts = rank(pi, pi), rank(mu[None], mu[None])
    logs = simulator.log_likelihoods(jnp.asarray(members))
    sizes = {"n": 4, "draws": draws, "replications": 3000, "batch": 500}
    run = compiled(partial(simulator.replicate_sft, **sizes))
    chosen = np.asarray(run(key, ranked, prompts, logs, jnp.arange(5.0))).astype(int)
    cell = np.asarray(mu)[:, None] * np.asarray(laws.best_of_n_law(pi, pi, n=3.0))
    outcomes = compositions(4, 6)
    weight = scipy.stats.multinomial(4, cell.ravel()).pmf(outcomes)
    best = (outcomes @ np.log(members).reshape(5, 6).T).argmax(1)
    yield chi_square(np.bincount(chosen, minlength=5), np.bincount(best, weight, 5))


def p_value(statistics):
    statistic, freedom = map(sum, zip(*statistics, strict=True))
    return scipy.stats.chi2.sf(statistic, freedom)


@pytest.mark.statistical
def test_draws_follow_the_exact_laws(key):
    keys = jax.random.split(key, 4)
    statistics = [
        *best_of_n_statistics(keys[0]),
        *adaptive_statistics(keys[1]),
        *mean_statistics(keys[2]),
        *replication_statistics(keys[3]),
    ]
    assert p_value(statistics) > LEVEL


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(partial(best_of_n_statistics, tied=False), id="ties to the first"),
        pytest.param(partial(best_of_n_statistics, extra=1.0), id="N + 1"),
        pytest.param(partial(adaptive_statistics, unheld=True), id="all heights race"),
        pytest.param(partial(mean_statistics, longer=0.05), id="N_mu 5% longer"),
        pytest.param(partial(replication_statistics, draws=2.0), id="best of 2"),
    ],
)
def test_a_planted_bug_is_seen(planted, key):
    assert p_value(planted(key)) < LEVEL


# ---- engineering


def test_one_trace_serves_every_n_every_table_and_every_key():
    @compiled
    @chex.assert_max_traces(n=1)
    def draw(key, pi, n, mu):
        ranked = simulator.rank(pi, pi)
        rule = simulator.stopping(pi, mu_threshold=mu)
        own, other = jax.random.split(key)
        return (
            simulator.best_of_n(own, ranked, n=n, trials=8),
            simulator.adaptive(other, rule, trials=8),
        )

    pi, _ = tables()
    for i, n, mu in [(0, 1.0, 0.5), (1, 1e6, 30.0), (2, 64.0, 3.7)]:
        draw(jax.random.key(i), jnp.roll(pi, i, axis=0), n, mu)


def test_single_precision_stays_single(key):
    pi = tables()[0].astype(jnp.float32)
    keys, ranked = jax.random.split(key), rank(pi, pi)
    assert ranked.height.dtype == jnp.float32
    responses = best_of_n(keys[0], ranked, jnp.float32(1e6))
    modes = np.asarray(pi)[np.arange(7)[:, None], np.asarray(responses)]
    np.testing.assert_array_equal(modes, np.asarray(pi).max(1)[:, None] + 0 * modes)
    assert adaptive(keys[1], stopping(pi, jnp.float32(3.0))).draws.dtype == jnp.float32


def test_trials_may_be_mapped_over_keys_and_tables():
    pi, score = tables()
    some, seeds = jnp.stack([pi, pi[::-1]]), jnp.arange(2)
    draw = lambda seed, p: simulator.best_of_n(
        jax.random.key(seed), simulator.rank(p, score), n=3.0, trials=9
    )
    mapped = compiled(jax.vmap(draw))(seeds, some)
    np.testing.assert_array_equal(mapped[1], compiled(draw)(seeds[1], some[1]))
