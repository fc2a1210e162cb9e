"""A tiny random model in the Hugging Face layout, for the experiments' plumbing."""

import jax
import pytest

from experiments.generate import Model
from jsharp.lm import huggingface, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import character_tokenizer
from jsharp.tasks import load, names


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(set("".join(load(name).alphabet for name in names())))
    tokenizer = character_tokenizer("".join(alphabet))
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        eos_token_id=0,
        pad_token_id=0,
    )
    params = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), config)
    # Sharper than the initialisation, so that responses differ in likelihood.
    params = jax.tree.map(lambda leaf: 6 * leaf, params)
    huggingface.save(directory, config, params, end=(0,), pad=0)
    tokenizer.save(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_model(tiny_directory):
    return Model.load(tiny_directory, horizon=12)
