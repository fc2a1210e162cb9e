"""Token draws against the probability mass function, by brute force in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jsharp.lm.draw import BASE, Sampling, draw, truncated

LAST = 1 - 2**-24  # the largest float32 below 1
drawn = jax.jit(draw, static_argnames="sampling")


def peaked(shape, seed=0, scale=3.0):
    """Logits with a third of the tokens impossible, the first and last among them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=shape).astype(np.float32)
    logits[rng.random(shape) < 0.3] = -np.inf
    logits[..., 0] = logits[..., -1] = -np.inf
    return logits


def kept(logits, sampling):
    """The scores after temperature, top_k and top_p, by sorts, as transformers does."""
    scores = logits.astype(np.float64) / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores[scores < np.sort(scores)[-sampling.top_k]] = -np.inf
    if sampling.top_p < 1:
        order = np.argsort(scores, kind="stable")
        removed = scipy.special.softmax(scores[order]).cumsum() <= 1 - sampling.top_p
        removed[-1] = False
        scores[order[removed]] = -np.inf
    return scores


@pytest.mark.parametrize("size", [1, 2, 37, 64])
def test_each_token_has_an_interval_of_u_as_long_as_its_mass(size):
    """A fine grid of u: blocks whole and cut, a vocabulary of one token."""
    logits = peaked(size) if size > 2 else np.zeros(size, np.float32)
    grid = 2**14
    u = (np.arange(grid, dtype=np.float32) + 0.5) / grid
    found = drawn(u, jnp.broadcast_to(logits, (grid, size)))
    tokens = np.asarray(found.token)
    mass = scipy.special.softmax(logits.astype(np.float64))
    share = np.bincount(tokens, minlength=size)
    assert (np.diff(tokens) >= 0).all()
    assert (np.abs(share - mass * grid) <= 1).all()
    np.testing.assert_array_equal(
        tokens, np.searchsorted(mass.cumsum(), u.astype(np.float64), "right")
    )
    np.testing.assert_allclose(
        found.base_log_prob, scipy.special.log_softmax(logits)[tokens], atol=1e-5
    )
    np.testing.assert_array_equal(found.base_log_prob, found.sampler_log_prob)


def test_a_vocabulary_of_128k():
    """The last rows' mass lies in one block, wide enough for its sums to be uneven."""
    logits = peaked((64, 131_072))
    logits[24:, :512] = logits[24:, 900:] = -np.inf
    u = np.full(64, LAST, np.float32)
    u[:24] = np.linspace(0, LAST, 24)
    found = drawn(u, logits)
    mass = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    rows = np.arange(64), found.token
    up_to, own = mass.cumsum(-1)[rows], mass[rows]
    assert (own > 0).all()
    assert (up_to > u - 1e-6).all() and (up_to - own < u + 1e-6).all()
    np.testing.assert_allclose(found.base_log_prob, np.log(own), atol=1e-5)


@pytest.mark.parametrize("u", [0.0, 2**-23, LAST])
def test_no_token_of_zero_mass_at_either_edge(u):
    """Behind tails of zeros, where rounding shows, and where one token has all mass."""
    logits = peaked((4_000, 1_000))
    logits[:, 900:] = -np.inf
    logits[:1000] -= 60.0  # whatever the scale of the masses
    logits[1000:3000, :33] = logits[1000:3000, 64:] = -np.inf  # all mass in one block
    logits[-1] = -np.inf
    logits[-1, 333] = -2.0
    found = drawn(jnp.full(len(logits), u, jnp.float32), logits)
    assert np.isfinite(
        np.take_along_axis(logits, np.asarray(found.token)[:, None], 1)
    ).all()
    assert found.token[-1] == 333 and found.base_log_prob[-1] == 0.0
    if u == 0:
        np.testing.assert_array_equal(found.token, np.isfinite(logits).argmax(-1))


LAWS = [
    Sampling(temperature=0.5),
    Sampling(top_k=3),
    Sampling(top_k=500),
    Sampling(top_p=0.7),
    Sampling(top_p=1e-6),
    Sampling(top_p=0.999),
    Sampling(temperature=1.7, top_k=9, top_p=0.85),
]


@pytest.mark.parametrize("sampling", LAWS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_truncation_keeps_what_the_sorted_definition_keeps(sampling, ties):
    logits = peaked((60, 53), seed=1)
    if ties:
        logits = np.where(np.isinf(logits), logits, np.round(logits / 2) * 2)
    found = np.asarray(jax.jit(truncated, static_argnums=1)(logits, sampling))
    expected = np.stack([kept(row, sampling) for row in logits])
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.isfinite(found).any(-1).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_both_log_probs_of_a_tempered_truncated_draw():
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.9)
    logits = peaked((500, 40), seed=2, scale=1.0)
    u = np.random.default_rng(3).random(500, np.float32)
    found = drawn(u, logits, sampling=sampling)
    law = np.stack([scipy.special.softmax(kept(row, sampling)) for row in logits])
    expected = [
        np.searchsorted(c, x, "right") for c, x in zip(law.cumsum(-1), u, strict=True)
    ]
    np.testing.assert_array_equal(found.token, expected)
    rows = np.arange(500), found.token
    np.testing.assert_allclose(found.sampler_log_prob, np.log(law[rows]), atol=2e-6)
    base = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)[rows]
    np.testing.assert_allclose(found.base_log_prob, base, atol=2e-6)
    assert np.abs(found.sampler_log_prob - base).max() > 0.1


def test_temperature_zero_is_the_argmax_whatever_u():
    logits = peaked((50, 20))
    logits[:, [4, 7]] = 30.0  # ties go to the lowest id
    found = drawn(jnp.full(50, LAST), logits, sampling=Sampling(temperature=0.0))
    assert (np.asarray(found.token) == 4).all()
    np.testing.assert_allclose(found.base_log_prob, np.log(0.5), atol=1e-5)
    np.testing.assert_array_equal(found.sampler_log_prob, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
    ],
)
def test_a_law_that_is_none_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected .* got {value!r}"):
        Sampling(**{field: value})
    assert Sampling() == BASE
