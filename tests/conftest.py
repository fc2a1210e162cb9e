"""The strict session: no silent broadcasting, no reused key, 1 CPU device."""

import os

# Tests compile far more than they run: without most optimisations they take two thirds
# of the time. In the environment, so that the processes they start compile alike.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def key():
    return jax.random.key(20241202)
