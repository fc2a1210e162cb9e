"""Decoding against the same draws made one whole sequence at a time."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tiny_llama import CONFIG, END, HORIZON, PAD, PARAMS, PROMPTS, logits, sequences

from jsharp.lm import huggingface, sampler, scorer
from jsharp.policy import Prompts, lengths, mask, uniforms

FIXTURES = Path(__file__).parent / "fixtures"
SIZES = dict(config=CONFIG, horizon=HORIZON, end=END, pad=PAD)
N = 8

NAMES = ("config", "horizon", "end", "pad")
sample = jax.jit(sampler.sample, static_argnums=3, static_argnames=NAMES)
greedy = jax.jit(sampler.greedy, static_argnames=NAMES)
log_prob = jax.jit(scorer.log_prob, static_argnames="config")


@pytest.fixture
def keys(key):
    return jax.random.split(key, 3)


@pytest.fixture
def response(keys):
    return sample(keys, PARAMS, PROMPTS, N, **SIZES)


def test_draws_invert_the_cdf_at_their_uniforms(keys, response):
    """The same uniforms, on the whole sequence each time, in float64."""
    u = np.asarray(uniforms(keys, 3, N, HORIZON), np.float64)
    for b, prompt in enumerate(sequences(PROMPTS)):
        for i in range(N):
            drawn: list[int] = []
            while len(drawn) < HORIZON and not set(drawn) & set(END):
                row = np.asarray(logits(PARAMS, prompt + drawn)[-1], np.float64)
                mass = np.cumsum(scipy.special.softmax(row))
                drawn.append(int(np.searchsorted(mass, u[b, i, len(drawn)], "right")))
            assert response.length[b, i] == len(drawn)
            padded = drawn + [PAD] * (HORIZON - len(drawn))
            np.testing.assert_array_equal(response.tokens[b, i], padded)


def test_sampler_log_prob_equals_teacher_forcing(response):
    scored = log_prob(PARAMS, PROMPTS, response, config=CONFIG)
    np.testing.assert_allclose(response.sampler_log_prob, scored, atol=2e-5)
    assert (np.asarray(scored) < 0).all()


def test_lengths_count_the_end_token(response):
    np.testing.assert_array_equal(response.length, lengths(response.tokens, END))
    # Short, middling and cut off at the horizon: the draws exercise the cache.
    assert len(np.unique(np.asarray(response.length))) > 3


def test_padding_order_and_n_do_not_change_a_response(keys, response):
    junk = jnp.pad(PROMPTS.tokens, ((0, 0), (0, 3)), constant_values=6)
    flip = lambda tree: jax.tree.map(lambda a: a[::-1], tree)
    prompts = flip(Prompts(junk, PROMPTS.length))
    found = flip(sample(keys[::-1], PARAMS, prompts, 3, **SIZES))
    np.testing.assert_array_equal(found.tokens, response.tokens[:, :3])
    np.testing.assert_array_equal(found.length, response.length[:, :3])
    seen = response.sampler_log_prob[:, :3]
    np.testing.assert_allclose(found.sampler_log_prob, seen, atol=1e-5)


def test_more_end_tokens_cut_the_same_draws_short(keys, response):
    """The pad among them; all end, and the loop with them, before the horizon."""
    more = (0, 1, 2, 3, 4)
    found = sample(keys, PARAMS, PROMPTS, N, **{**SIZES, "end": more, "pad": 1})
    length = np.minimum(lengths(response.tokens, more), response.length)
    np.testing.assert_array_equal(found.length, length)
    assert 1 < length.max() < HORIZON and length.min() == 1
    tokens = np.where(mask(found), response.tokens, 1)
    np.testing.assert_array_equal(found.tokens, tokens)
    scored = log_prob(PARAMS, PROMPTS, found, config=CONFIG)
    np.testing.assert_allclose(found.sampler_log_prob, scored, atol=2e-5)


def test_greedy_is_the_argmax_at_every_step():
    response = greedy(PARAMS, PROMPTS, **SIZES)
    for b, prompt in enumerate(sequences(PROMPTS)):
        drawn = [int(t) for t in response.tokens[b, 0, : response.length[b, 0]]]
        table = np.asarray(logits(PARAMS, prompt + drawn))[len(prompt) - 1 : -1]
        np.testing.assert_array_equal(table.argmax(-1), drawn)
        assert drawn[-1] in END or len(drawn) == HORIZON
        seen = scipy.special.log_softmax(table.astype(float), axis=-1).max(-1).sum()
        np.testing.assert_allclose(response.sampler_log_prob[b, 0], seen, atol=2e-5)


def test_greedy_equals_generate_of_transformers():
    model = huggingface.load(FIXTURES / "grouped")
    expected = np.load(FIXTURES / "grouped" / "expected.npz")
    rows, size = expected["tokens"].shape
    padded = np.pad(expected["tokens"], ((0, 0), (0, 3)), constant_values=9)
    response = greedy(
        model.params,
        Prompts(jnp.asarray(padded), jnp.full((rows,), size)),
        config=model.config,
        horizon=expected["greedy"].shape[1],
        end=model.end,
        pad=model.pad,
    )
    np.testing.assert_array_equal(response.tokens[:, 0], expected["greedy"])


def test_one_key_for_all_prompts_and_a_second_call_that_compiles_nothing(key):
    """Two keys draw differently by the same trace."""
    traces = []

    @jax.jit
    def draw(key):
        traces.append(key)  # runs when traced, not when called
        return sampler.sample(key, PARAMS, PROMPTS, 2, **SIZES).tokens

    first, second = map(draw, jax.random.split(key))
    assert len(traces) == 1 and not np.array_equal(first, second)
