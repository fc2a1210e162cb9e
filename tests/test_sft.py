"""SFT-Sharpening: the data are the best of N, the fit is the exact MLE."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from levels import LEVEL
from test_policy import chi_square
from toys import TOYS

from jsharp import loop, update
from jsharp.policy import freeze
from jsharp.reward import Candidates, log_probability
from jsharp.selection import best_of_n
from jsharp.sft import sft
from jsharp.tabular import prompts_of, table


def best_of_n_law(p: np.ndarray, n: int) -> np.ndarray:
    """Law of the best of n by enumeration of all Y^n draws; the first of equals."""
    law = np.zeros(len(p))
    for draws in np.ndindex(*[len(p)] * n):
        law[max(draws, key=lambda y: p[y])] += np.prod(p[list(draws)])
    return law


P = np.array([0.3, 0.3, 0.25, 0.15])  # a tie at the top, on purpose


@pytest.mark.statistical
def test_selected_responses_follow_the_law_of_best_of_n(key):
    policy = table(1, 4)
    logits = jnp.log(jnp.asarray(P, jnp.float32))[None]
    many = prompts_of(jnp.zeros(20_000, jnp.int32))
    draws = policy.sample(key, logits, many, 3)
    log_prob = policy.log_prob(logits, many, draws)
    score = log_probability(Candidates(draws, log_prob))
    # float32 must keep the tie a tie, or the rule below it is never exercised.
    assert len(np.unique(np.asarray(score))) == 3
    chosen = jnp.take_along_axis(draws.tokens[..., 0], best_of_n(score), 1)[:, 0]
    assert chi_square(np.asarray(chosen), best_of_n_law(P, 3)) > LEVEL
    # The must-fail twin: ties to the lowest response id instead of the first drawn.
    by_id = np.asarray(draws.tokens[..., 0])
    order = np.lexsort((by_id, -np.asarray(score)), axis=1)[:, :1]
    wrong = np.take_along_axis(by_id, order, 1)[:, 0]
    assert chi_square(wrong, best_of_n_law(P, 3)) < LEVEL


def test_finite_class_fit_is_the_exact_argmax(key):
    """Against NumPy: accumulate counts over 5 steps, maximise the log-likelihood."""
    policy = table(2, 4)
    base = freeze(policy, policy.init(jax.random.key(0)))
    members = jax.vmap(policy.init)(jax.random.split(jax.random.key(1), 30))
    algorithm = sft(policy, base, update.finite_class(members), n=3)
    prompts = prompts_of(jnp.asarray([0, 1, 1]))
    state = algorithm.init(members[0], prompts)
    step = jax.jit(algorithm.step)
    counts = np.zeros((2, 4))
    for t in range(5):
        k = jax.random.fold_in(key, t)
        state, info = step(k, state, prompts)
        draws = base.sample(k, prompts, 3)
        score = np.asarray(base.log_prob(prompts, draws))
        tokens = np.asarray(draws.tokens[..., 0])
        for x, row, s in zip([0, 1, 1], tokens, score, strict=True):
            counts[x, row[s.argmax()]] += 1
        assert int(info.queries) == 9
    log_probs = np.asarray(jax.nn.log_softmax(members), float)
    likelihood = (counts[None] * log_probs).sum((1, 2))
    np.testing.assert_array_equal(state.params, members[likelihood.argmax()])
    np.testing.assert_allclose(state.inner, -likelihood, rtol=1e-5)


def test_gradient_fit_sharpens_a_multi_layer_policy(key):
    toy = TOYS["autoregressive, ends"]()
    params = toy.policy.init(jax.random.key(5))
    base = freeze(toy.policy, params)
    algorithm = sft(toy.policy, base, update.gradient(optax.adam(0.05)), n=16)
    prompts = jax.tree.map(
        lambda a: jnp.stack([jnp.tile(a, (8, 1)[: a.ndim])] * 150), toy.prompts
    )
    run = jax.jit(loop.scan, static_argnums=1)
    state, infos = run(key, algorithm, params, prompts)
    before = np.exp(base.log_prob(toy.prompts, toy.every)).max(1)
    log_prob = base.log_prob(toy.prompts, toy.every)
    top = np.asarray(log_prob).argmax(1)
    after = np.exp(toy.policy.log_prob(state.params, toy.prompts, toy.every))
    after = np.take_along_axis(after, top[:, None], 1)[:, 0]
    assert (after > before + 0.1).all()
    assert (infos.selected_log_prob > infos.mean_log_prob).all()


def test_the_reward_decides_what_is_kept(key):
    """With -log pi as the reward it is the unlikeliest candidate."""
    policy = table(1, 4)
    params = jnp.log(jnp.asarray(P, jnp.float32))[None]
    base = freeze(policy, params)
    one = update.finite_class(params[None])
    prompts = prompts_of(jnp.zeros(64, jnp.int32))
    unlikeliest = lambda candidates: -candidates.log_prob
    algorithm = sft(policy, base, one, n=5, reward=unlikeliest)
    _, info = jax.jit(algorithm.step)(key, algorithm.init(params, prompts), prompts)
    log_prob = np.asarray(base.log_prob(prompts, base.sample(key, prompts, 5)))
    np.testing.assert_allclose(
        info.selected_log_prob, log_prob.min(1).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(info.mean_log_prob, log_prob.mean(), rtol=1e-5)


def test_needs_a_response():
    policy = table(1, 2)
    base = freeze(policy, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="expected n >= 1 responses per prompt"):
        sft(policy, base, update.finite_class(jnp.zeros((1, 1, 2))), n=0)
