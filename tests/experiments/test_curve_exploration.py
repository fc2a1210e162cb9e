"""The exact offline laws against every data set; XPO against its number of rounds."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.curves.exploration import (
    CURVE,
    FAMILIES,
    Config,
    concentration,
    least,
    offline_false_hopes,
    offline_hidden_mode,
    passive_hidden_mode,
    xpo_runs,
)
from jsharp.loss import pair_regression
from jsharp.policy import freeze
from jsharp.rlhf import rlhf
from jsharp.tabular import prompts_of, table
from jsharp.update import finite_class
from theory.packing import xpo_draws

BETA = 0.2
SMALL = Config(inverse_q=(6.0,), members=3, margin=0.7)


def normalised(weights):
    return np.log(weights / weights.sum(-1, keepdims=True))


def hidden(mode, *, responses, members=3, margin=0.7):
    """log pi_base and log pi_k of the hidden mode, response by response."""
    likely = 1 + margin * np.eye(responses)[:members]
    return normalised(likely[mode]), normalised(likely ** (1 + 1 / BETA))


def hopes(*, inverse_q, members=3, margin=0.7):
    """log pi_base and log pi_k of the false hopes: z_1, z_2, y*, two common ones."""
    q = 1 / inverse_q
    common = (0.5 - (members - 1) * q) / 2
    base = np.array([q] * (members - 1) + [0.5, common, common])
    believed = np.tile(base, (members, 1))
    for k in range(members - 1):
        believed[k, k] = 0.5 * (1 + margin)
    return np.log(base), normalised(base * believed ** (1 / BETA))


def fits(base, members, n):
    """Each data set of n pairs: its probability, and the members that fit it."""
    count = len(base)
    pair = np.array(list(itertools.product(range(count), repeat=2)))
    residual = (BETA * (members - base) - base)[:, pair]
    square = (residual[..., 0] - residual[..., 1]) ** 2  # [K pairs]
    for data in itertools.product(range(len(pair)), repeat=n):
        chosen = list(data)
        weight = np.exp(base[pair[chosen]].sum())
        yield weight, square[:, chosen].sum(-1) < 1e-12


def success(base, members, truth, n):
    """P[a uniform choice among the minimisers of Eq 8 is the truth]."""
    return sum(w * fit[truth] / fit.sum() for w, fit in fits(base, members, n))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_offline_hidden_mode_against_every_data_set(n):
    cases = [hidden(mode, responses=6) for mode in range(3)]
    brute = [success(*case, truth, n) for truth, case in enumerate(cases)]
    exact = offline_hidden_mode(SMALL, 6.0, float(n))
    assert exact == pytest.approx(np.mean(brute), rel=1e-9)
    assert exact == pytest.approx(1 / 3) or n > 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_offline_false_hopes_against_every_data_set(n):
    brute = success(*hopes(inverse_q=20.0), 2, n)
    exact = offline_false_hopes(SMALL, 20.0, float(n))
    assert exact == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("m", [0, 1, 2])
def test_the_best_passive_learner_against_every_data_set(m):
    """It maximises the posterior: sum over data of max over truths of P[data]/K.

    A datum is a response and whether its likelihood is the larger one.
    """
    bases = np.array([np.exp(hidden(mode, responses=6)[0]) for mode in range(3)])
    at_mode = np.eye(6)[:3]
    chance = np.concatenate([bases * (1 - at_mode), bases * at_mode], axis=-1)
    data = itertools.product(range(12), repeat=m)
    brute = sum(chance[:, list(d)].prod(-1).max() / 3 for d in data)
    exact = passive_hidden_mode(SMALL, 6.0, float(m))
    assert exact == pytest.approx(brute, rel=1e-9)
    assert offline_hidden_mode(SMALL, 6.0, m / 2) <= exact + 1e-12


@pytest.mark.parametrize("panel", FAMILIES)
def test_lumping_keeps_residuals_and_comparisons(panel):
    """Cells sum their responses, and one member only is pi*_beta, tilted by hand."""
    config = SMALL
    with jax.enable_x64(True):
        inverse_q = 6.0 if panel == "hidden mode" else 20.0
        rng = np.random.default_rng(0)
        found = FAMILIES[panel][0](rng, config, inverse_q, runs=8)
        found = jax.tree.map(np.asarray, found)
    np.testing.assert_allclose(np.exp(found.base).sum(-1), 1)
    np.testing.assert_allclose(np.exp(found.members).sum(-1), 1)
    full = hidden(1, responses=6) if panel == "hidden mode" else hopes(inverse_q=20.0)
    lumped = np.append(full[0][:3], np.logaddexp.reduce(full[0][3:]))
    same = found.base[found.mode == (1 if panel == "hidden mode" else 2)]
    np.testing.assert_allclose(same, np.tile(lumped, (len(same), 1)))
    for run in range(8):
        reward = found.base[run] - found.size[run]
        log_ratio = found.members[run] - found.base[run]
        gap = config.beta * log_ratio - reward
        wrong = np.abs(gap - gap[:, found.mode[run], None]) > 1e-9
        right = ~wrong.any(-1)
        assert right.sum() == 1  # pi*_beta is in the class, once
        assert np.argmax(reward) == found.mode[run]
        truth = found.members[run][right][0]
        tilted = found.size[run] + (1 + 1 / config.beta) * reward
        np.testing.assert_allclose(truth - truth[0], tilted - tilted[0], atol=1e-9)
        margin = np.expm1(np.diff(np.sort(reward))[-1])
        assert margin >= config.margin - 1e-9


@pytest.mark.parametrize("panel", FAMILIES)
def test_only_rare_responses_tell_members_apart(panel):
    """C_conc = 1/q up to constants, and every member names one response of its own."""
    config = dataclasses.replace(CURVE.config, members=4)
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        found = FAMILIES[panel][0](rng, config, 1e4, runs=1)
        assert 0.9e4 < concentration(found) < 1.1e4
        best = np.asarray(found.members[0]).argmax(-1)
    assert sorted(best) == [0, 1, 2, 3]


def test_the_library_regresses_as_the_enumeration_does(key):
    """`jsharp.rlhf` on 4 pairs: its summed losses, and who fits, by hand."""
    base, members = hidden(1, responses=6)
    policy, prompts = table(1, 6), prompts_of(jnp.zeros(4, jnp.int32))
    frozen = freeze(policy, jnp.asarray(base)[None])
    algorithm = rlhf(
        policy, frozen, finite_class(jnp.asarray(members)[:, None]), beta=BETA
    )
    start = algorithm.init(jnp.asarray(base)[None], prompts)
    state, _ = jax.jit(algorithm.step)(key, start, prompts)
    pairs = np.asarray(frozen.sample(jax.random.clone(key), prompts, 2).tokens[..., 0])
    gap = (BETA * (members - base) - base)[:, pairs]
    losses = ((gap[..., 0] - gap[..., 1]) ** 2).sum(-1)
    np.testing.assert_allclose(state.inner, losses, atol=1e-4)
    one = pair_regression(
        jnp.asarray(members[0][pairs]),
        jnp.asarray(base[pairs]),
        jnp.asarray(base[pairs]),
        beta=BETA,
    )
    np.testing.assert_allclose(one, losses[0], atol=1e-4)


def test_xpo_needs_a_round_for_each_member_before_the_truth():
    """At q = 1e-6 pi_base shows nothing: y* = y_j is the answer after 1 + j rounds.

    False hopes are all tried first, as alpha > 0 prefers what is rare under pi_base.
    """
    config = dataclasses.replace(CURVE.config, members=4, runs=64)
    for panel in FAMILIES:
        with jax.enable_x64(True):
            rng, keys = (
                np.random.default_rng(1),
                jax.random.split(jax.random.key(2), 64),
            )
            found = FAMILIES[panel][0](rng, config, 1e6, runs=64)
            sharpened = np.asarray(xpo_runs(keys, found, config=config))
        expected = np.asarray(found.mode) + 2 if panel == "hidden mode" else 5
        same = xpo_draws(sharpened.T) == 2 * expected
        assert same.mean() > 0.9  # the others met a rare draw


def test_the_least_number_is_least():
    for limit in (1, 2, 3, 1000):
        assert least(lambda n, k=limit: float(n >= k), rho=0.1) == limit


def test_the_figure_separates_the_two_algorithms():
    config = dataclasses.replace(CURVE.quick, inverse_q=(1e3, 1e5), runs=100)
    with jax.enable_x64(True):
        points = CURVE.run(config, 0)
    assert {p.panel for p in points} == set(FAMILIES)
    for panel in FAMILIES:
        on = lambda start, panel=panel: [
            p.y for p in points if p.panel == panel and p.series.startswith(start)
        ]
        offline, explored = on("offline"), on("XPO (Alg 1)")
        assert offline[1] / offline[0] == pytest.approx(100, rel=0.01)
        assert max(explored) <= 2 * config.batch * (config.members + 2)
    passive = [p.y for p in points if p.series.startswith("any learner")]
    hidden_mode = [p.y for p in points if p.series.startswith("offline")][:2]
    for a, b in zip(passive, hidden_mode, strict=True):
        assert a <= b <= 1.01 * a + 2
