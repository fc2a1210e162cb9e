"""Rotary position embedding and its long-context scalings (arXiv 2104.09864).

The pair (x_i, x_{i + r/2}) of the first r coordinates of a head is turned by the angle

    position * frequency_i,     frequency_i = theta^(-2i/r) in the default kind
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

KINDS = ("default", "linear", "llama3", "longrope")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """How positions turn heads, under the names of a Hugging Face rope_parameters.

    linear    frequency / factor (arXiv 2306.15595)
    llama3    frequency / factor where the wavelength exceeds original / low_freq_factor
              positions, unchanged below original / high_freq_factor, blended between
    longrope  frequency / short_factor_i, or / long_factor_i in a long context; turned
              vectors are scaled by attention_factor (arXiv 2402.13753)

    `long_context` chooses between the two tables of longrope once for the whole model.
    (transformers chooses anew for each call by the longest sequence in it, which makes
    the probability of a token depend on what is fed after it.)
    """

    rope_type: str = "default"
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 1.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 0
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    attention_factor: float = 1.0
    long_context: bool = False

    def __post_init__(self):
        if self.rope_type not in KINDS:
            raise ValueError(
                f"rope_type: expected one of {KINDS}, got {self.rope_type!r}"
            )
        for name in ("rope_theta", "factor", "attention_factor"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value!r}")
        if not 0 < self.partial_rotary_factor <= 1:
            raise ValueError(
                "partial_rotary_factor: expected a number in (0, 1], "
                f"got {self.partial_rotary_factor!r}"
            )
        if self.rope_type == "llama3" and not (
            0 < self.low_freq_factor < self.high_freq_factor
        ):
            raise ValueError(
                "low_freq_factor: expected a positive number below high_freq_factor "
                f"{self.high_freq_factor}, got {self.low_freq_factor}"
            )
        scaled = self.rope_type in ("llama3", "longrope")
        if scaled and self.original_max_position_embeddings < 1:
            raise ValueError(
                "original_max_position_embeddings: expected a positive number, "
                f"got {self.original_max_position_embeddings}"
            )

    def rotated(self, head_dim: int) -> int:
        """How many coordinates of a head are turned (the r of the formulas)."""
        return int(head_dim * self.partial_rotary_factor)


def frequencies(rope: Rope, head_dim: int) -> Float[np.ndarray, " r2"]:
    """Radians per position of each turned pair, computed in float32 as peers do."""
    size = rope.rotated(head_dim)
    exponent = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    plain = np.float32(1) / np.float32(rope.rope_theta) ** exponent
    if rope.rope_type == "linear":
        return plain / np.float32(rope.factor)
    if rope.rope_type == "llama3":
        return _llama3(rope, plain)
    if rope.rope_type == "longrope":
        name = "long_factor" if rope.long_context else "short_factor"
        table = np.asarray(getattr(rope, name), np.float32)
        if table.shape != plain.shape:
            raise ValueError(f"{name}: expected {len(plain)} numbers, got {len(table)}")
        return plain / table
    return plain


def _llama3(rope: Rope, plain: Float[np.ndarray, " r2"]) -> Float[np.ndarray, " r2"]:
    turns = rope.original_max_position_embeddings * plain / np.float32(2 * math.pi)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - kept) * plain / rope.factor + kept * plain).astype(np.float32)


def angles(
    rope: Rope, head_dim: int, position: Int[Array, "B n T"]
) -> tuple[Float[Array, "B n T r2"], Float[Array, "B n T r2"]]:
    """Cosine and sine of each position's angles, scaled by the attention factor."""
    frequency = jnp.asarray(frequencies(rope, head_dim))
    angle = position.astype(jnp.float32)[..., None] * frequency[None, None, None]
    scale = rope.attention_factor if rope.rope_type == "longrope" else 1.0
    # Through a product with 1, exact in float32: XLA would compute cosines and sines
    # again for each head of each layer that turns by them, but not across a product.
    one = jnp.eye(len(frequency))
    once = lambda a: jnp.einsum("bnti,ij->bntj", a * scale, one, precision="highest")
    return once(jnp.cos(angle)), once(jnp.sin(angle))


def rotate(
    x: Float[Array, "B n T *m h"],
    turn: tuple[Float[Array, "B n T r2"], Float[Array, "B n T r2"]],
) -> Float[Array, "B n T *m h"]:
    """Turn the leading r coordinates of every head by its position's angles."""
    spread = lambda a: a.reshape(*a.shape[:3], *(1,) * (x.ndim - 4), a.shape[-1])
    cos, sin = map(spread, turn)
    half = cos.shape[-1]
    left, right, rest = jnp.split(x.astype(jnp.float32), (half, 2 * half), axis=-1)
    turned = [left * cos - right * sin, right * cos + left * sin, rest]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
