"""The theory is float64: less is an error, never a silent loss of digits."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Real

P = ParamSpec("P")
R = TypeVar("R")

Scalar = Real[ArrayLike, ""]  # a Python number or a 0-d array, possibly traced

# Two sums of float64 weights that are equal on paper differ by a few ulps: a threshold
# such as P_mu[...] <= eps is decided up to this relative error, in favour of equality.
TIE = 1e-12


def needs_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Make `function` refuse float32 arrays, and sessions without x64.

    Raises TypeError, naming the function and the dtype found, before any work.
    """

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        found = {jnp.result_type(float)} | {
            value.dtype
            for value in jax.tree.leaves((args, kwargs))
            if jnp.issubdtype(getattr(value, "dtype", int), jnp.floating)
        }
        if found != {jnp.dtype("float64")}:
            names = ", ".join(sorted(str(dtype) for dtype in found))
            raise TypeError(
                f"{function.__name__}: theory needs float64, found {names}; make the "
                "arrays and call it inside `with jax.enable_x64(True):`"
            )
        return function(*args, **kwargs)

    return checked
