"""The contract of every algorithm on a table, and of two on a transformer, unchanged.

tests/train/test_one_step.py holds the steps of all on a transformer to it.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import TOYS

from jsharp import loop, update
from jsharp.ada_sft import ada_sft
from jsharp.policy import freeze
from jsharp.rlhf import rlhf
from jsharp.rloo import rloo
from jsharp.sft import sft
from jsharp.xpo import xpo

ROUNDS = 4
ALGORITHMS = {
    "sft": lambda p, b, u: sft(p, b, u, n=4),
    "ada_sft": lambda p, b, u: ada_sft(p, b, u, mu=1.0, block=4, max_n=16),
    "rlhf": lambda p, b, u: rlhf(p, b, u, beta=0.5),
    "xpo": lambda p, b, u: xpo(p, b, u, alpha=0.01, beta=0.5, rounds=ROUNDS),
    "rloo": lambda p, b, u: rloo(p, b, u, n=4, beta=0.5),
}


@pytest.fixture(scope="module", params=["table", "transformer"])
def toy(request):
    return TOYS[request.param]()


@pytest.fixture(scope="module")
def params(toy):
    return toy.policy.init(jax.random.key(3))


CASES = [*(("table", name) for name in ALGORITHMS)]
CASES += [("transformer", "sft"), ("transformer", "xpo")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    """(algorithm, toy, params)."""
    kind, name = request.param
    toy = TOYS[kind]()
    params = toy.policy.init(jax.random.key(3))
    tune = update.gradient(optax.adam(1e-2))
    return ALGORITHMS[name](toy.policy, freeze(toy.policy, params), tune), toy, params


def test_runs_once_compiled_and_leaves_the_base_alone(case, key):
    algorithm, toy, params = case
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(algorithm.step, n=1))
    state = algorithm.init(params, toy.prompts)
    for t in range(ROUNDS):
        state, info = step(jax.random.fold_in(key, t), state, toy.prompts)
        chex.assert_tree_all_finite(info)
        assert int(info.queries) >= 2
    chex.assert_trees_all_equal_shapes_and_dtypes(state.params, params)
    chex.assert_tree_all_finite(state.params)


def run(key, algorithm, state, prompts, rounds, start=0):
    """The host loop to its end: the last state, and every loss."""
    losses = []
    batches = [prompts] * rounds
    for _, new, info in loop.iterate(key, algorithm, state, batches, start=start):
        losses.append(float(info.loss))
        state = new
    return state, losses


def test_scan_and_host_loop_are_the_same_run(case, key):
    algorithm, toy, params = case
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * ROUNDS), toy.prompts)
    scan = jax.jit(loop.scan, static_argnums=1)
    scanned, infos = scan(key, algorithm, params, batches)
    state = algorithm.init(params, toy.prompts)
    state, losses = run(key, algorithm, state, toy.prompts, ROUNDS)
    # The same arithmetic compiled twice, over at most 4 Adam steps of 1e-2.
    np.testing.assert_allclose(infos.loss, losses, rtol=1e-3, atol=1e-4)
    chex.assert_trees_all_close(scanned.params, state.params, atol=2e-3)


def test_resuming_at_a_step_gives_the_same_bytes(case, key):
    algorithm, toy, params = case
    start = lambda: algorithm.init(params, toy.prompts)
    whole, _ = run(key, algorithm, start(), toy.prompts, ROUNDS)
    half, _ = run(key, algorithm, start(), toy.prompts, 2)
    half, _ = run(key, algorithm, half, toy.prompts, ROUNDS - 2, start=2)
    chex.assert_trees_all_equal(whole, half)
    chex.assert_tree_all_finite(params)  # donation spared the caller's buffers


# Step 0: the policy is the base. Tolerances: float32 sums of at most 3 log-probs.


def test_at_step_0_the_regression_residual_is_the_reward_gap(toy, params, key):
    base = freeze(toy.policy, params)
    algorithm = rlhf(toy.policy, base, update.gradient(optax.sgd(0.0)), beta=0.7)
    prompts = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 8), toy.prompts)
    _, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    pair = base.sample(key, prompts, 2)
    reward = np.asarray(base.log_prob(prompts, pair))
    gap = reward[:, 0] - reward[:, 1]
    assert (gap != 0).any()
    np.testing.assert_allclose(info.loss, (gap**2).mean(), rtol=1e-4)


def test_at_step_0_the_kl_is_zero(toy, params, key):
    base = freeze(toy.policy, params)
    for build in (ALGORITHMS["rloo"], ALGORITHMS["xpo"]):
        algorithm = build(toy.policy, base, update.gradient(optax.sgd(0.0)))
        state = algorithm.init(params, toy.prompts)
        _, info = jax.jit(algorithm.step)(key, state, toy.prompts)
        np.testing.assert_allclose(info.kl, 0, atol=1e-5)


def test_sampler_drift_is_logged_and_small(toy, params, key):
    base = freeze(toy.policy, params)
    algorithm = sft(toy.policy, base, update.gradient(optax.sgd(0.0)), n=8)
    _, info = jax.jit(algorithm.step)(
        key, algorithm.init(params, toy.prompts), toy.prompts
    )
    assert float(info.drift) < 2e-5
    wrong = base._replace(
        sample=lambda *a: (r := base.sample(*a))._replace(
            sampler_log_prob=r.sampler_log_prob * 0.99
        )
    )
    algorithm = sft(toy.policy, wrong, update.gradient(optax.sgd(0.0)), n=8)
    _, info = jax.jit(algorithm.step)(
        key, algorithm.init(params, toy.prompts), toy.prompts
    )
    assert float(info.drift) > 1e-3


@pytest.mark.parametrize("name", ALGORITHMS)
def test_runs_in_float64(name, key):
    """The theory's tables run under x64: no hard-wired float32 in any carry."""
    with jax.enable_x64(True):
        toy = TOYS["table"]()
        params = toy.policy.init(jax.random.key(3)).astype(jnp.float64)
        tune = update.gradient(optax.adam(1e-2))
        algorithm = ALGORITHMS[name](toy.policy, freeze(toy.policy, params), tune)
        batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), toy.prompts)
        state, info = jax.jit(loop.scan, static_argnums=1)(
            key, algorithm, params, batches
        )
        chex.assert_tree_all_finite(info)
        assert state.params.dtype == jnp.float64
