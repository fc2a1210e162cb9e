"""The contract of every policy, from table to transformer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from levels import LEVEL
from toys import TOYS

from jsharp.policy import Response, freeze, inverse_cdf, lengths, mask, select, uniforms


@pytest.fixture(scope="module", params=TOYS)
def eager(request):
    return TOYS[request.param]()


@pytest.fixture(scope="module")
def toy(eager):
    """The same policy compiled once per shape, as every user runs it."""
    policy = eager.policy
    compiled = policy._replace(
        init=jax.jit(policy.init),
        sample=jax.jit(policy.sample, static_argnums=3),
        log_prob=jax.jit(policy.log_prob),
    )
    return eager._replace(policy=compiled)


@pytest.fixture(scope="module")
def params(toy):
    return toy.policy.init(jax.random.key(7))


def index_of(response: Response, every: Response) -> np.ndarray:
    """Which of the enumerated responses each sample is, [B n]; -1 if none."""
    coded = []
    for part in (response, every):
        tokens = np.where(np.asarray(mask(part)), np.asarray(part.tokens), -1)
        coded.append(tokens)
    same = (coded[0][:, :, None] == coded[1][:, None]).all(-1)
    return np.where(same.any(-1), same.argmax(-1), -1)


def chi_square(index: np.ndarray, pmf: np.ndarray) -> float:
    """p-value of the samples of one prompt against their exact law."""
    expected = pmf * len(index)
    small = expected < 5
    observed = np.bincount(index, minlength=len(pmf))
    pool = lambda a: np.append(a[~small], a[small].sum())
    observed, expected = pool(observed), pool(expected)
    keep = expected > 0
    assert observed[~keep].sum() == 0, "a response of probability zero was drawn"
    observed, expected = observed[keep], expected[keep]
    expected *= observed.sum() / expected.sum()  # float32 mass, 1 within 1e-6
    return scipy.stats.chisquare(observed, expected).pvalue


def test_probabilities_sum_to_one(toy, params):
    log_prob = toy.policy.log_prob(params, toy.prompts, toy.every)
    chex.assert_type(log_prob, jnp.float32)
    total = np.exp(np.asarray(log_prob, float)).sum(1)
    # 64 float32 responses: the rounding of each is below 1e-6 of itself.
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_sum_is_not_one_without_the_end_token(toy, params):
    """The twin of the sum: an end token dropped from log pi(y|x) is caught by it."""
    if toy.end is None:
        pytest.skip("this policy has no end token")
    shorter = toy.every._replace(length=toy.every.length - 1)
    log_prob = toy.policy.log_prob(params, toy.prompts, shorter)
    total = np.exp(np.asarray(log_prob, float)).sum(1)
    assert (total > 1.01).all()


@pytest.mark.statistical
def test_samples_follow_log_prob(toy, params, key):
    draws = toy.policy.sample(key, params, toy.prompts, 20_000)
    pmf = np.exp(np.asarray(toy.policy.log_prob(params, toy.prompts, toy.every), float))
    index = index_of(draws, toy.every)
    assert (index >= 0).all()
    # One p-value for both prompts: the smaller, Bonferroni-corrected.
    worst = min(chi_square(index[b], pmf[b]) for b in range(2))
    assert 2 * worst > LEVEL


def test_chi_square_sees_two_percent_of_wrong_draws():
    """The must-fail twin: a sampler that ignores the law 2% of the time is rejected."""
    rng = np.random.default_rng(0)
    pmf = rng.dirichlet(np.ones(20))
    wrong = rng.random(20_000) < 0.02
    index = np.where(wrong, 0, rng.choice(20, size=20_000, p=pmf))
    pmf[0], pmf[1:] = pmf[0] / 2, pmf[1:] * (1 - pmf[0] / 2) / (1 - pmf[0])
    assert chi_square(index, pmf) < LEVEL


def test_sampler_saw_what_log_prob_says(toy, params, key):
    draws = toy.policy.sample(key, params, toy.prompts, 50)
    scored = toy.policy.log_prob(params, toy.prompts, draws)
    # Two float32 evaluations of sums of at most 3 token log-probs of order 10.
    np.testing.assert_allclose(draws.sampler_log_prob, scored, atol=2e-5)


def test_tokens_after_the_end_do_not_count(toy, params):
    inside = mask(toy.every)
    junk = toy.every._replace(tokens=jnp.where(inside, toy.every.tokens, 2))
    clean = toy.policy.log_prob(params, toy.prompts, toy.every)
    np.testing.assert_array_equal(clean, toy.policy.log_prob(params, toy.prompts, junk))
    if toy.end is not None:
        assert not np.asarray(inside).all()


def test_samples_end_at_their_first_end_token(toy, params, key):
    draws = toy.policy.sample(key, params, toy.prompts, 200)
    tokens, length = np.asarray(draws.tokens), np.asarray(draws.length)
    for row, size in zip(
        tokens.reshape(-1, tokens.shape[-1]), length.ravel(), strict=True
    ):
        kept = list(row[:size])
        if toy.end is None:
            assert size == len(row)
        else:
            assert toy.end not in kept[:-1]
            assert kept[-1] == toy.end or size == len(row)


def test_a_response_depends_only_on_its_prompts_key_and_its_index(toy, params, key):
    keys = jax.random.split(key, 2)
    four = toy.policy.sample(keys, params, toy.prompts, 4)
    swapped = jax.tree.map(lambda a: a[::-1], toy.prompts)
    two = toy.policy.sample(keys[::-1], params, swapped, 2)
    np.testing.assert_array_equal(four.tokens[:, :2], two.tokens[::-1])
    np.testing.assert_array_equal(four.length[:, :2], two.length[::-1])


def test_jit_equals_eager_and_compiles_once(eager, params, key):
    chex.clear_trace_counter()
    policy, prompts = eager.policy, eager.prompts
    once = chex.assert_max_traces(n=1)  # takes plain functions only
    sample = jax.jit(once(lambda *args: policy.sample(*args)), static_argnums=3)
    log_prob = jax.jit(once(lambda *args: policy.log_prob(*args)))
    for seed in range(2):
        draws = sample(jax.random.fold_in(key, seed), params, prompts, 8)
        scored = log_prob(params, prompts, draws)
    by_hand = policy.sample(jax.random.fold_in(key, 1), params, prompts, 8)
    np.testing.assert_array_equal(draws.tokens, by_hand.tokens)
    again = policy.log_prob(params, prompts, by_hand)
    np.testing.assert_allclose(scored, again, atol=2e-5)


def test_gradients_are_finite_and_of_the_score_mean_zero(eager, params):
    """E_pi[grad log pi] = 0: sum_y pi(y) grad log pi(y) over all responses."""

    @jax.jit
    def gradients(params):
        log_prob = lambda p: eager.policy.log_prob(p, eager.prompts, eager.every)
        one = jax.grad(lambda p: log_prob(p)[0, 0])(params)
        return one, jax.grad(lambda p: jnp.exp(log_prob(p)).sum())(params)

    one, score = gradients(params)
    chex.assert_tree_all_finite((one, score))
    size = lambda tree: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(tree))
    assert size(one) > 1e-3
    assert size(score) < 1e-5 * max(1.0, size(one))


def test_later_parameters_do_not_touch_earlier_tokens():
    """Causality by zero gradient: a response that ended at h never sees theta_{h+1}."""
    toy = TOYS["autoregressive, ends"]()
    theta = toy.policy.init(jax.random.key(0))
    grads = jax.jacobian(lambda t: toy.policy.log_prob(t, toy.prompts, toy.every))(
        theta
    )
    used = np.asarray(toy.every.length)[:, :, None] > np.arange(3)
    size = np.abs(np.asarray(grads)).max(-1)
    assert (size[~used] == 0).all() and (size[used] > 0).any()


def test_frozen_policy_gives_the_same_numbers_and_no_gradient(toy, params, key):
    frozen = freeze(toy.policy, params)
    draws = frozen.sample(key, toy.prompts, 3)
    again = toy.policy.sample(key, params, toy.prompts, 3)
    np.testing.assert_array_equal(draws.tokens, again.tokens)
    total = lambda p: freeze(toy.policy, p).log_prob(toy.prompts, draws).sum()
    grads = jax.jit(jax.grad(total))(params)
    assert all(not jnp.any(g) for g in jax.tree.leaves(grads))


def test_lengths_count_to_the_first_end_token():
    tokens = jnp.asarray([[5, 5, 5], [1, 5, 1], [5, 1, 5], [5, 5, 1]])
    np.testing.assert_array_equal(lengths(tokens, (1,)), [3, 1, 2, 3])
    np.testing.assert_array_equal(lengths(tokens, (1, 5)), [1, 1, 1, 1])


def test_select_keeps_whole_responses(key):
    toy = TOYS["autoregressive, ends"]()
    draws = toy.policy.sample(key, toy.policy.init(key), toy.prompts, 5)
    index = jnp.asarray([[3], [0]])
    kept = select(draws, index)
    for got, all_ in zip(kept, draws, strict=True):
        np.testing.assert_array_equal(got[0, 0], all_[0, 3])
        np.testing.assert_array_equal(got[1, 0], all_[1, 0])


def test_inverse_cdf_splits_the_unit_interval_by_mass():
    """Deterministic: of a fine grid of u, each token gets its mass, zeros get none."""
    mass = np.array([0.0, 0.25, 0.0, 0.5, 0.125, 0.125, 0.0])
    with np.errstate(divide="ignore"):
        logits = jnp.asarray(np.log(mass), jnp.float32)
    u = jnp.arange(4096, dtype=jnp.float32) / 4096
    u = u.at[-1].set(1 - 2**-24)
    tokens = inverse_cdf(u, jnp.broadcast_to(logits, (4096, 7)))
    share = np.bincount(np.asarray(tokens), minlength=7) / 4096
    np.testing.assert_array_equal(share, mass)


def test_uniforms_do_not_move_when_the_batch_or_the_horizon_grows(key):
    small, large = uniforms(key, 2, 3, 4), uniforms(key, 5, 7, 9)
    np.testing.assert_array_equal(small, large[:2, :3, :4])
    assert len(np.unique(np.asarray(large))) == large.size


def test_inverse_cdf_never_draws_a_token_of_zero_mass():
    """At the largest uniform, behind a tail of zeros, where rounding shows."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(20_000, 1_000)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.3] = -np.inf
    logits[:, [0, *range(900, 1_000)]] = -np.inf
    u = jnp.full(len(logits), 1 - 2**-23, jnp.float32)
    tokens = np.asarray(jax.jit(inverse_cdf)(u, jnp.asarray(logits)))
    assert np.isfinite(np.take_along_axis(logits, tokens[:, None], 1)).all()
