"""Decoding against the same draws made one whole sequence at a time."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tiny_llama import CONFIG, END, PAD, PARAMS, PROMPTS, logits, sequences

from jsharp.lm import huggingface, sampler, scorer
from jsharp.lm.draw import Sampling
from jsharp.policy import Prompts, Response, lengths, mask, uniforms

FIXTURES = Path(__file__).parent / "fixtures"
HORIZON = 11  # two stages of the ring
# One stage where the stages are not the point: each costs a compilation.
SIZES = dict(config=CONFIG, horizon=HORIZON, end=END, pad=PAD, stages=1)
N = 8

NAMES = ("config", "end", "pad", "stages")
LAW = ("sampling", "columns")
greedy = jax.jit(sampler.greedy, static_argnames=(*NAMES, "horizon"))
rollout = jax.jit(sampler.rollout, static_argnames=(*NAMES, *LAW))
sample = jax.jit(
    sampler.sample, static_argnums=3, static_argnames=(*NAMES, *LAW, "horizon")
)
log_prob = jax.jit(scorer.log_prob, static_argnames="config")


@pytest.fixture
def keys(key):
    return jax.random.split(key, 3)


@pytest.fixture
def response(keys):
    return sample(keys, PARAMS, PROMPTS, N, **{**SIZES, "stages": 2})


def redrawn(keys, i, *, config=CONFIG, law=scipy.special.softmax):
    """Response i of each prompt, its length and its log-probability.

    `law` is handed the float64 logits of the whole sequence at every token.
    """
    u = np.asarray(uniforms(keys, 3, N, HORIZON), np.float64)[:, i]
    for b, prompt in enumerate(sequences(PROMPTS)):
        drawn, total = [], 0.0
        while len(drawn) < HORIZON and not set(drawn) & set(END):
            row = np.asarray(logits(PARAMS, prompt + drawn, config)[-1], np.float64)
            mass = law(row)
            drawn.append(int(np.searchsorted(mass.cumsum(), u[b, len(drawn)], "right")))
            total += np.log(mass[drawn[-1]])
        yield drawn + [PAD] * (HORIZON - len(drawn)), len(drawn), total


def check_redrawn(response, keys, **law):
    for i in range(N):
        tokens, length, total = zip(*redrawn(keys, i, **law), strict=True)
        np.testing.assert_array_equal(response.tokens[:, i], tokens)
        np.testing.assert_array_equal(response.length[:, i], length)
        seen = response.sampler_log_prob[:, i]
        np.testing.assert_allclose(seen, total, atol=2e-5)


def test_draws_invert_the_cdf_at_their_uniforms(keys, response):
    """The same uniforms, on the whole sequence each time, in float64."""
    check_redrawn(response, keys)


@pytest.mark.parametrize(("columns", "stages"), [(1, 1), (3, 2)])
def test_slots_refilled_draw_what_a_slot_each_draws(keys, response, columns, stages):
    """Through one slot the ring is written many times over."""
    found = sample(
        keys,
        PARAMS,
        PROMPTS,
        N,
        **{**SIZES, "columns": columns, "stages": stages},
    )
    np.testing.assert_array_equal(found.tokens, response.tokens)
    np.testing.assert_array_equal(found.length, response.length)
    seen = response.sampler_log_prob
    np.testing.assert_allclose(found.sampler_log_prob, seen, atol=1e-5)
    size = sampler.ring_sizes(HORIZON, stages)[-1]
    assert columns > 1 or response.length.sum(1).max() > 3 * size


def test_windows_hide_the_distant_past(keys, response):
    """Narrower than a prompt and than a response, in the ring and in the prefix."""
    config = dataclasses.replace(CONFIG, windows=(3, 2))
    sizes = {**SIZES, "config": config, "columns": 2}
    found = sample(keys, PARAMS, PROMPTS, N, **sizes)
    assert not np.array_equal(found.tokens, response.tokens)
    check_redrawn(found, keys, config=config)


def test_another_law_is_drawn_from_and_both_log_probs_returned(keys):
    def law(row):
        row = np.where(row < np.sort(row)[-4], -np.inf, row / 0.6)
        order = np.argsort(row)
        removed = scipy.special.softmax(row[order]).cumsum() <= 1 - 0.9
        row[order[removed]] = -np.inf
        return scipy.special.softmax(row)

    found = rollout(
        uniforms(keys, 3, N, HORIZON),
        PARAMS,
        PROMPTS,
        config=CONFIG,
        end=END,
        pad=PAD,
        sampling=Sampling(temperature=0.6, top_k=4, top_p=0.9),
        columns=3,
        stages=1,
    )
    check_redrawn(found, keys, law=law)
    response = Response(found.tokens, found.length, found.base_log_prob)
    scored = log_prob(PARAMS, PROMPTS, response, config=CONFIG)
    np.testing.assert_allclose(found.base_log_prob, scored, atol=2e-5)
    assert np.abs(found.sampler_log_prob - scored).max() > 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(columns=0), "columns: expected 1 to n = 8, got 0"),
        (dict(columns=9), "columns: expected 1 to n = 8, got 9"),
        (dict(stages=0), "stages: expected at least 1, got 0"),
    ],
)
def test_slots_and_stages_outside_their_range_are_refused(sizes, message):
    u = jnp.zeros((3, N, HORIZON))
    with pytest.raises(ValueError, match=message):
        sampler.rollout(u, PARAMS, PROMPTS, config=CONFIG, end=END, pad=PAD, **sizes)


def test_the_ring_grows_in_stages_to_the_horizon():
    assert sampler.ring_sizes(128, 4) == (32, 64, 96, 128)
    assert sampler.ring_sizes(100, 4) == (32, 64, 96, 128)
    assert sampler.ring_sizes(11, 4) == (8, 16)
    assert sampler.ring_sizes(8, 4) == (8,)
    assert sampler.ring_sizes(100, 1) == (104,)
    assert sampler.ring_sizes(63) == (64,)
    assert sampler.ring_sizes(64) == (32, 64)
    assert sampler.ring_sizes(1024) == (256, 512, 768, 1024)


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
        stages=1,
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
