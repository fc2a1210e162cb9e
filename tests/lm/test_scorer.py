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

from jsharp.lm import head, huggingface, transformer
from jsharp.lm.attention import causal
from jsharp.lm.scorer import log_prob, token_log_prob, token_statistics
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
        position = jnp.broadcast_to(jnp.arange(fed.shape[-1]), fed.shape)
        hidden, _ = model(fed, position, causal())
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


def test_no_more_logits_exist_than_asked(response):
    """In the trace of value and gradient, of 72 rows of a vocabulary of 1000."""
    config = dataclasses.replace(CONFIG, vocab_size=1000, tie_word_embeddings=True)
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), config))
    total = lambda params: log_prob(
        params, PROMPTS, response, config=config, logits_at_once=7000
    ).sum()
    trace = str(jax.make_jaxpr(jax.value_and_grad(total))(params))
    shapes = re.findall(r"(?:f32|i32|bool)\[([0-9,]+)\]", trace)
    shapes = [tuple(map(int, s.split(","))) for s in shapes]
    assert not [s for s in shapes if s[-1] == 1000 and len(s) > 1]
    tiles = [math.prod(s) for s in shapes if s[0] == 72 and s[-1] > 48]
    assert tiles and max(tiles) == 72 * 91  # 11 tiles: the least number within 7000


def value_and_slope(response, tokens_at_once, remat=False):
    def total(params):
        per_token = token_log_prob(
            params,
            PROMPTS,
            response,
            config=CONFIG,
            tokens_at_once=tokens_at_once,
            remat=remat,
        )
        return (per_token * jnp.cos(jnp.arange(HORIZON))[None, None]).sum(), per_token

    return jax.jit(jax.grad(total, has_aux=True))(PARAMS)


@pytest.fixture(scope="module")
def ungrouped(response):
    return value_and_slope(response, None)


@pytest.mark.parametrize("tokens_at_once", [60, 18])
def test_grouping_changes_nothing(response, ungrouped, tokens_at_once):
    """By two prompts, and by two responses of one prompt."""
    found = value_and_slope(response, tokens_at_once)
    # Products of other shapes add float32 numbers in another order.
    chex.assert_trees_all_close(found, ungrouped, atol=1e-5, rtol=1e-4)


def test_remat_changes_nothing(response, ungrouped):
    found = value_and_slope(response, None, remat=True)
    chex.assert_trees_all_close(found, ungrouped, atol=1e-5, rtol=1e-4)


def test_remat_needs_less_memory():
    """Of six layers, in the memory that the compiled gradient asks for."""
    config = dataclasses.replace(CONFIG, num_hidden_layers=6, windows=())
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), config))
    of = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
    prompts = Prompts(of(8, 16), of(8))
    answers = Response(of(8, 1, 64), of(8, 1), jnp.zeros((8, 1)))

    def needed(remat):
        total = lambda *data: log_prob(*data, config=config, remat=remat).sum()
        program = jax.jit(jax.grad(total)).lower(params, prompts, answers)
        program = program.compile()
        return program.memory_analysis().temp_size_in_bytes

    assert needed(True) < 0.6 * needed(False)


def test_statistics_of_every_token(response):
    """Against float64 on the logits of each whole sequence."""
    run = jax.jit(functools.partial(token_statistics, config=CONFIG))
    found = run(PARAMS, PROMPTS, response)
    for b, prompt in enumerate(sequences(PROMPTS)):
        for i in range(N):
            tokens = [int(t) for t in response.tokens[b, i]]
            row = np.asarray(logits(PARAMS, prompt + tokens), np.float64)
            row = row[len(prompt) - 1 : -1]
            table = scipy.special.log_softmax(row, axis=-1)
            picked = table[range(HORIZON), tokens]
            wanted = head.Statistics(
                log_prob=picked,
                best=table.max(-1),
                entropy=scipy.special.entr(np.exp(table)).sum(-1),
                rank=(table > picked[:, None]).sum(-1),
                logsumexp=scipy.special.logsumexp(row, axis=-1),
                certainty=-np.log(table.shape[-1]) - table.mean(-1),
            )
            for x, y in zip(found, wanted, strict=True):
                np.testing.assert_allclose(x[b, i], y, atol=2e-5)


def test_padding_has_no_gradient(response):
    """Token 8 only pads: it is in no prompt and stands after every response's end."""
    prompts = Prompts(
        jnp.asarray([[3, 8, 8], [5, 2, 7], [6, 2, 8]], jnp.int32),
        jnp.asarray([1, 3, 2], jnp.int32),
    )
    tokens = jnp.where(mask(response), response.tokens % 8, 8)
    padded = response._replace(tokens=tokens)
    total = lambda params: log_prob(params, prompts, padded, config=CONFIG).sum()
    slope = jax.jit(jax.grad(total))(PARAMS)
    chex.assert_tree_all_finite(slope)
    size = np.abs(slope["embedding"]).max(-1)
    assert size[8] == 0 and (size[[2, 3, 5, 6, 7]] > 0).all()


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
