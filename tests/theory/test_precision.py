"""Less than float64 is refused by name, not computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import quantities as q

PI, MU = np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]]), np.array([0.5, 0.5])
CALLS = {
    "maximisers": (PI,),
    "coverage": (PI, MU),
    "coverage_bar": (PI, MU),
    "margin": (PI, MU),
    "log_probability": (PI,),
    "kl": (PI, PI),
    "hellinger_squared": (PI, PI),
}


@pytest.mark.parametrize("name", CALLS)
def test_single_precision_is_refused(name):
    arrays = [jnp.array(argument) for argument in CALLS[name]]
    short = [array.astype(jnp.float32) for array in arrays]
    with pytest.raises(TypeError, match=f"{name}: theory needs float64, found float32"):
        getattr(q, name)(*short)
    with jax.enable_x64(False), pytest.raises(TypeError, match="enable_x64"):
        getattr(q, name)(*arrays)


def test_one_single_precision_argument_among_several_is_refused():
    with pytest.raises(TypeError, match="float32, float64"):
        q.coverage(jnp.array(PI), jnp.array(MU, jnp.float32))
