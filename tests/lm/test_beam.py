"""Beam search against the same search in Python, one whole sequence at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from tiny_llama import CONFIG, END, PAD, PARAMS, PROMPTS, logits, sequences

from jsharp.lm import scorer
from jsharp.lm.beam import beam
from jsharp.policy import Prompts, lengths, mask

HORIZON = 4
SIZES = dict(config=CONFIG, horizon=HORIZON, end=END, pad=PAD)
PADDED = Prompts(jnp.pad(PROMPTS.tokens, ((0, 0), (0, 3))), PROMPTS.length)
NAMES = ("config", "horizon", "end", "pad", "length_penalty")
search = jax.jit(beam, static_argnums=2, static_argnames=NAMES)


def bigrams(table):
    """A decoder whose logits of the next token are table[last, next], and no more."""
    zeroed = jax.tree.map(jnp.zeros_like, PARAMS)
    size = CONFIG.hidden_size
    embedding = jnp.eye(CONFIG.vocab_size, size)  # its norm: sqrt(size) on the diagonal
    head = jnp.asarray(table, jnp.float32).T @ embedding / size**0.5
    scale = {"scale": jnp.ones((size,))}
    return {**zeroed, "embedding": embedding, "head": head, "norm": scale}


def following(prompt, row):
    scores = np.asarray(logits(PARAMS, prompt + list(row))[-1], np.float64)
    return scipy.special.log_softmax(scores)


def plain_beam(prompt, width, penalty=0.0, horizon=HORIZON, end=END):
    """[(score, log-prob, tokens)], best first; never stops before the horizon."""
    live, done = [(0.0, ())], []
    for step in range(1, horizon + 1):
        children = [
            (total + score, (*row, token))
            for total, row in live
            for token, score in enumerate(following(prompt, row))
        ]
        children.sort(key=lambda child: -child[0])
        over = lambda child: child[1][-1] in end or step == horizon  # noqa: B023
        done += [
            (t / step**penalty, t, row) for t, row in filter(over, children[:width])
        ]
        live = [child for child in children if not over(child)][:width]
    return sorted(done, reverse=True)[:width]


def assert_equals(found, b, expected):
    rows = zip(found.tokens[b], found.length[b], strict=True)
    got = [tuple(int(t) for t in row[:size]) for row, size in rows]
    assert got[: len(expected)] == [row for _, _, row in expected]
    want = [total for _, total, _ in expected]
    np.testing.assert_allclose(found.sampler_log_prob[b, : len(want)], want, atol=2e-5)


@pytest.mark.parametrize(("width", "penalty"), [(1, 0.0), (3, 0.0), (3, 1.5), (3, -1)])
def test_equals_the_search_in_python(width, penalty):
    found = search(PARAMS, PADDED, width, length_penalty=float(penalty), **SIZES)
    assert found.tokens.shape == (3, width, HORIZON)
    for b, prompt in enumerate(sequences(PADDED)):
        assert_equals(found, b, plain_beam(prompt, width, penalty))
    np.testing.assert_array_equal(found.length, lengths(found.tokens, END))
    assert (np.asarray(found.tokens)[~np.asarray(mask(found))] == PAD).all()


def test_width_one_is_greedy():
    found = search(PARAMS, PADDED, 1, length_penalty=0.0, **SIZES)
    for b, prompt in enumerate(sequences(PADDED)):
        row: list[int] = []
        while len(row) < HORIZON and not set(row) & set(END):
            row.append(int(following(prompt, row).argmax()))
        assert [int(t) for t in found.tokens[b, 0, : found.length[b, 0]]] == row


def test_a_wide_beam_enumerates_all_responses():
    """2 end tokens of 9: 2 + 7 * 9 responses of at most 2 tokens; room for 70."""
    sizes = {**SIZES, "horizon": 2, "pad": 1}  # the pad also ends
    found = search(PARAMS, PADDED, 70, **sizes)
    for b, prompt in enumerate(sequences(PADDED)):
        assert_equals(found, b, plain_beam(prompt, 70, horizon=2))
        total = scipy.special.logsumexp(found.sampler_log_prob[b])
        np.testing.assert_allclose(total, 0, atol=1e-5)
    assert (np.asarray(found.length)[:, :65] > 0).all()
    assert (np.asarray(found.length)[:, 65:] == 0).all()
    assert (np.asarray(found.sampler_log_prob)[:, 65:] == -np.inf).all()
    assert (np.asarray(found.tokens)[:, 65:] == 1).all()


def test_the_scorer_agrees_and_padding_and_order_change_nothing():
    found = search(PARAMS, PADDED, 3, length_penalty=0.0, **SIZES)
    scored = jax.jit(scorer.log_prob, static_argnames="config")(
        PARAMS, PADDED, found, config=CONFIG
    )
    np.testing.assert_allclose(found.sampler_log_prob, scored, atol=2e-5)
    beyond = jnp.arange(8)[None] >= PADDED.length[:, None]
    other = Prompts(jnp.where(beyond, 7, PADDED.tokens)[::-1], PADDED.length[::-1])
    other = search(PARAMS, other, 3, length_penalty=0.0, **SIZES)
    np.testing.assert_array_equal(other.tokens[::-1], found.tokens)


def test_a_longer_response_may_win_by_its_length_after_one_has_finished():
    """One beam, score log pi / |y|: (1,) ends at -0.37, (2, 5, 5, 5) at -1.20 / 4.

    After two tokens the open prefix scores -0.60: to stop there would lose it.
    """
    table = np.full((9, 9), -15.0)
    table[3, [1, 2]] = np.log([0.69, 0.30])
    table[[2, 5], 5] = 15.0
    prompts = Prompts(jnp.full_like(PADDED.tokens, 3), jnp.ones_like(PADDED.length))
    found = search(bigrams(table), prompts, 1, length_penalty=1.0, **SIZES)
    np.testing.assert_array_equal(found.tokens[:, 0], [[2, 5, 5, 5]] * 3)
