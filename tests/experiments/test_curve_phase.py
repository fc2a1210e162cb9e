"""The phase diagram: each guarantee by its formula, and who wins where."""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.optimize import brentq

from experiments.curves import phase, plots
from theory.families import two_level

CONFIG = phase.Config()
CASES = [(2.0, 0.01, 0.1), (1e3, 1.0, 0.1), (1e12, 50.0, 0.01), (1e16, 1e6, 0.01)]


@pytest.mark.parametrize(("c_cov", "margin", "eps"), CASES)
def test_costs_by_formula(c_cov, margin, eps):
    delta, rho = CONFIG.delta, CONFIG.rho
    found = phase.costs(c_cov, margin, eps=eps, config=CONFIG)
    log_size = 20 + math.log(1 / rho)
    constant = 2 / (1 - 2**-0.5) ** 2
    n, draws = constant * log_size / (delta * eps / 2), 2 * c_cov / eps * math.log(20)
    assert found[phase.FIXED] == pytest.approx(n * draws)
    assert found[phase.ADAPTIVE] == pytest.approx(n / 2 * (1 + math.log(20)) * c_cov)
    size, gain = 1 + (c_cov - 1) * (1 + margin), math.log(1 + margin)
    # sqrt(C log^3(|Y||Pi|/rho)/n)/(g delta) = eps/2 at n = m/2.
    log3 = (math.log(size) + log_size) ** 3
    left = math.sqrt(c_cov * log3 * 2 / found[phase.OFFLINE]) / (gain * delta)
    assert left == pytest.approx(eps / 2)
    # beta KL <= (R+V) sqrt(SEC log(2|Pi|T/rho)/T) = beta eps delta/12 at T = m/2.
    beta, most = gain / math.log(2 * size / delta), 1 + math.log(c_cov * (1 + margin))

    def excess(log_t):
        rounds = math.exp(log_t)
        sec = CONFIG.dimension * math.log1p(rounds)
        root = math.sqrt(sec * (math.log(2 / rho) + 20 + log_t) / rounds)
        return 2 * most * root - beta * eps * delta / 12

    rounds = math.exp(brentq(excess, 10.0, 200.0, xtol=1e-12))
    assert found[phase.XPO] == pytest.approx(2 * rounds, rel=1e-8)


def test_the_instances_have_the_coverage_and_margin_asked_for():
    size = phase.responses(6.0, 0.5)
    assert size == pytest.approx(8.5)
    row = two_level(9, best=1, ratio=1 / 1.6)  # C = 1 + 8/1.6 = 6, margin 0.6
    assert phase.responses(1 / row[0], 0.6) == pytest.approx(9)
    assert 1 / row[1:] == pytest.approx(6 * 1.6)  # what R_max covers


def test_the_tilt_is_sharp_at_the_beta_of_xpo():
    """pi*_beta(Y*) >= 1-delta/2 at beta = log(1+g_m)/log(2|Y|/delta), all margins."""
    for margin in (0.01, 1.0, 100.0):
        row = two_level(50, best=1, ratio=1 / (1 + margin))
        beta = math.log1p(margin) / math.log(2 * 50 / CONFIG.delta)
        weights = (row / row[0]) ** (1 + 1 / beta)
        assert 1 / weights.sum() >= 1 - CONFIG.delta / 2


@pytest.fixture(scope="module")
def points():
    small = dataclasses.replace(phase.QUICK, steps=5, need_steps=4)
    return phase.run(small, 0)


def winners(points, panel):
    covers, margins, cost = phase.table(points, panel)
    stacked = np.stack([cost[name] for name in phase.ALGORITHMS])
    assert stacked.shape[1:] == (len(margins), len(covers))
    return np.array(phase.ALGORITHMS)[stacked.argmin(0)]


def test_who_wins_where(points):
    """Adaptive N at little coverage; XPO where coverage is vast; regression nowhere."""
    winner = winners(points, "first eps: guarantees")
    assert (winner[:, 0] == phase.ADAPTIVE).all()
    assert winner[-1, -1] == phase.XPO
    assert not np.isin(winner, [phase.FIXED, phase.OFFLINE]).any()
    # XPO's m is polylogarithmic in C: it wins from some C on, at every margin.
    assert (np.diff((winner == phase.XPO).astype(int), axis=1) >= 0).all()
    needed = winners(points, "second eps: needs")
    assert needed[-1, 0] == phase.ADAPTIVE and (needed[:, -1] == phase.XPO).all()


def test_points_survive_the_table_and_are_drawn(points):
    covers, margins, cost = phase.table(points, "second eps: guarantees")
    np.testing.assert_allclose(covers, np.geomspace(2, 1e16, 5))
    np.testing.assert_allclose(margins, np.geomspace(0.01, 1e6, 5), rtol=1e-5)
    for k, c_cov in enumerate(covers):
        direct = phase.costs(c_cov, margins[2], eps=0.01, config=phase.QUICK)
        assert {name: m[2, k] for name, m in cost.items()} == pytest.approx(direct)
    figure = plots.draw(phase.CURVE, points)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [panel.title for panel in phase.PANELS]
    plt.close(figure)


# ---- Needs


@pytest.mark.parametrize(("c_cov", "margin"), [(1.5, 0.01), (10.0, 0.3), (300.0, 40.0)])
def test_the_hard_row_has_the_coverage_and_at_least_the_margin(c_cov, margin):
    q, other, rivals = phase.hard_row(c_cov, margin, eps=0.1)
    assert q + rivals * other == pytest.approx(1)
    assert 0.8 + 0.2 / q == pytest.approx(c_cov)
    assert q / other >= (1 + margin) * (1 - 1e-12)
    assert rivals == 1 or q / (1 - q) * (rivals - 1) < 1 + margin


def mle_failure(miss, *, hard, delta, n):
    """P[ the rival is as likely ], over the counts of hard prompts and of misses."""
    total = 0.0
    for h in range(n + 1):
        for t in range(h + 1):
            mine = t * math.log(miss) + (h - t) * math.log(1 - miss)
            other = t * math.log(delta) + (h - t) * math.log(1 - delta)
            if other >= mine - 1e-9:
                weight = math.comb(n, h) * hard**h * (1 - hard) ** (n - h)
                total += weight * math.comb(h, t) * miss**t * (1 - miss) ** (h - t)
    return total


def test_fixed_need_is_the_cheapest_product_of_its_multiples():
    config = dataclasses.replace(CONFIG, delta=0.3, rho=0.2, overdraw=(1.0, 2.0))
    q, hard = 0.1, 0.4
    least = math.ceil(math.log(0.15) / math.log(0.9))
    found = []
    for draws in (least, 2 * least):
        fails = lambda n, t=0.9**draws: mle_failure(t, hard=hard, delta=0.3, n=n)
        n = next(n for n in range(1, 200) if fails(n) <= 0.2)
        assert phase.refuting_prompts(0.9**draws, eps=0.2, config=config) == n
        found.append(n * draws)
    assert phase.fixed_need(q, eps=0.2, config=config) == min(found)


def test_adaptive_need_by_summing_over_draws():
    config = dataclasses.replace(CONFIG, delta=0.3, rho=0.2)
    q, other, _ = phase.hard_row(4.0, 0.5, eps=0.2)
    threshold = math.log(2 / 0.3)
    # P[N > k]: before mu/q always, then until y* shows up or mu/p' is reached.
    survives = lambda k: (
        1.0 if k < threshold / q else (1 - q) ** k * (k < threshold / other)
    )
    mean = 0.4 * sum(survives(k) for k in range(200)) + 0.6 * math.ceil(threshold)
    miss = (1 - q) ** math.ceil(threshold / other)
    fails = lambda n: mle_failure(miss, hard=0.4, delta=0.3, n=n)
    n = next(n for n in range(1, 200) if fails(n) <= 0.2)
    found = phase.adaptive_need(q, other, eps=0.2, config=config)
    assert found == pytest.approx(n * mean)


@pytest.mark.parametrize("margin", [0.01, 1.0, 30.0])
def test_pair_needs_by_enumerating_the_pairs_that_refute(margin):
    """The residuals of tables: pi*_beta has none; the rival, on mixed pairs."""
    eps, delta, beta = 0.1, CONFIG.delta, 0.25
    q, other, rivals = phase.hard_row(3.0, margin, eps=eps)
    base = np.array([q] + [other] * rivals)
    tilted = base ** (1 + 1 / beta)
    tilted /= tilted.sum()
    rival = tilted * (1 - delta) / (1 - tilted[1])
    rival[1] = delta
    residual = lambda pi: (
        (beta * np.log(pi / base) - np.log(base))[:, None]
        - (beta * np.log(pi / base) - np.log(base))
    )
    np.testing.assert_allclose(residual(tilted), 0, atol=1e-12)
    shown = np.abs(residual(rival)) > 1e-9
    passive = 2 * eps * float(base @ shown @ base)
    active = 2 * eps * float(rival @ shown @ base)
    pairs, rounds = phase.pair_needs(other, eps=eps, config=CONFIG)
    survives = lambda t: (1 - passive) * (1 - active) ** (t - 1)
    for count, chance in (
        (pairs / 2, lambda n: (1 - passive) ** n),
        (rounds / 2, survives),
    ):
        assert chance(count) <= CONFIG.rho < chance(count - 1)
