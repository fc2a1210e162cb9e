"""One axis at a time in blocks, so that what a block computes exists once at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_blocks(function: Callable[..., Any], most: int, axis: int, *arrays: Any) -> Any:
    """function(*arrays), on blocks of at most `most` of `axis`, one after another.

    `arrays` and the result are pytrees of arrays that share the axis, and the function
    must treat each entry of the axis alone. Blocks are of equal size: the last one may
    repeat the last entry, whose surplus results are dropped (and have no gradient).
    """
    size = jax.tree.leaves(arrays)[0].shape[axis]
    count = -(-size // max(1, min(size, most)))
    if count == 1:
        return function(*arrays)
    block = -(-size // count)

    def split(array):
        spare = [(0, 0)] * array.ndim
        spare[axis] = (0, count * block - size)
        array = jnp.pad(array, spare, mode="edge") if any(spare[axis]) else array
        shape = *array.shape[:axis], count, block, *array.shape[axis + 1 :]
        return jnp.moveaxis(array.reshape(shape), axis, 0)

    def join(array):
        array = jnp.moveaxis(array, 0, axis)
        shape = *array.shape[:axis], count * block, *array.shape[axis + 2 :]
        return jax.lax.slice_in_dim(array.reshape(shape), 0, size, axis=axis)

    blocks = jax.tree.map(split, arrays)
    return jax.tree.map(join, jax.lax.map(lambda block: function(*block), blocks))
