"""Thm J.1: its two counterexamples by hand, its repaired bound by a second road."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp import loop, update
from jsharp.policy import freeze
from jsharp.tabular import prompts_of, table
from jsharp.xpo import xpo
from theory.claim import QUICK, compiled, judge, one_by_one, unstack
from theory.s4_sampling import NO_CONSTANT
from theory.s4_xpo import (
    CLAIMS,
    bound,
    certified_gap,
    exact_printed,
    exploration,
    log_term,
    printed,
    small_sec,
    theorem_j1,
    theorem_j1_sampled,
)
from theory.xpo_law import answer_law, extrapolation, problem

BY_ID = {claim.id: claim for claim in CLAIMS}


def instances(id, key, batch=0):
    return unstack(BY_ID[id].attack(key, QUICK)[batch])


def test_the_small_scale_by_hand(key):
    """base = (1-q, q), pi*_beta = (1, 1)/2, other = (1, 3)/4: errata.md's formulas."""
    ratios = []
    for i in instances("Thm J.1", key):
        rounds = float(i["rounds"])
        q, c = 0.5 / rounds, rounds**-0.5
        beta = 1 / math.log((1 - q) / q)  # in units of c
        scale = 1 + beta * math.log(3 / (4 * q))
        first = (beta * math.log(3) * (3 / 4 - q)) ** 2
        second = (beta * math.log(3)) ** 2 * (3 / 4 - q / 2)
        dimension = first / scale**2 + first / second * (1 + math.log(rounds))
        length = math.log(4 * rounds / 0.1)
        gap = beta * (math.log(2) + math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)
        left, right = printed(i)
        assert left == pytest.approx(c * gap, rel=1e-9)
        expected = 1000 * c * scale * math.sqrt(dimension * length / rounds)
        assert right == pytest.approx(expected, rel=1e-9)
        ratios.append(gap / expected * 1000 * c)
    assert (np.diff(ratios) > 0).all() and ratios[-1] > 40_000


def jsharp_runs(i, keys, *, alpha):
    """y' [R T] and pi^{T+1} [R Y] of jsharp.xpo on one prompt."""
    policy, rounds = table(1, 2), int(i["rounds"])
    logits = lambda name: jnp.log(jnp.asarray(i[name]))
    reward = jnp.asarray(i["reward"])[0]
    algorithm = xpo(
        policy,
        freeze(policy, logits("base")),
        update.finite_class(logits("members")),
        alpha=float(alpha),
        beta=float(i["beta"]),
        rounds=rounds,
        reward=lambda candidates: reward[candidates.response.tokens[..., 0]],
    )
    prompts = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * rounds), prompts_of(jnp.zeros(1, jnp.int32))
    )
    run = lambda key: loop.scan(key, algorithm, logits("base"), prompts)[0]
    with jax.numpy_dtype_promotion("standard"):
        state = compiled(jax.vmap(run))(keys)
    last = np.exp(np.asarray(state.update.params)[:, 0])
    return np.asarray(state.dataset.pair.tokens[:, :, 1, 0]), last


def test_runs_at_a_small_scale_are_stuck_at_the_wrong_member(key):
    """The printed alpha at rewards of 1e-3, T = 256: pi^{T+1} is the other member.

    For all data with y' = 0 throughout, without exception. The must-fail twin: with a
    tenth of the repaired alpha, still allowed, nearly all of them end at pi*_beta.
    """
    rounds, c = 256, 1e-3
    q = 0.5 / rounds
    i = {"base": np.array([[1 - q, q]]), "reward": np.array([[0.0, c]])}
    i["members"] = np.array([[[0.25, 0.75]], [[0.5, 0.5]]])
    i |= {"mu": np.ones(1), "beta": np.array(c / math.log((1 - q) / q))}
    i |= {"rounds": np.array(rounds), "rho": np.array(0.1)}
    p = problem(i)
    found = extrapolation(i, p)
    alphas = [
        share * exploration(i, p, found, power=power)
        for share, power in ((1, -1), (0.1, 1))
    ]
    assert [certified_gap(i, p, alpha) > 0 for alpha in alphas] == [True, False]
    ends = []
    for alpha, keys in zip(alphas, jax.random.split(key, (2, 100)), strict=True):
        other, last = jsharp_runs(i, keys, alpha=alpha)
        ends.append(last[(other == 0).all(1), 0])
    stuck, free = ends
    assert len(stuck) > 20 and len(free) > 20
    np.testing.assert_allclose(stuck, 0.25, rtol=1e-5)
    assert np.isclose(free, 0.5, rtol=1e-5).mean() > 0.9


def test_the_small_sec_by_hand(key):
    """base = (2, 1)/3, beta = 1/6: pi*_beta = (128, 1)/129, the gap tends to 0.165.

    At T = 2 every other iterate follows y' = 0, of probability 2/3.
    """
    small = unstack(small_sec(QUICK))[-1]
    p = problem(small)
    star = [Fraction(128, 129), Fraction(1, 129)]
    np.testing.assert_allclose(
        small["members"][1, 0], np.array(star, float), rtol=1e-13
    )
    gap = (2 / 3 * math.log(43 / 64) + math.log(43) / 3) / 6
    assert gap == pytest.approx(0.1648, abs=1e-4)
    left, right = printed(small)
    assert left == pytest.approx(gap, rel=1e-4)
    assert left > 4 * right
    # SEC = 2 a^2/lambda at T = 2, a = h (f_0 - f_1); the claim uses its upper bound.
    h = 2.0**-17
    a = h * (math.log((2 / 3 + h) / (1 / 3 - h)) - math.log(128)) / 6
    exact = extrapolation(small, p)
    assert exact == pytest.approx(2 * a**2 / p.scale**2, rel=1e-9)
    assert right >= NO_CONSTANT * p.scale * math.sqrt(exact * log_term(small) / 2)
    alpha = exploration(small, p, exact, power=-1)
    law = answer_law(p, alpha=alpha, rounds=2)
    np.testing.assert_allclose(law, [2 / 3, 1 / 3, 0], atol=1e-5)


def test_rare_data_are_not_held_against_the_claim():
    """With rho above base_0^(T-1) = 2/3 the claim allows the failure."""
    small = unstack(small_sec(QUICK))[-1]
    for rho, certain in ((0.66, True), (0.67, False)):
        left, _ = printed(small | {"rho": np.array(rho)})
        assert (left > 0) == certain


@pytest.mark.parametrize("id", ["Thm J.1", "Thm J.1 (SEC < 1)"])
def test_decimals_and_floats_agree(key, id):
    for i in instances(id, key):
        np.testing.assert_allclose(
            printed(i), np.array(exact_printed(i), float), rtol=1e-10
        )


def test_the_bound_of_two_rounds_written_out():
    """T = 2: pi^2 is chosen from one pair; every rho is an answer's probability."""
    z, far = -1.0, 3.0
    odds = lambda t: [1 / (1 + math.exp(-t)), 1 / (1 + math.exp(t))]
    base, other, star = odds(z), odds(z + 0.1), odds(z + far)
    i = {"members": np.array([[other], [star]]), "base": np.array([base])}
    i |= {"reward": np.array([[far / 2, -far / 2]]), "mu": np.ones(1)}
    i |= {"beta": np.array(1.0), "rounds": np.array(2), "share": np.array(0.5)}
    kl = lambda p: sum(a * math.log(a / b) for a, b in zip(p, star, strict=True))
    apart = 0.1 - far  # f_0 - f_1 of the other member
    reach = max(abs(math.log(a / b)) for a, b in zip(star, base, strict=True))
    scale = far / 2 + reach
    first = ((other[0] - base[0]) * apart) ** 2
    second = (other[0] * base[1] + other[1] * base[0]) * apart**2
    dimension = first / scale**2 + first / max(scale**2, second)
    alpha = 0.5 * scale * math.sqrt(math.log(8) / (2 * dimension))
    chance = 0.0  # of the other member: y ~ pi_base, y' ~ pi_base
    for y, y_base in np.ndindex(2, 2):
        loss = alpha * math.log(other[y_base] / star[y_base])
        if loss + (y != y_base) * apart**2 < 0:
            chance += base[y] * base[y_base]
    gap = min(kl(base), kl(other))
    length = math.log(8 / chance)
    right = (4 * math.sqrt(2) * reach + math.sqrt(17 * dimension) * scale) * math.sqrt(
        length
    )
    found = theorem_j1(i)
    assert found == pytest.approx((gap, right), rel=1e-9)
    assert bound(i, problem(i), dimension, length) == pytest.approx(right, rel=1e-12)


def test_the_repaired_claims_power(key):
    """0.15 of the bound fails on T = 48; so does the term of SEC without that of V."""
    near = BY_ID["Thm J.1 (SEC < 1, repaired)"].attack(key, QUICK)[1]
    batches = [{name: a[6:12] for name, a in near.items()}]
    verdict = judge(batches, one_by_one(theorem_j1))
    assert 0.15 < verdict.tightness < 0.2
    without = judge(batches, one_by_one(partial(theorem_j1, reach=0.0)))
    assert without.outcome == "fails"


def test_alpha_matters_in_the_long_runs(key):
    """One hundred runs each: stuck for alpha = 0 at T = 2048, not as repaired."""
    hard = BY_ID["Thm J.1 (repaired)"].attack(key, QUICK)[0]
    short = {n: a[:1] for n, a in hard.items()} | {"replications": np.array([200])}
    assert theorem_j1_sampled(short, power=None).low[0] > 0.1
    assert theorem_j1_sampled(short).high[0] < 0.1
