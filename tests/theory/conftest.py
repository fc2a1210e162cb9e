"""Theory tests run in float64, and no dtype is promoted behind the reader's back."""

import jax
import pytest


@pytest.fixture(autouse=True)
def exact_numbers():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
