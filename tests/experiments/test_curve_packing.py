"""The figure of Ex J.1: its printed bound, its lines against points."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats
from levels import LEVEL

from experiments.curves.packing import CURVE, Config, theorem_draws
from theory.packing import Code, sft_draws


@pytest.mark.parametrize("dim", [1, 20, 60])
def test_the_printed_number_of_rounds_solves_its_equation(dim):
    code = Code(dim)
    rounds = theorem_draws(code, delta=0.1, rho=0.1) / 2
    size = 2.0**dim
    beta = code.margin / (2 * np.log(2 * size / 0.1))
    radius = 3 * np.log(2 * size / 0.1) / code.margin
    largest = 1 + np.log(code.coverage) + 2
    net = dim * np.log(6 * radius * rounds) + np.log(2 * rounds / 0.1)
    right = largest**2 * dim * np.log(rounds + 1) * net / (0.1 * beta) ** 2
    assert rounds == pytest.approx(right, rel=1e-9)
    # ||theta*|| = 1 meets the condition of Thm J.3 with equality.
    assert code.margin * code.radius(0.1) / (3 * np.log(2 * size / 0.1)) == (
        pytest.approx(1)
    )


@pytest.fixture(scope="module")
def points():
    config = Config(dims=(2, 8, 12, 16), runs=100)
    with jax.enable_x64(True):
        return CURVE.run(config, 3), CURVE.run(config, 3)


def test_the_figure_is_reproducible(points):
    assert points[0] == points[1]
    assert {p.panel for p in points[0]} == {panel.name for panel in CURVE.panels}
    assert all(np.isfinite(p.y) and p.y > 0 for p in points[0])


def test_measurements_keep_their_distance_to_the_exact_lines(points):
    """No split beats the best one, and the reward needs d independent differences."""
    on = lambda start: {
        p.x: p for p in points[0] if p.series.startswith(start) and p.panel == "all"
    }
    sft, best = on("SFT-Sharpening, n = 16"), on("SFT-Sharpening, best")
    least = on("SFT-Sharpening at least")
    for dim in (2.0, 8.0, 12.0, 16.0):
        assert sft[dim].high >= best[dim].y >= least[dim].y
        assert on("offline")[dim].low >= 2 * dim
        assert on("XPO")[dim].high <= 2 * (dim + 4)
        for point in (sft[dim], on("XPO")[dim]):
            assert point.low <= point.y <= point.high


@pytest.mark.statistical
def test_all_labels_but_one_are_the_mode():
    """n = 16, delta = 0.1: sharpened iff at most one sign of one label is wrong.

    (1 - 1/16) >= 0.9 > (1 - 1/16)^2. Then P = q^16 + 16 q^15 p, exact from the
    best-of-N law, where q = P[the mode] and p = P[one wrong sign].
    """
    code, n, runs = Code(12), 4000, 2000
    survival = code.log_survival()
    q = -np.expm1(n * survival[1])
    p = np.exp(n * survival[1]) - np.exp(n * survival[2])
    rng = np.random.default_rng(3)
    m = sft_draws(rng, code, labels=16, delta=0.1, runs=runs)
    done = int((m <= 16 * n).sum())
    exact = q**16 + 16 * q**15 * p
    assert 0.6 < exact < 0.7
    p = scipy.stats.binomtest(done, runs, exact).pvalue
    assert p > LEVEL
    # Planted bug: only labels that are the mode count.
    assert scipy.stats.binomtest(done, runs, q**16).pvalue < LEVEL


def test_the_quick_version_is_a_smaller_one():
    full, quick = (dataclasses.asdict(c) for c in (CURVE.config, CURVE.quick))
    assert set(quick["dims"]) <= set(full["dims"]) and quick["runs"] < full["runs"]
    assert len(full["dims"]) >= 20 and max(full["dims"]) <= 64
