"""The figure of offline regression: its numbers by other roads."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from experiments.curves.offline import (
    CURVE,
    Config,
    needed_beta,
    offline_queries,
    printed_queries,
    sft_failure,
    sft_queries,
    sufficient_queries,
)
from theory import mle

CONFIG = Config()
SAME = {"conc": 1e3, "wrong": 1}


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return CURVE.run(CURVE.quick, 0)


def series(points, panel, name):
    return {p.x: p.y for p in points if (p.panel, p.series) == (panel, name)}


def test_the_hard_group_by_hand():
    """C_conc = 1 - h + h (v^2/q + (1-v)^2 A), n = log rho/log(1 - 2 h q (1-q))."""
    beta = 1e-3  # so small that pi*_beta is y* itself, v = delta, A = 1/top
    h, v, top = 0.1, 0.2, 0.05
    q = h * v**2 / (1e3 - (1 - h) - h * (1 - v) ** 2 / top)
    n = math.log(0.05) / math.log1p(-2 * h * q * (1 - q))
    found = offline_queries(CONFIG, margin=1.0, beta=beta, **SAME)
    assert found == pytest.approx(2 * math.ceil(n), rel=1e-6)


def test_a_tilt_that_is_not_sharpened_is_infinite():
    """(1-top)/top 2^(-1/beta) against delta/(1-delta): at beta = 0.1585 they meet."""
    meets = math.log(2) / math.log(0.95 / 0.05 * 0.8 / 0.2)
    near = lambda factor: offline_queries(
        CONFIG, margin=1.0, beta=factor * meets, **SAME
    )
    assert near(1.001) == np.inf and 1e8 < near(0.98) < np.inf


@pytest.mark.parametrize("n", [1, 5, 60])
def test_sft_failure_by_the_law_of_maximum_likelihood(n):
    config = dataclasses.replace(CONFIG, eps=0.3)
    t = (1 - config.top) ** 40
    rows = lambda off: np.array([[1 - off, off], [1.0, 0.0]])
    members = np.stack([rows(t), rows(config.delta)])
    cells = mle.cells(members[0], np.array([0.3, 0.7]), members)
    log_f = mle.log_exceedance(np.array([0.0, 1.0]), np.array([1.0]), cells, n=n)
    assert sft_failure(config, n=n, draws=40) == pytest.approx(
        float(np.exp(log_f[0])), rel=1e-9
    )


def test_sft_queries_is_a_least_m():
    """m = n N with failure(n) <= rho < failure(n-1); the grid of N starts at 45."""
    m = sft_queries(CONFIG)
    first = math.ceil(math.log(0.1) / math.log(0.95))
    fails = lambda n, draws: sft_failure(CONFIG, n=n, draws=draws) > CONFIG.rho
    assert first == 45 and fails(math.ceil(m / first) - 1, first)
    fits = [(int(m) // draws, draws) for draws in range(45, 181) if m % draws == 0]
    assert any(not fails(n, draws) and fails(n - 1, draws) for n, draws in fits)


def test_the_exact_need_is_below_the_bound_and_flat_in_the_margin(points):
    need = series(points, "margin", "offline, beta by Thm 4.2")
    enough = series(points, "margin", "16 C log(|Pi|/rho)/(delta eps)^2")
    assert need.keys() == enough.keys() == set(CURVE.quick.margins)
    assert all(need[x] < enough[x] for x in need)
    assert max(need.values()) <= min(need.values()) * (1 + 1e-6)
    bound = 16 * 1e3 * math.log(2 / 0.05) / (0.2 * 0.1) ** 2
    assert list(enough.values()) == pytest.approx([bound] * len(enough))


def test_the_printed_line_has_slope_minus_two_in_the_margin():
    at = lambda g: printed_queries(
        CONFIG, margin=g, beta=needed_beta(CONFIG, g), **SAME
    )
    assert at(1e-3) / at(1e-2) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("margin", [0.1, 10.0])
def test_the_bound_diverges_where_beta_uses_up_delta_eps(margin):
    needed = needed_beta(CONFIG, margin)
    at = lambda b: sufficient_queries(CONFIG, margin=margin, beta=b, **SAME)
    assert at(2 * needed) == np.inf
    assert at(needed) == pytest.approx(4 * at(1e-12), rel=1e-6)


def test_every_panel_has_measurements(points):
    for panel in CURVE.panels:
        kinds = {p.kind for p in points if p.panel == panel.name}
        assert "measured" in kinds and kinds - {"measured"}
    assert all(np.isfinite(p.y) and p.y > 0 for p in points)
