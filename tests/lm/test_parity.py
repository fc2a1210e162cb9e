"""Every family against transformers: its logits, greedy continuations and tensors."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from test_huggingface import assert_same_tree

from jsharp.lm import huggingface, transformer
from jsharp.lm.attention import causal

FIXTURES = Path(__file__).parent / "fixtures"
FAMILIES = (
    *("llama3", "mistral", "qwen2", "qwen2_tied", "qwen3", "phi3", "phi3_partial"),
)
RELATIVE = 1e-4  # of the largest logit, as the project's figures promise


@functools.cache
def fixture(name):
    """The checkpoint in float32 with the long table, and what transformers computed."""
    long = name.startswith("phi3")
    model = huggingface.load(FIXTURES / name, dtype="float32", long_context=long)
    return model, np.load(FIXTURES / name / "expected.npz")


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens):
    model = transformer.merge(config, params)
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = model(tokens[:, None], position[:, None], causal())
    return model.logits(hidden)[:, 0]


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=RELATIVE * np.abs(wanted).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_greedy_choices_are_those_of_transformers(name):
    """The continuation is fed along: a greedy decoder's choices, by induction."""
    model, expected = fixture(name)
    tokens, greedy = expected["tokens"], expected["greedy"]
    length = tokens.shape[1]
    fed = np.concatenate([tokens, greedy[:, :-1]], axis=1)
    found = np.asarray(forward(model.config, model.params, fed))
    assert_close(found[:, :length], expected["logits"])
    chosen = found[:, length - 1 :].argmax(-1)
    for row, wanted in zip(chosen, greedy, strict=True):
        ends = np.flatnonzero(np.isin(wanted, model.end))
        count = ends[0] + 1 if len(ends) else len(wanted)
        np.testing.assert_array_equal(row[:count], wanted[:count])


@pytest.mark.parametrize("name", ["phi3", "phi3_partial"])
def test_a_short_context_takes_the_short_table(name):
    model, expected = fixture(name)
    wanted = expected["short_logits"]
    rope = dataclasses.replace(model.config.rope, long_context=False)
    config = dataclasses.replace(model.config, rope=rope)
    tokens = expected["tokens"][:, : wanted.shape[1]]
    assert tokens.shape[1] < config.context_length < expected["tokens"].shape[1]
    assert_close(forward(config, model.params, tokens), wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_load_then_save_writes_the_tensors_of_transformers(name, tmp_path):
    """Bit for bit, in bfloat16: same names, same shapes, same numbers."""
    model = huggingface.load(FIXTURES / name)
    assert model.config.dtype == "bfloat16"
    huggingface.save(tmp_path, model.config, model.params, end=model.end, pad=model.pad)
    with (
        safetensors.safe_open(FIXTURES / name / "model.safetensors", "numpy") as wanted,
        safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as found,
    ):
        assert set(found.keys()) == set(wanted.keys())
        assert found.metadata() == wanted.metadata() == {"format": "pt"}
        for tensor in wanted.keys():
            one, other = found.get_tensor(tensor), wanted.get_tensor(tensor)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=tensor)
    again = huggingface.load(tmp_path)
    assert_same_tree(again.params, model.params)
    assert again._replace(params=None) == model._replace(params=None)
