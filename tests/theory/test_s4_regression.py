"""Thm 4.2': the counterexamples in rationals, and each step of the proofs."""

from fractions import Fraction

import jax
import numpy as np
import pytest

from theory.claim import QUICK, unstack
from theory.families import generator, zoo
from theory.regression import class_facts, hiding, log_tilt, off_mass, parted, survival
from theory.s4_regression import (
    CLAIMS,
    _random,
    exact_theorem,
    noiseless,
    printed,
    repaired,
    theorem,
)

CLAIM = {claim.id: claim for claim in CLAIMS}


def tilted(weights, power):
    """pi_base and pi*_beta at beta = 1/power from integer weights, in rationals."""
    base = [Fraction(w, sum(weights)) for w in weights]
    star = [p ** (1 + power) for p in base]
    return base, [s / sum(star) for s in star]


def test_concentrability_does_not_see_what_the_tilt_misses():
    """pi_base = (2, 1 x M)/(M+2), beta = 1: all but 4/(M+4) is off Y*, C -> 1."""
    m = 400
    base, star = tilted([2] + [1] * m, 1)
    assert 1 - star[0] == Fraction(m, m + 4)
    conc = sum(s * s / p for s, p in zip(star, base, strict=True))
    assert conc == Fraction((m + 8) * (m + 2), (m + 4) ** 2)
    assert conc - 1 == Fraction(2 * m, (m + 4) ** 2) < Fraction(2, m)
    # At delta = 1/2 and n = infinity: 1 <= c beta log C/(g_m delta) < 4c/m.


def test_half_the_tilt_is_off_at_the_margin_2_to_the_j():
    """pi_base prop. to (2^j, 1 x 4^j), beta = 1: g_m = 2^j - 1, C_cov = 2^j + 1."""
    j = 4
    base, star = tilted([2**j] + [1] * 4**j, 1)
    assert star[0] == Fraction(1, 2) and 1 / base[0] == 2**j + 1
    assert base[0] / base[1] == 2**j


def test_the_mass_of_two_ties_is_a_margin_above_one():
    """pi_base = (1+s, 1+s, 1-s, 1-s)/4, s = 1/10, beta = 1."""
    base, star = tilted([11, 11, 9, 9], 1)
    assert (base[0] + base[1]) / base[2] == Fraction(22, 9)  # Asm J.2: g_m = 13/9
    assert base[0] / base[2] == Fraction(11, 9)
    assert star[2] + star[3] == Fraction(81, 202)


@pytest.mark.parametrize("id", ["Thm 4.2'", "Thm 4.2' (margin)", "Thm 4.2' (mass)"])
def test_decimals_agree_on_the_claims_own_counterexamples(key, id):
    (batch,) = CLAIM[id].attack(key, QUICK)
    sides, exact = CLAIM[id].sides(batch), CLAIM[id].exact
    assert exact is not None
    for k in (0, 3, 6):
        found = [float(side) for side in exact(unstack(batch)[k])]
        assert found == pytest.approx([sides.left[k], sides.right[k]], rel=1e-6)
        assert sides.left[k] == 1.0


def test_the_printed_right_side_by_hand(key):
    """M = 100, n = 10^6, delta = 1/2: C = 108 * 102/104^2, C_loss = 104 * 101/102^2."""
    (batch,) = CLAIM["Thm 4.2'"].attack(key, QUICK)
    _, right = theorem(unstack(batch)[0], bound=printed)
    conc, loss = 108 * 102 / 104**2, 104 * 101 / 102**2
    rate = np.sqrt(conc * np.log(loss) ** 3 / 1e6)
    hidden = 1000 * (1 + np.log(1e6 * 101 / 0.5)) ** 3
    assert right == pytest.approx(hidden * (rate + np.log(conc)) / 0.5, rel=1e-9)


@pytest.fixture
def classes(key):
    """Random instances with at least one wrong member."""
    zoo_key, key = jax.random.split(key)
    pool, rng = zoo(zoo_key, count=60, prompts=2, responses=5), generator(key)
    drawn = [_random(rng, *row) for row in zip(pool["pi"], pool["mu"], strict=True)]
    return [i for i in drawn if i["members"] > 1]


def residuals(i):
    """D_k and the probability of each (x, y, y'), from the definition."""
    log_base, reward = i["log_mass"][:, :5], i["reward"][:, :5]
    others = i["log_others"][: int(i["members"]) - 1, :, :5]
    fit = i["beta"] * (others - log_base)
    spread = lambda v: v[..., :, None] - v[..., None, :]
    base = np.exp(log_base)
    weight = i["mu"][:, None, None] * base[:, :, None] * base[:, None, :]
    return spread(reward)[None] - spread(fit), weight


def test_the_steps_of_the_noiseless_bound(classes):
    """E_mu TV <= sqrt(2 C_conc kappa), and the bias is at most B/lam."""
    tight = []
    for i in classes:
        f, (d, weight) = class_facts(i), residuals(i)
        star = np.exp(log_tilt(i))[:, :5]
        for k, residual in enumerate(d):
            kappa = weight[np.abs(residual) > 1e-7].sum()
            other = np.exp(i["log_others"][k, :, :5])
            distance = i["mu"] @ (0.5 * np.abs(other - star).sum(-1))
            bound = np.sqrt(2 * float(f.conc) * kappa)
            assert distance <= bound * (1 + 1e-9) + 1e-12
            tight.append(distance / max(bound, 1e-300))
        if np.isfinite(f.gap):
            off = i["mu"] @ off_mass(i)[0]
            assert off <= f.least_bias / f.gap * (1 + 1e-9)
    assert max(tight) > 0.3  # and no such check passes for lack of trying


def test_the_second_moment_of_the_residual(classes):
    """E D^2 <= kappa b^2 (v^2 + 4v + 8), and D is what `parted` says."""
    tight = []
    for i in classes:
        f, (d, weight) = class_facts(i), residuals(i)
        b = max(1.0, f.beta)
        for k, residual in enumerate(d):
            apart = np.zeros(len(d) + 1, bool)
            apart[k + 1] = True
            kappa = float(survival(apart, parted(i), i).kappa[0])
            assert kappa == pytest.approx(weight[np.abs(residual) > 1e-7].sum())
            if kappa == 0:
                continue
            v = 2 * (np.log(4 / kappa) + f.log_loss / b)
            moment = (weight * residual**2).sum()
            bound = kappa * b**2 * (v**2 + 4 * v + 8)
            assert moment <= bound
            tight.append(moment / bound)
    assert max(tight) > 0.01


def test_two_members_judged_at_every_rho():
    """F = (1 - kappa)^n; left is eps, right the bound at log(2/F)."""
    goal = {"conc": 1e3, "gap": 1.0, "beta": 0.05, "delta": 0.2, "eps": 0.1}
    i = hiding(**goal, wrong=1) | {"n": np.array(1e5)}
    q, h = np.exp(i["log_mass"][0, 1]), float(i["mu"][0])
    fits = np.log(2) - 1e5 * np.log1p(-2 * h * q * (1 - q))
    bias = 0.05 * np.log(1 - h + h / 0.5)
    left, right = theorem(i, bound=noiseless)
    assert left == pytest.approx(h)
    expected = (np.sqrt(2 * 1e3 * fits / 1e5) + bias) / 0.2
    assert right == pytest.approx(expected, rel=1e-8)
    _, right = theorem(i, bound=repaired)
    kappa = fits / 1e5
    v = 2 * np.log(4 * np.exp(class_facts(i).log_loss) / kappa)
    statistics = 2 * np.sqrt(1e3 * kappa * (v**2 + 4 * v + 8))
    assert right == pytest.approx((statistics + bias) / 0.2, rel=1e-8)


def test_decimals_keep_what_floats_lose(key):
    """At M = 10^40, C - 1 = 2/M is far below a float's last digit."""
    (batch,) = CLAIM["Thm 4.2'"].attack(key, QUICK)
    _, right = exact_theorem(unstack(batch)[-1], bound=printed)
    assert 0 < right < 1e-30
