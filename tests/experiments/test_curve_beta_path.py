"""The beta path: values by plain NumPy, and no policy below it."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from scipy.optimize import brentq

from experiments.curves import beta_path

TINY = dataclasses.replace(
    beta_path.QUICK,
    responses=6,
    betas=12,
    draws=5,
    thresholds=5,
    most_draws=60,
    least_gap=1e-6,
)


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return beta_path.run(TINY, 3)


def values(points, panel, series):
    found = [p for p in points if (p.panel, p.series) == (panel, series)]
    return np.array([p.x for p in found]), np.array([p.y for p in found])


def cost(pi, base):
    """KL(pi||base) and E_{pi*}[r] - E_pi[r] for one row."""
    inside = pi > 0
    kl = float(np.sum(pi[inside] * np.log(pi[inside] / base[inside])))
    return kl, float(np.log(base.max()) - np.sum(pi * np.log(base)))


def tilted(base, beta):
    weights = (base / base.max()) ** (1 + 1 / beta)
    return weights / weights.sum()


def best_of(base, n):
    """All n-tuples, ties shared."""
    law = np.zeros(len(base))
    for draws in itertools.product(range(len(base)), repeat=n):
        top = max(base[y] for y in draws)
        tied = [y for y in draws if base[y] == top]
        for y in tied:
            law[y] += np.prod(base[list(draws)]) / len(tied)
    return law


@pytest.mark.parametrize("panel", list(beta_path.TITLES))
def test_paths_by_plain_numpy(points, panel):
    base = beta_path.rows(TINY, 3)[panel]
    betas = np.geomspace(*TINY.beta_range, TINY.betas)
    expected = [cost(tilted(base, beta), base) for beta in betas]
    expected = [pair for pair in expected if pair[1] > TINY.least_gap]
    found = np.stack(values(points, panel, beta_path.TILTED), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    x, y = values(points, panel, beta_path.BEST)
    for n, k, gap in zip((1, 3), x, y, strict=False):
        # N = 1, 3, 8, ...: the rounded geometric grid up to 60.
        np.testing.assert_allclose((k, gap), cost(best_of(base, n), base), atol=1e-9)


def adaptive_law(base, threshold):
    """Draw by draw: the law of the best so far, stopped where 1/best <= k/mu."""
    value = np.unique(base)[::-1]  # one level for equal probabilities
    level = np.array([base[base == v].sum() for v in value])
    best, law, k = level.copy(), np.zeros(len(value)), 1
    while True:
        stop = value >= threshold / k
        law, best = law + best * stop, best * ~stop
        if stop.all():
            break
        worse = np.append(np.cumsum(best[::-1])[::-1][1:], 0.0)
        best, k = best * np.cumsum(level[::-1])[::-1] + level * worse, k + 1
    return np.array([(law / level)[value == p][0] * p for p in base])


@pytest.mark.parametrize("panel", list(beta_path.TITLES))
def test_adaptive_path_draw_by_draw(points, panel):
    base = beta_path.rows(TINY, 3)[panel]
    thresholds = np.geomspace(*TINY.threshold_range, TINY.thresholds)
    expected = [cost(adaptive_law(base, mu), base) for mu in thresholds]
    expected = [pair for pair in expected if pair[1] > TINY.least_gap]
    found = np.stack(values(points, panel, beta_path.ADAPTIVE), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("panel", list(beta_path.TITLES))
def test_the_path_of_pi_star_beta_is_the_frontier(points, panel):
    """No policy, drawn anywhere or near the path, has a smaller gap at its KL."""
    base, rng = beta_path.rows(TINY, 3)[panel], np.random.default_rng(0)
    near = [
        tilted(base, beta) * np.exp(scale * rng.normal(size=len(base)))
        for beta in np.geomspace(0.05, 10, 40)
        for scale in (1e-3, 0.1, 0.5)
    ]
    anywhere = [rng.dirichlet(np.full(len(base), a)) for a in (0.2, 1.0) * 100]
    for weights in near + anywhere:
        kl, gap = cost(weights / weights.sum(), base)
        end = cost(tilted(base, 1e-3), base)[0]
        if 1e-9 < kl < end - 1e-9:
            at = brentq(
                lambda s, kl=kl: cost(tilted(base, np.exp(s)), base)[0] - kl, -7, 40
            )
            assert gap >= cost(tilted(base, np.exp(at)), base)[1] - 1e-7
    for series in (beta_path.BEST, beta_path.ADAPTIVE):
        for kl, gap in zip(*values(points, panel, series), strict=True):
            beats = [
                gap
                + beta * kl
                - np.array([1, beta]) @ cost(tilted(base, beta), base)[::-1]
                for beta in np.geomspace(0.01, 100, 50)
            ]
            assert min(beats) > -1e-9  # J_beta is largest at pi*_beta


def test_a_mixture_with_the_mode_is_off_the_frontier():
    """Half pi_base, half its mode: the check has room to fail."""
    base = beta_path.rows(TINY, 3)["geometric"]
    mixed = 0.5 * base + 0.5 * (base == base.max())
    kl, gap = cost(mixed, base)
    at = brentq(lambda s: cost(tilted(base, np.exp(s)), base)[0] - kl, -7, 40)
    assert cost(tilted(base, np.exp(at)), base)[1] < gap - 1e-3


def test_best_of_n_pays_at_most_its_bound(points):
    for panel in beta_path.TITLES:
        paid, gaps = values(points, panel, beta_path.BEST)
        bound, same = values(points, panel, beta_path.BOUND)
        np.testing.assert_array_equal(gaps, same)
        assert (paid <= bound + 1e-12).all()
    assert beta_path.kl_bound(np.array([1.0]))[0] == 0
    # Without atoms P[best of N has rank below u] = u^N, KL = log N - (N-1)/N.
    u = (np.arange(200_000) + 0.5) / 200_000
    density = 8 * u**7
    assert beta_path.kl_bound(np.array([8.0]))[0] == pytest.approx(
        np.mean(density * np.log(density)), abs=1e-4
    )
