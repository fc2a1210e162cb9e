"""The minimax figure's numbers by a second road; no pictures."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.curves.minimax import (
    CURVE,
    Config,
    adaptive_sft_prescribed,
    lower_bounds,
    run,
    sft_prescribed,
)
from theory.claim import compiled
from theory.laws import adaptive_law, prompts_needed
from theory.minimax import Hard, fixed_error, hard, hard_coverage

TINY = Config(
    d=2, all_eps=(0.05, 0.025, 0.0125), all_c_cov=(1.0, 2.0, 4.0), all_d=(1, 2, 4)
)


@pytest.fixture(autouse=True)
def exact_numbers():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return run(TINY, 0)


def values(points, panel, series):
    return {p.x: p.y for p in points if (p.panel, p.series) == (panel, series)}


def test_every_panel_is_filled_and_nothing_is_sampled(points):
    assert {p.panel for p in points} == {panel.name for panel in CURVE.panels}
    assert all(math.isnan(p.low) and math.isnan(p.high) and p.y > 0 for p in points)
    assert points == run(replace(TINY), 1)


def test_the_optimum_meets_the_risk_and_one_query_less_does_not(points):
    for eps, m in values(points, "eps", "best non-adaptive").items():
        family = hard(eps=eps, c_cov=4.0, d=2)
        risk = lambda n, f=family: f.weight * fixed_error(f, n=n, N=1)
        assert risk(int(m)) <= eps < risk(int(m) - 1)


def test_bounds_lie_below_the_optima_and_algorithms_above(points):
    for panel in ("eps", "C", "d"):
        of = lambda series, panel=panel: np.array(
            [*values(points, panel, series).values()]
        )
        fixed, adaptive = of("best non-adaptive"), of("best adaptive")
        assert (of("Thm 3.1") <= fixed).all() and (of("Thm D.2") <= adaptive).all()
        tuned, adaptive_tuned = (
            of("SFT, best n and N"),
            of("adaptive SFT, best n and mu"),
        )
        assert (fixed <= tuned).all() and (tuned <= of("SFT, as prescribed")).all()
        assert (adaptive <= adaptive_tuned).all()
        assert (adaptive_tuned <= of("adaptive SFT, as prescribed")).all()


def test_times_the_optimum_divides_by_the_optimum_of_its_kind(points):
    for name, best in (("SFT", "non-adaptive"), ("adaptive SFT", "adaptive")):
        series = f"{name}, as prescribed"
        m, least = values(points, "eps", series), values(points, "eps", f"best {best}")
        times = values(points, "times", series)
        assert times == {x: pytest.approx(m[x] / least[x]) for x in m}


def table(family):
    size = family.size
    others = (size - 2) / (size * (size - 1))
    row = jnp.full(size, others).at[0].set(2 / size)
    mu = jnp.array([1 - family.weight, family.weight])
    return jnp.stack([jnp.zeros(size).at[0].set(1.0), row]), mu


def test_prescribed_costs_from_the_laws():
    family, eps = Hard(65, 2, 0.8), 0.05
    pi, mu = table(family)
    goal = {"class_size": 65.0**2, "rho": eps / 2, "delta": 0.5}
    fixed, adaptive = (
        f(family, eps=eps) for f in (sft_prescribed, adaptive_sft_prescribed)
    )
    assert fixed.n == float(prompts_needed(eps=eps / 4, **goal))
    assert fixed.N == math.ceil(math.log(4) * hard_coverage(family) * 4 / eps)
    assert fixed.m == fixed.n * fixed.N
    assert adaptive.n == float(prompts_needed(eps=eps / 2, **goal))
    law = compiled(lambda pi: adaptive_law(pi, mu_threshold=math.log(4)))(pi)
    assert adaptive.N == pytest.approx(float(mu @ law.mean_draws))
    assert float(law.response[1, 0]) > 0.5  # as success asks


def test_lower_bounds_by_hand():
    """C = 2, eps = 1/20, d = 3, M = 41: x = 40, log|Pi| = 3 ln 41."""
    family = hard(eps=0.05, c_cov=2.0, d=3)
    found = lower_bounds(family, eps=0.05, c_cov=2.0)
    figure = 40 * 3 * math.log(41) / (1 + math.log(40))
    assert found == {
        "Thm 3.1": pytest.approx(0.086 * 20 * figure),
        "Thm D.2": pytest.approx(0.46 * figure),
    }
