"""Rotary positions against complex numbers, and their scalings against the papers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.lm.rope import Rope, angles, frequencies, rotate

LLAMA3 = Rope(
    rope_type="llama3",
    rope_theta=1e4,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
LONG = Rope(
    rope_type="longrope",
    original_max_position_embeddings=16,
    short_factor=(1.0, 1.5, 2.0),
    long_factor=(1.0, 4.0, 32.0),
    attention_factor=1.2,
)


def test_rotate_is_multiplication_by_a_unit_complex_number(key):
    x = np.asarray(jax.random.normal(key, (1, 1, 4, 2, 6)), np.float64)
    position = np.asarray([[[0, 1, 5, 300]]])
    pairs = x[..., :3] + 1j * x[..., 3:]
    angle = position[..., None, None] * 50.0 ** (-2 * np.arange(3) / 6)
    turned = pairs * np.exp(1j * angle)
    wanted = np.concatenate([turned.real, turned.imag], axis=-1)
    turn = angles(Rope(rope_theta=50.0), 6, jnp.asarray(position))
    found = rotate(jnp.float32(x), turn)
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # angles of 300 in float32


def test_a_partial_factor_leaves_the_last_coordinates_alone(key):
    x = jax.random.normal(key, (1, 2, 3, 2, 8))
    position = jnp.arange(6).reshape(1, 2, 3)
    part = Rope(partial_rotary_factor=0.5)
    found = rotate(x, angles(part, 8, position))
    np.testing.assert_array_equal(found[..., 4:], x[..., 4:])
    alone = rotate(x[..., :4], angles(Rope(), 4, position))
    np.testing.assert_allclose(found[..., :4], alone, rtol=1e-6)


def test_linear_divides_every_frequency():
    scaled = Rope(rope_type="linear", factor=4.0)
    np.testing.assert_allclose(frequencies(scaled, 8), frequencies(Rope(), 8) / 4)


def test_llama3_keeps_short_waves_and_stretches_long_ones():
    """Branch by branch, in wavelengths, as the release of Llama 3.1 states it."""
    found = frequencies(LLAMA3, 16)
    kinds = []
    for plain, frequency in zip(frequencies(Rope(), 16), found, strict=True):
        wavelength = 2 * math.pi / float(plain)
        if wavelength < 64 / 4.0:
            kinds.append("short")
            wanted = plain
        elif wavelength > 64 / 1.0:
            kinds.append("long")
            wanted = plain / 8
        else:
            kinds.append("between")
            smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
            wanted = (1 - smooth) * plain / 8 + smooth * plain
        np.testing.assert_allclose(frequency, wanted, rtol=1e-6)
    assert set(kinds) == {"short", "between", "long"}


@pytest.mark.parametrize("long", [False, True])
def test_longrope_divides_by_its_table_and_scales_what_is_turned(long):
    rope = dataclasses.replace(LONG, long_context=long)
    table = (1.0, 4.0, 32.0) if long else (1.0, 1.5, 2.0)
    wanted = frequencies(Rope(), 6) / np.asarray(table)
    np.testing.assert_allclose(frequencies(rope, 6), wanted, rtol=1e-6)
    cos, sin = angles(rope, 6, jnp.asarray([[[0, 3]]]))
    np.testing.assert_allclose(cos**2 + sin**2, np.full((1, 1, 2, 3), 1.44), rtol=1e-5)
    np.testing.assert_allclose(sin[0, 0, 1], 1.2 * np.sin(3 * wanted), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_type": "yarn"}, "rope_type: expected one of"),
        ({"rope_theta": 0.0}, "rope_theta: expected a positive number, got 0.0"),
        ({"partial_rotary_factor": 1.5}, r"partial_rotary_factor: .* got 1.5"),
        ({"rope_type": "llama3", "factor": 8.0}, "original_max_position_embeddings"),
        (
            dict(rope_type="llama3", low_freq_factor=4.0, high_freq_factor=4.0),
            "low_freq_factor: expected a positive number below high_freq_factor 4.0",
        ),
    ],
)
def test_bad_scalings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Rope(**change)


def test_a_longrope_table_of_another_size_is_refused():
    with pytest.raises(ValueError, match="short_factor: expected 4 numbers, got 3"):
        frequencies(LONG, 8)
