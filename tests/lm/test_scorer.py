"""Teacher-forced log-probabilities against plain sums over whole sequences."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tiny_llama import CONFIG, HORIZON, PARAMS, PROMPTS, logits, sequences

from jsharp.lm import huggingface, transformer
from jsharp.lm.scorer import log_prob
from jsharp.policy import Prompts, Response, mask

FIXTURES = Path(__file__).parent / "fixtures"
N = 4

TRACES = []


@functools.partial(jax.jit, static_argnames="config")
def score(params, prompts, response, *, config):
    TRACES.append(config)  # runs when traced, not when called
    return log_prob(params, prompts, response, config=config)


@pytest.fixture(scope="module")
def response():
    tokens = jax.random.randint(jax.random.key(3), (3, N, HORIZON), 0, 9, jnp.int32)
    length = jnp.asarray([[1, 2, 3, 6], [6, 5, 4, 1], [2, 6, 6, 3]], jnp.int32)
    return Response(tokens, length, jnp.zeros((3, N)))


def by_hand(params, prompts, response, row=logits):
    """sum_h log softmax(logits)[y_h], one response at a time on its whole sequence."""
    total = np.zeros(response.length.shape)
    for b, prompt in enumerate(sequences(prompts)):
        for i, size in enumerate(np.asarray(response.length[b])):
            tokens = [int(t) for t in response.tokens[b, i, :size]]
            scores = np.asarray(row(params, prompt + tokens), np.float64)
            table = scipy.special.log_softmax(scores, axis=-1)
            start = len(prompt) - 1
            total[b, i] = sum(table[start + h, t] for h, t in enumerate(tokens))
    return total


def test_sums_the_tokens_up_to_and_with_the_end(response):
    found = score(PARAMS, PROMPTS, response, config=CONFIG)
    chex.assert_type(found, jnp.float32)
    wanted = by_hand(PARAMS, PROMPTS, response)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_equals_the_logits_of_transformers():
    """Prompt and response are the two halves of a sequence transformers has scored."""
    model = huggingface.load(FIXTURES / "grouped")
    expected = np.load(FIXTURES / "grouped" / "expected.npz")
    tokens = expected["tokens"]
    table = scipy.special.log_softmax(expected["logits"].astype(float), axis=-1)
    cut = 4
    wanted = sum(table[range(4), h - 1, tokens[:, h]] for h in range(cut, 11))
    prompts = Prompts(jnp.asarray(tokens[:, :cut]), jnp.full((4,), cut))
    rest = jnp.asarray(tokens[:, None, cut:])
    response = Response(rest, jnp.full((4, 1), 11 - cut), jnp.zeros((4, 1)))
    found = score(model.params, prompts, response, config=model.config)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_neither_padding_nor_neighbours_matter(response):
    """Two responses of each prompt, in the other order, with junk for padding."""
    whole = score(PARAMS, PROMPTS, response, config=CONFIG)
    junk = jax.random.randint(jax.random.key(4), (3, 9), 0, 9, jnp.int32)
    real = jnp.arange(9)[None] < PROMPTS.length[:, None]
    tokens = jnp.where(real, jnp.pad(PROMPTS.tokens, ((0, 0), (0, 4))), junk)
    flip = lambda tree: jax.tree.map(lambda a: a[::-1], tree)
    some = jax.tree.map(lambda a: a[:, 1:3], response)
    wider = flip(Prompts(tokens, PROMPTS.length))
    found = flip(score(PARAMS, wider, flip(some), config=CONFIG))
    np.testing.assert_allclose(found, whole[:, 1:3], atol=1e-5)


def test_tokens_after_the_end_do_not_count(response):
    junk = jnp.where(mask(response), response.tokens, 8)
    np.testing.assert_array_equal(
        score(PARAMS, PROMPTS, response, config=CONFIG),
        score(PARAMS, PROMPTS, response._replace(tokens=junk), config=CONFIG),
    )


@pytest.fixture(scope="module")
def whole(response):
    """Value and gradient of full-length responses, with no prefix and no chunks."""

    @jax.jit
    @jax.value_and_grad
    def total(params):
        model = transformer.merge(CONFIG, params)
        tokens = response.tokens[2:]
        fed = jnp.broadcast_to(PROMPTS.tokens[2:, None], (1, N, 5))
        fed = jnp.concatenate([fed, tokens], axis=-1)
        hidden, _ = model(fed, jnp.arange(fed.shape[-1])[None])
        table = jax.nn.log_softmax(model.logits(hidden)[:, :, 4:-1])
        return jnp.take_along_axis(table, tokens[..., None], axis=-1).sum()

    return total(PARAMS)


def test_value_and_gradient_equal_those_of_the_whole_sequence(response, whole):
    """Through the prompt's keys too, and in chunks: 24 rows are 5 chunks of 5."""
    prompts, tokens = jax.tree.map(lambda a: a[2:], (PROMPTS, response.tokens))
    full = Response(tokens, jnp.full((1, N), HORIZON), jnp.zeros((1, N)))
    total = lambda params: log_prob(
        params, prompts, full, config=CONFIG, logits_at_once=5 * CONFIG.vocab_size
    ).sum()
    value, slope = jax.jit(jax.value_and_grad(total))(PARAMS)
    np.testing.assert_allclose(value, whole[0], rtol=1e-5)
    chex.assert_tree_all_finite(slope)
    chex.assert_trees_all_close(slope, whole[1], atol=1e-4, rtol=1e-4)
    assert jnp.abs(slope["embedding"][prompts.tokens[0, 0]]).max() > 1e-3


@pytest.mark.parametrize(("logits_at_once", "most"), [(7000, 7000), (2**22, 72_000)])
def test_no_more_logits_exist_than_asked(response, logits_at_once, most):
    """In the trace of value and gradient, of 72 rows of a vocabulary of 1000."""
    config = dataclasses.replace(CONFIG, vocab_size=1000, tie_word_embeddings=True)
    params = transformer.init(jax.random.key(0), config)
    total = lambda params: log_prob(
        params, PROMPTS, response, config=config, logits_at_once=logits_at_once
    ).sum()
    trace = str(jax.make_jaxpr(jax.value_and_grad(total))(params))
    shapes = [eval(f"({s},)") for s in re.findall(r"f32\[([0-9,]+)\]", trace)]
    logits_like = [math.prod(s) for s in shapes if s[-1] == 1000 and s[0] != 16]
    assert max(logits_like) == most


def test_bfloat16_weights_give_float32_log_probs(response):
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS)
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    found = score(narrow, PROMPTS, response, config=config)
    chex.assert_type(found, jnp.float32)
    # bfloat16 keeps 8 bits: each of at most 6 tokens is off by some 2^-8 of its logits.
    wanted = score(PARAMS, PROMPTS, response, config=CONFIG)
    np.testing.assert_allclose(found, wanted, atol=0.5)


def test_a_second_call_compiles_nothing(response):
    wanted = score(PARAMS, PROMPTS, response, config=CONFIG)
    before = len(TRACES)
    moved = response._replace(tokens=(response.tokens + 1) % 9)
    found = score(PARAMS, PROMPTS, moved, config=CONFIG)
    assert before and len(TRACES) == before
    assert not np.array_equal(found, wanted)
