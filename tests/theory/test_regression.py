"""The law of offline regression: enumeration, residuals, and plain tables."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from theory import quantities
from theory.families import generator
from theory.regression import (
    class_facts,
    hiding,
    instance,
    least_pairs,
    log_tilt,
    off_mass,
    parted,
    responses,
    survival,
    tilted_off,
)

GOAL = {"conc": 500.0, "gap": 1.5, "beta": 0.2, "delta": 0.3, "eps": 0.1}


def small_class(key, *, gamma=0.0):
    """Two prompts, three responses, three members: two tilt one response each."""
    rng = generator(key)
    base, mu = rng.dirichlet(np.ones(3), size=2), np.array([0.4, 0.6])
    moves = np.zeros((2, 2, 3))
    moves[0, :, 1], moves[1, 0, 2] = 1.0, -2.0
    numbers = {"beta": 0.5, "delta": 0.3, "n": 2.0}
    i = instance(np.log(base), np.log(base), mu=mu, gamma=gamma, **numbers)
    tilted = np.exp(log_tilt(i)[None, :, :3] + moves)
    others = np.log(tilted / tilted.sum(-1, keepdims=True))
    log_base = np.log(base)
    return instance(log_base, log_base, others=others, mu=mu, gamma=gamma, **numbers)


def tables(i, size):
    """pi_base, mu and the members of one-response groups, as plain tables."""
    star = log_tilt(i)[None]
    members = np.concatenate([star, i["log_others"]])[: int(i["members"]), :, :size]
    return jnp.exp(i["log_mass"][:, :size]), jnp.asarray(i["mu"]), jnp.exp(members)


def test_the_tilt_is_that_of_quantities(key):
    base, _, members = tables(small_class(key), 3)
    star = quantities.pi_star_beta(base, beta=0.5)
    np.testing.assert_allclose(members[0], star, rtol=1e-12)


def test_members_part_where_the_squared_residual_of_eq_8_is_not_zero(key):
    i = small_class(key)
    base, _, members = tables(i, 3)
    apart = parted(i)
    for k, x, y, z in itertools.product(range(3), range(2), range(3), range(3)):
        log = lambda y, k=k, x=x: float(jnp.log(members[k, x, y] / base[x, y]))
        reward = float(jnp.log(base[x, y] / base[x, z]))
        residual = 0.5 * (log(y) - log(z)) - reward
        assert apart[k, x, y, z] == (abs(residual) > 1e-9)


@pytest.mark.parametrize("bad", [[False, True, False], [False, True, True]])
def test_survival_by_enumerating_all_samples(key, bad):
    i, bad = small_class(key), np.array(bad)
    base, mu, _ = tables(i, 3)
    apart = parted(i)
    cells = list(itertools.product(range(2), range(3), range(3)))
    weight = [float(mu[x] * base[x, y] * base[x, z]) for x, y, z in cells]
    for n in (1, 2):
        total = 0.0
        for sample in itertools.product(range(len(cells)), repeat=n):
            seen = np.array([apart[:, *cells[c]] for c in sample])
            if (bad & ~seen.any(0)).any():
                total += np.prod([weight[c] for c in sample])
        found = survival(bad, apart, i).log_probability(float(n))
        assert np.exp(found) == pytest.approx(total, rel=1e-12)
        assert 0 < total < 1


def test_the_truth_always_survives_and_nobody_bad_never_does(key):
    i = small_class(key)
    law = lambda bad: survival(np.array(bad), parted(i), i)
    assert law([True, False, True]).log_probability(1e9) == 0.0
    assert law([False, False, False]).log_probability(1.0) == -np.inf


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_facts_are_the_quantities_of_section_2(key, gamma):
    i = small_class(key, gamma=gamma)
    base, mu, members = tables(i, 3)
    f = class_facts(i)
    conc = max(float(quantities.concentrability(m, base, mu)) for m in members)
    loss = max(
        float(quantities.concentrability_beta(base, m, mu, beta=0.5)) for m in members
    )
    assert float(f.conc) == pytest.approx(conc, rel=1e-12)
    assert f.log_loss == pytest.approx(np.log(loss), rel=1e-12)
    cover = [float(quantities.coverage(base, mu, gamma=g)) for g in (0.0, gamma)]
    assert f.log_cover == pytest.approx(np.log(cover[1]), rel=1e-12)
    bias = [0.5 * np.log(cover[0]), 0.5 * np.log(cover[1]) - np.log1p(-gamma)]
    assert f.least_bias == pytest.approx(min(bias), rel=1e-12)
    mass_margin = float(quantities.approximate_margin(base, mu, gamma=gamma))
    assert np.expm1(f.mass_gap) == pytest.approx(mass_margin, rel=1e-12)
    near = np.array(quantities.maximisers(base, gamma=gamma))
    top = np.array(base).max(-1, keepdims=True)
    ratios = np.where(near, np.inf, top / np.array(base))
    assert f.gap == pytest.approx(np.log(ratios.min()), rel=1e-12)
    off = np.where(near, 0.0, np.array(members)).sum(-1)
    np.testing.assert_allclose(off_mass(i), off, rtol=1e-12)


def test_groups_stand_for_their_responses():
    """Ten responses as two groups and as a table: the same facts."""
    grouped = responses([0.0, np.log(9)], [np.log(2), 0.0], beta=0.5, delta=0.3, n=1.0)
    base = jnp.array([[2.0] + [1.0] * 9]) / 11
    star = quantities.pi_star_beta(base, beta=0.5)
    f, mu = class_facts(grouped), jnp.ones(1)
    assert float(f.conc) == pytest.approx(
        float(quantities.concentrability(star, base, mu)), rel=1e-12
    )
    assert f.log_loss == pytest.approx(
        np.log(float(quantities.concentrability_beta(base, star, mu, beta=0.5))),
        rel=1e-9,
    )
    assert off_mass(grouped)[0, 0] == pytest.approx(float(1 - star[0, 0]), rel=1e-12)
    assert off_mass(grouped)[0, 0] == pytest.approx(
        tilted_off(top=2 / 11, gap=np.log(2), beta=0.5), rel=1e-12
    )
    # hidden = 1000 (1 + log(n |Y|/delta))^3 counts all ten.
    assert f.hidden == pytest.approx(1000 * (1 + np.log(10 / 0.3)) ** 3, rel=1e-9)


@pytest.mark.parametrize("wrong", [1, 3])
def test_a_hiding_class_has_what_it_was_asked_for(wrong):
    i = hiding(**GOAL, wrong=wrong)
    off = off_mass(i)
    assert float(class_facts(i).conc) == pytest.approx(500, rel=1e-9)
    assert class_facts(i).gap == pytest.approx(1.5, rel=1e-12)
    np.testing.assert_allclose(off[1:, 0], 0.3, rtol=1e-8)
    assert (off[1:, 0] > 0.3).all() and off[0, 0] < 0.3 and (off[:, 1] == 0).all()
    np.testing.assert_allclose(np.exp(i["log_others"][:wrong]).sum(-1), 1, rtol=1e-12)
    q, weight = np.exp(i["log_mass"][0, 1]), i["mu"][0]
    only = np.arange(1 + wrong) == 1
    kappa = survival(only, parted(i), i).kappa
    np.testing.assert_allclose(kappa, 2 * weight * q * (1 - q), rtol=1e-10)
    inside = i["log_mass"] > -np.inf  # a table: no response is likelier than its group
    assert ((i["log_mass"] - i["reward"])[inside] >= 0).all()


@pytest.mark.parametrize("wrong", [1, 3])
def test_least_pairs_by_the_disjoint_groups_own_formula(wrong):
    """P[no pair tells t given members] = 1 - 2 h (tq)(1-tq) + h t(t-1) q^2 ..."""
    i = hiding(**GOAL, wrong=wrong, rho=0.05)
    q, h = np.exp(i["log_mass"][0, 1]), i["mu"][0]
    # No pair on the hard prompt, or both responses in one group or both in none.
    alive = lambda t: 1 - h + h * ((1 - t * q) ** 2 + t * q**2)
    choose = {1: [1], 3: [3, 3, 1]}[wrong]
    fails = lambda n: sum(
        (-1) ** t * c * alive(t + 1) ** n for t, c in enumerate(choose)
    )
    n = least_pairs(i)
    assert fails(n) <= 0.05 * (1 + 1e-9) and fails(n - 1) > 0.05 * (1 - 1e-9)


def test_what_hiding_refuses():
    with pytest.raises(ValueError, match="expected pi\\*_beta\\(off Y\\*\\) < 0.3"):
        hiding(**(GOAL | {"beta": 50.0}))
    with pytest.raises(ValueError, match="expected C_conc that such a class can have"):
        hiding(**(GOAL | {"conc": 1.0}))


def test_no_number_of_pairs_mends_a_tilt_that_is_not_sharpened():
    i = hiding(**GOAL) | {"beta": np.array(50.0)}
    assert least_pairs(i) == np.inf
