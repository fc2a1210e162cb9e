"""The law of XPO: literal enumeration, the runs of jsharp.xpo, and the replication."""

import itertools
import math
from functools import partial

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
from theory import xpo_law
from theory.claim import compiled
from theory.xpo_law import answer_law, answers, problem

ALPHA = 0.2


def instance(*, prompts, responses, members, beta=0.4, seed=3):
    """The last member is pi*_beta of ML sharpening."""
    rng = np.random.default_rng(seed)
    base = rng.dirichlet(np.full(responses, 2.0), size=prompts)
    others = rng.dirichlet(np.ones(responses), size=(members - 1, prompts))
    star = base ** (1 + 1 / beta)
    star /= star.sum(-1, keepdims=True)
    return {
        "members": np.concatenate([others, star[None]]),
        "base": base,
        "reward": np.log(base),
        "mu": np.linspace(1.0, 2.0, prompts) / np.linspace(1.0, 2.0, prompts).sum(),
        "beta": np.array(beta),
    }


def literal_gap(i, pi):
    """J_beta(pi*_beta) - J_beta(pi), from the definition of J_beta (section 2)."""
    beta = float(i["beta"])

    def objective(policy):
        total = 0.0
        for x, y in np.ndindex(*policy.shape):
            p, b = policy[x, y], i["base"][x, y]
            total += i["mu"][x] * p * (i["reward"][x, y] - beta * math.log(p / b))
        return total

    return objective(i["members"][-1]) - objective(pi)


def literal_law(i, *, rounds, alpha=ALPHA, sign=1):
    """Alg 1 on every sequence of (x, y, y'), its sums written out."""
    beta, policies = float(i["beta"]), [*i["members"], i["base"]]
    gaps = [literal_gap(i, pi) for pi in policies]
    cells = list(np.ndindex(*i["base"].shape, i["base"].shape[1]))

    def residual(pi, x, y, other):
        ratio = lambda z: beta * math.log(pi[x, z] / i["base"][x, z])
        reward = i["reward"][x]
        return ratio(y) - ratio(other) - (reward[y] - reward[other])

    law = np.zeros(len(policies))
    for data in itertools.product(cells, repeat=rounds - 1):
        now = best = len(policies) - 1
        chance = 1.0
        for t in range(rounds - 1):
            x, y, other = data[t]
            chance *= i["mu"][x] * policies[now][x, y] * i["base"][x, other]
            sums = [
                sum(
                    alpha * math.log(pi[a, c]) + sign * residual(pi, a, b, c) ** 2
                    for a, b, c in data[: t + 1]
                )
                for pi in policies[:-1]
            ]
            now = int(np.argmin(sums))
            best = now if gaps[now] < gaps[best] else best
        law[best] += chance
    return law


@pytest.mark.parametrize(
    ("prompts", "responses", "members", "rounds"),
    [(1, 2, 3, 4), (1, 3, 2, 3), (2, 2, 4, 3), (1, 2, 2, 1)],
)
@pytest.mark.parametrize("alpha", [0.2, 2.0])  # residuals decide, exploration decides
def test_law_is_that_of_an_enumeration(prompts, responses, members, rounds, alpha):
    i = instance(prompts=prompts, responses=responses, members=members)
    found = answer_law(problem(i), alpha=alpha, rounds=rounds)
    expected = literal_law(i, rounds=rounds, alpha=alpha)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_the_printed_minus_has_another_law():
    i = instance(prompts=1, responses=2, members=3)
    found = answer_law(problem(i), alpha=ALPHA, rounds=4)
    assert abs(found - literal_law(i, rounds=4, sign=-1)).max() > 0.1


def test_gap_scales_and_cells_against_their_definitions():
    i = instance(prompts=2, responses=3, members=3)
    p = problem(i)
    expected = [literal_gap(i, pi) for pi in (*i["members"], i["base"])]
    np.testing.assert_allclose(p.gap, expected, atol=1e-14)
    np.testing.assert_allclose(p.draw.sum(1), 1.0, rtol=1e-13)
    assert p.reward_max == pytest.approx(-np.log(i["base"].min()))
    ratios = 0.4 * np.log(i["members"] / i["base"])
    assert p.ratio_max == pytest.approx(abs(ratios).max())
    assert abs(p.residual[-1]).max() < 1e-13  # pi*_beta fits every pair


def test_what_the_base_never_draws_is_no_cell():
    i = instance(prompts=1, responses=2, members=2)
    pad = lambda a: np.concatenate([a, np.zeros_like(a[..., :1])], -1)
    wide = i | {n: pad(i[n]) for n in ("members", "base", "reward")}
    assert problem(wide).draw.shape == (3, 4)
    np.testing.assert_allclose(problem(wide).gap, problem(i).gap, atol=1e-15)
    wide["members"] = wide["members"] + np.array([0.0, -0.01, 0.01])
    with pytest.raises(ValueError, match="expected members with the support"):
        problem(wide)


def test_the_last_member_must_be_the_tilted_policy():
    i = instance(prompts=1, responses=2, members=3) | {"rounds": np.array(3)}
    i["members"] = i["members"][::-1]
    with pytest.raises(ValueError, match=r"pi\*_beta as the last member, found gaps"):
        xpo_law.extrapolation(i, problem(i))


def test_an_enumeration_that_is_too_large_is_refused():
    p = problem(instance(prompts=1, responses=4, members=2))
    with pytest.raises(ValueError, match="found 16 cells and 40 rounds"):
        answer_law(p, alpha=ALPHA, rounds=40)


def p_value(found, law):
    """Chi-square; an answer of probability zero, if found, has p = 0."""
    counts, possible = np.bincount(found, minlength=len(law)), law > 0
    if counts[~possible].any():
        return 0.0
    expected = law[possible] * len(found)
    assert (expected > 5).all() and len(expected) > 2
    return scipy.stats.chisquare(counts[possible], expected).pvalue


@pytest.fixture(scope="module")
def few():
    """Three members; pi*_beta, another one and pi_base all occur as answers."""
    return instance(prompts=1, responses=2, members=3, seed=0)


@pytest.mark.statistical
def test_replications_follow_the_law(few):
    p = problem(few)
    rng = np.random.default_rng(1)
    draw = partial(answers, rng, alpha=ALPHA, rounds=4, replications=200_000)
    law = answer_law(p, alpha=ALPHA, rounds=4)
    assert p_value(draw(p), law) > LEVEL
    offline = p._replace(draw=np.repeat(p.draw[-1:], len(p.draw), axis=0))
    assert p_value(draw(offline), law) < LEVEL  # y ~ pi_base in every round


@pytest.fixture(scope="module")
def jsharp_runs(few):
    """4000 runs of jsharp.xpo over the same class, T = 4."""
    policy, rounds = table(1, 2), 4
    prompts = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * rounds), prompts_of(jnp.zeros(1, jnp.int32))
    )
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jnp.log(jnp.asarray(few["base"]))
        algorithm = xpo(
            policy,
            freeze(policy, params),
            update.finite_class(jnp.log(jnp.asarray(few["members"]))),
            alpha=ALPHA,
            beta=float(few["beta"]),
            rounds=rounds,
        )
        run = lambda key: loop.scan(key, algorithm, params, prompts)[0]
        keys = jax.random.split(jax.random.key(5), 4000)
        return compiled(jax.vmap(run))(keys)


def iterates(i, pairs):
    """Index of pi^1..pi^{T+1} on the pairs [R T 2] of jsharp, and the sums [R T K]."""
    p = problem(i)
    cells = pairs[..., 0] * i["base"].shape[1] + pairs[..., 1]
    sums = np.cumsum(p.losses(ALPHA).T[cells], axis=1)
    first = np.full((len(pairs), 1), len(p.gap) - 1)
    return np.concatenate([first, sums.argmin(-1)], axis=1), sums


def test_jsharp_sums_and_chooses_the_same(few, jsharp_runs):
    chosen, sums = iterates(few, np.asarray(jsharp_runs.dataset.pair.tokens[..., 0]))
    np.testing.assert_allclose(jsharp_runs.update.inner, sums[:, -1], rtol=1e-5)
    logits = np.log(few["members"])[chosen[:, -1]]
    np.testing.assert_allclose(jsharp_runs.update.params, logits, rtol=1e-6)


@pytest.mark.statistical
def test_jsharp_follows_the_law(few, jsharp_runs):
    p = problem(few)
    pairs = np.asarray(jsharp_runs.dataset.pair.tokens[..., 0])
    chosen = iterates(few, pairs)[0][:, :4]  # pi^1..pi^T
    found = chosen[np.arange(len(chosen)), p.gap[chosen].argmin(1)]
    law = lambda alpha: answer_law(p, alpha=alpha, rounds=4)
    assert p_value(found, law(ALPHA)) > LEVEL
    other = law(2 * ALPHA)
    assert abs(other - law(ALPHA)).max() > 0.05
    last = chosen[:, -1]  # the last iterate is another answer
    assert abs(np.bincount(last, minlength=4) / len(last) - law(ALPHA)).max() > 0.05


def test_one_response_is_too_few_to_estimate_which_iterate_is_best(few, jsharp_runs):
    """r(y_1) of a lucky y_1 exceeds J_beta(pi*_beta), estimated without error.

    So `state.params`, chosen by estimates from one response each, is never pi*_beta
    when y_1 is the mode, though pi*_beta was met: the claims choose by J_beta itself.
    """
    pairs = np.asarray(jsharp_runs.dataset.pair.tokens[..., 0])
    star = np.log(few["members"][-1])
    returned = np.isclose(jsharp_runs.params, star, rtol=1e-6).all((1, 2))
    met = (iterates(few, pairs)[0][:, :4] == 2).any(1)
    lucky = pairs[:, 0, 0] == few["base"][0].argmax()
    assert (met & lucky).any() and not (returned & lucky).any()
    assert (returned & met & ~lucky).any()
