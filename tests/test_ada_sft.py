"""Adaptive SFT-Sharpening: Eq 10 literally, in blocks, with honest query counts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from levels import LEVEL
from test_policy import chi_square

from jsharp import update
from jsharp.ada_sft import ada_sft, draw_until_stop
from jsharp.policy import freeze
from jsharp.tabular import prompts_of, table

P = (0.5, 0.3, 0.2)
MU = 1.3


@functools.cache
def exact_law() -> dict[tuple[int, int], float]:
    """P[N_mu = k, kept = y], walking every sequence of draws until Eq 10 stops it."""
    law: dict[tuple[int, int], float] = {}

    def walk(k, best, prob):
        if k and 1 / P[best] <= k / MU:
            law[k, best] = law.get((k, best), 0.0) + prob
            return
        for y, p in enumerate(P):
            kept = y if k == 0 or p > P[best] else best
            walk(k + 1, kept, prob * p)

    walk(0, 0, 1.0)
    return law


def drawn(key, batch, mu, block):
    policy = table(1, 3)
    base = freeze(policy, jnp.log(jnp.asarray([P], jnp.float32)))
    prompts = prompts_of(jnp.zeros(batch, jnp.int32))
    run = functools.partial(draw_until_stop, mu=mu, block=block, max_n=12)
    return jax.jit(run, static_argnums=1)(key, base, prompts)


def coded(draws) -> np.ndarray:
    """Number the outcomes (time, response) as exact_law's keys do."""
    keys = sorted(exact_law())
    pairs = zip(
        np.asarray(draws.time), np.asarray(draws.best.tokens[:, 0, 0]), strict=True
    )
    return np.array([keys.index((int(k), int(y))) for k, y in pairs])


@pytest.mark.statistical
@pytest.mark.parametrize("block", [1, 4])
def test_time_and_response_follow_eq_10(block, key):
    law = exact_law()
    pmf = np.array([law[k] for k in sorted(law)])
    assert math.isclose(pmf.sum(), 1) and len(pmf) > 3
    draws = drawn(key, 20_000, MU, block)
    assert bool(draws.stopped.all())
    assert chi_square(coded(draws), pmf) > LEVEL


def test_stopping_one_draw_late_is_seen(key):
    """The must-fail twin: k - 1 in place of k in Eq 10 moves the stopping times."""
    late = np.asarray(drawn(key, 2_000, MU, 4).time) + 1
    times = {k for k, _ in exact_law()}
    assert not set(late) <= times or chi_square_times(late) < LEVEL


def chi_square_times(times: np.ndarray) -> float:
    law = exact_law()
    every = sorted({k for k, _ in law})
    pmf = np.array([sum(p for (k, _), p in law.items() if k == t) for t in every])
    return chi_square(np.searchsorted(every, times), pmf)


def test_queries_count_draws_up_to_the_stop_only(key):
    policy = table(1, 3)
    params = jnp.log(jnp.asarray([P], jnp.float32))
    algorithm = ada_sft(
        policy,
        freeze(policy, params),
        update.finite_class(params[None]),
        mu=MU,
        block=4,
        max_n=12,
    )
    prompts = prompts_of(jnp.zeros(50, jnp.int32))
    step = jax.jit(algorithm.step)
    _, info = step(key, algorithm.init(params, prompts), prompts)
    assert int(info.queries) == int(info.time.sum()) < 50 * 12
    assert int(info.unstopped) == 0


def test_a_prompt_cut_at_max_n_is_reported(key):
    draws = drawn(key, 8, 100.0, 4)  # needs 100/0.5 draws, may take 12
    assert not bool(draws.stopped.any())
    np.testing.assert_array_equal(draws.time, np.full(8, 12))


@pytest.mark.parametrize(
    "bad",
    [
        {"mu": 0.0},
        {"mu": float("nan")},
        {"block": 0},
        {"block": 5},
        {"max_n": 0},
        {"max_n": -4},
    ],
)
def test_bad_sizes_are_refused(bad):
    sizes = {"mu": 1.0, "block": 4, "max_n": 12} | bad
    policy = table(1, 3)
    with pytest.raises(ValueError, match="expected mu > 0 and block dividing max_n"):
        ada_sft(
            policy,
            freeze(policy, jnp.zeros((1, 3))),
            update.finite_class(jnp.zeros((1, 1, 3))),
            **sizes,
        )


def test_the_fit_is_the_mle_of_the_kept_responses(key):
    """Against counts of what draw_until_stop keeps, by NumPy over a finite class."""
    policy = table(1, 3)
    params = jnp.log(jnp.asarray([P], jnp.float32))
    base = freeze(policy, params)
    members = jax.vmap(policy.init)(jax.random.split(jax.random.key(1), 20))
    prompts = prompts_of(jnp.zeros(40, jnp.int32))
    sizes = {"mu": MU, "block": 4, "max_n": 12}
    algorithm = ada_sft(policy, base, update.finite_class(members), **sizes)
    state, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    kept = draw_until_stop(key, base, prompts, **sizes)
    counts = np.bincount(np.asarray(kept.best.tokens).ravel(), minlength=3)
    likelihood = np.asarray(jax.nn.log_softmax(members), float)[:, 0] @ counts
    np.testing.assert_array_equal(state.params, members[likelihood.argmax()])
    np.testing.assert_allclose(info.loss, -likelihood.max() / 40, rtol=1e-5)
    selected = np.log(P) @ counts / 40
    np.testing.assert_allclose(info.selected_log_prob, selected, rtol=1e-5)
