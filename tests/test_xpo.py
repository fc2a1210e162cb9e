"""XPO: the accumulated dataset, the sign of Alg 1, the best iterate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsharp import loop, update
from jsharp.policy import freeze
from jsharp.tabular import prompts_of, table
from jsharp.xpo import xpo

ALPHA, BETA, ROUNDS = 0.3, 0.5, 4


def setup():
    policy = table(2, 4)
    params = policy.init(jax.random.key(0))
    members = jax.vmap(policy.init)(jax.random.split(jax.random.key(1), 25))
    prompts = prompts_of(jnp.asarray([0, 1, 0]))
    return policy, params, members, prompts


def printed_sum(sign, policy, member, base, data):
    """alpha sum log pi(y') + sign * sum residual^2, term by term."""
    total = 0.0
    for x, y, other in data:
        log_prob, log_base = (
            np.asarray(jax.nn.log_softmax(p), float) for p in (member, base)
        )
        ratio = log_prob[x] - log_base[x]
        residual = BETA * (ratio[y] - ratio[other]) - (
            log_base[x, y] - log_base[x, other]
        )
        total += ALPHA * log_prob[x, other] + sign * residual**2
    return total


def test_finite_class_minimises_over_all_data_so_far(key):
    """Against a term-by-term sum over every pair drawn in 4 rounds, sign +."""
    policy, params, members, prompts = setup()
    base = freeze(policy, params)
    algorithm = xpo(
        policy,
        base,
        update.finite_class(members),
        alpha=ALPHA,
        beta=BETA,
        rounds=ROUNDS,
    )
    step = jax.jit(algorithm.step)
    state = algorithm.init(params, prompts)
    for t in range(ROUNDS):
        state, _ = step(jax.random.fold_in(key, t), state, prompts)
        pairs = np.asarray(state.dataset.pair.tokens[: 3 * (t + 1), :, 0])
        index = np.asarray(state.dataset.prompts.tokens[: 3 * (t + 1), 0])
        data = [(x, *pair) for x, pair in zip(index, pairs, strict=True)]
        sums = [printed_sum(+1, policy, m, params, data) for m in members]
        np.testing.assert_allclose(state.update.inner, sums, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(state.update.params, members[np.argmin(sums)])
    # The must-fail twin: with the printed minus the minimiser is another member.
    minus = [printed_sum(-1, policy, m, params, data) for m in members]
    assert np.argmin(minus) != np.argmin(sums)
    assert int(state.dataset.size) == 3 * ROUNDS


def test_gradient_replays_the_whole_dataset(key):
    """One SGD step follows the mean over all filled rows, and over them only."""
    policy, params, _, prompts = setup()
    base = freeze(policy, params)
    rate = 0.1
    algorithm = xpo(
        policy,
        base,
        update.gradient(optax.sgd(rate)),
        alpha=ALPHA,
        beta=BETA,
        rounds=ROUNDS,
    )
    step = jax.jit(algorithm.step)
    state = algorithm.init(params, prompts)
    for t in range(2):
        before = state.update.params
        state, _ = step(jax.random.fold_in(key, t), state, prompts)
        size = 3 * (t + 1)
        x = state.dataset.prompts.tokens[:size, 0]
        y = state.dataset.pair.tokens[:size, :, 0]

        def mean(theta, x=x, y=y, size=size):
            log_prob = jax.nn.log_softmax(theta)[x[:, None], y]
            log_base = jax.nn.log_softmax(params)[x[:, None], y]
            gap = BETA * (log_prob - log_base) - log_base
            residual = gap[:, 0] - gap[:, 1]
            return (ALPHA * log_prob[:, 1].sum() + (residual**2).sum()) / size

        expected = before - rate * jax.grad(mean)(before)
        np.testing.assert_allclose(state.update.params, expected, atol=1e-5)


def test_first_response_is_the_current_policys_second_the_bases(key):
    """pi^t and pi_base with disjoint supports show which one drew which response."""
    policy = table(1, 4)
    params = jnp.asarray([[0.0, 0.0, -1e9, -1e9]])
    current = jnp.asarray([[-1e9, -1e9, 0.0, 0.0]])
    base = freeze(policy, params)
    prompts = prompts_of(jnp.zeros(32, jnp.int32))
    algorithm = xpo(
        policy, base, update.finite_class(current[None]), alpha=0.0, beta=BETA, rounds=1
    )
    state, info = jax.jit(algorithm.step)(
        key, algorithm.init(current, prompts), prompts
    )
    tokens = np.asarray(state.dataset.pair.tokens[..., 0])
    assert (tokens[:, 0] >= 2).all() and (tokens[:, 1] < 2).all()
    assert int(info.queries) == 64
    # r(y) - log pi(y)/pi_base(y) of y ~ pi^t: -1e9 and, times beta, another -1e9.
    np.testing.assert_allclose(info.objective, -1e9 * (1 + BETA), rtol=1e-6)


def test_the_answer_is_the_iterate_of_largest_objective(key):
    """A class with only a bad member: its J_beta is below that of pi_base."""
    policy = table(1, 3)
    params = jnp.log(jnp.asarray([[0.8, 0.1, 0.1]]))
    worse = jnp.log(jnp.asarray([[0.01, 0.01, 0.98]]))
    base = freeze(policy, params)
    prompts = prompts_of(jnp.zeros(64, jnp.int32))
    algorithm = xpo(
        policy, base, update.finite_class(worse[None]), alpha=0.0, beta=1.0, rounds=3
    )
    step = jax.jit(algorithm.step)
    state = algorithm.init(params, prompts)
    for t in range(3):
        state, info = step(jax.random.fold_in(key, t), state, prompts)
    np.testing.assert_array_equal(state.update.params, worse)
    np.testing.assert_array_equal(state.params, params)
    assert float(info.objective) < float(state.objective)


@pytest.mark.parametrize("rounds", [1, 3])
def test_dataset_has_room_for_all_rounds(rounds):
    policy, params, members, prompts = setup()
    algorithm = xpo(
        policy,
        freeze(policy, params),
        update.finite_class(members),
        alpha=ALPHA,
        beta=BETA,
        rounds=rounds,
    )
    dataset = algorithm.init(params, prompts).dataset
    assert dataset.score.shape == (3 * rounds, 2)


def test_a_better_iterate_becomes_the_answer(key):
    """The only member is pi*_beta: it is the answer once it has drawn a response."""
    policy = table(1, 3)
    params = jnp.log(jnp.asarray([[0.5, 0.3, 0.2]]))
    better = jax.nn.log_softmax(params * (1 + 1 / BETA))
    base = freeze(policy, params)
    prompts = prompts_of(jnp.zeros(64, jnp.int32))
    algorithm = xpo(
        policy,
        base,
        update.finite_class(better[None]),
        alpha=0.0,
        beta=BETA,
        rounds=2,
    )
    step = jax.jit(algorithm.step)
    state, first = step(key, algorithm.init(params, prompts), prompts)
    np.testing.assert_array_equal(state.params, params)
    state, info = step(jax.random.fold_in(key, 1), state, prompts)
    np.testing.assert_array_equal(state.params, better)
    # Every response has the same r - beta log-ratio under pi*_beta: the estimate of
    # J_beta is exact, beta log sum_y pi_base^(1+1/beta).
    exact = BETA * jax.nn.logsumexp((1 + 1 / BETA) * params)
    np.testing.assert_allclose(info.objective, exact, rtol=1e-5)
    assert float(first.kl) == 0 and float(info.kl) > 0


@pytest.mark.parametrize("rounds", [1, 2])
def test_steps_beyond_the_last_round_keep_the_scale(rounds, key):
    """The host loop donates the state, also at rounds = 1; the mean stays a mean."""
    policy, params, _, prompts = setup()
    algorithm = xpo(
        policy,
        freeze(policy, params),
        update.gradient(optax.sgd(0.1)),
        alpha=ALPHA,
        beta=BETA,
        rounds=rounds,
    )
    state = algorithm.init(params, prompts)
    for _, new, info in loop.iterate(key, algorithm, state, [prompts] * 3):
        state = new
        assert np.isfinite(info.loss)
    assert int(state.dataset.size) == 3 * rounds
    np.testing.assert_array_equal(prompts.length, [1, 1, 1])  # still the caller's


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"beta": 0.0}])
def test_bad_sizes_are_refused(bad):
    policy, params, members, _ = setup()
    sizes = {"rounds": 2, "beta": BETA} | bad
    one = update.finite_class(members)
    with pytest.raises(ValueError, match="expected rounds >= 1 and beta > 0"):
        xpo(policy, freeze(policy, params), one, alpha=ALPHA, **sizes)
