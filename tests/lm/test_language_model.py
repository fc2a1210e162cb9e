"""The transformer as a policy; tests/test_policy.py holds it to the contract."""

import jax
import jax.numpy as jnp
import pytest
from tiny_llama import CONFIG, END, HORIZON, PAD, PARAMS, PROMPTS

from jsharp.lm.language_model import greedy_decoder, transformer_policy


def test_init_samples_and_greedy_agree_on_shapes(key):
    sizes = dict(horizon=HORIZON, end=END, pad=PAD)
    policy, greedy = (
        build(CONFIG, **sizes) for build in (transformer_policy, greedy_decoder)
    )
    params = jax.eval_shape(policy.init, key)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)
    one = jax.eval_shape(greedy, params, PROMPTS)
    sample = lambda key, params: policy.sample(key, params, PROMPTS, 1)
    assert jax.eval_shape(sample, key, params) == one
    assert one.tokens.shape == (3, 1, HORIZON)
    scored = jax.eval_shape(policy.log_prob, params, PROMPTS, one)
    assert scored.shape == (3, 1) and scored.dtype == jnp.float32


@pytest.mark.parametrize("build", [transformer_policy, greedy_decoder])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(horizon=0), "horizon: expected 1 to the model's 2048 positions, got 0"),
        (dict(horizon=2049), "horizon: expected 1 to .* got 2049"),
        (dict(pad=9), "pad token 9 is outside the vocabulary of 9"),
        (dict(end=(1, -1)), "end token -1 is outside the vocabulary of 9"),
    ],
)
def test_sizes_outside_the_model_are_refused(build, change, message):
    with pytest.raises(ValueError, match=message):
        build(CONFIG, **{"horizon": HORIZON, "end": END, "pad": PAD, **change})
