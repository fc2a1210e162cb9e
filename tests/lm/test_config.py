"""Every spelling of a config.json, read as transformers reads it, or refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_llama import CONFIG

from jsharp.lm.config import TransformerConfig
from jsharp.lm.families import FAMILIES
from jsharp.lm.rope import Rope, frequencies

PUBLISHED = json.loads((Path(__file__).parent / "fixtures/configs.json").read_text())
LONG = dict(short_factor=(1.0, 1.5, 2.0), long_factor=(2.0, 3.0, 5.0))


def architecture(model_type):
    return {
        "architectures": [FAMILIES[model_type].architecture],
        "model_type": model_type,
    }


def read(model_type="llama", **raw):
    return TransformerConfig.from_dict(architecture(model_type) | raw)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_means_what_transformers_makes_of_it(name):
    """Absent keys, and angles: transformers' own inverse frequencies are committed."""
    raw, wanted = PUBLISHED[name]["raw"], PUBLISHED[name]["read"]
    config = TransformerConfig.from_dict(raw)
    plain = wanted.keys() & {field.name for field in dataclasses.fields(config)}
    assert len(plain) == 15
    for key in plain:
        found = getattr(config, key)
        found = list(found) if isinstance(found, tuple) else found
        assert found == wanted[key], key
    close = lambda rope, key: np.testing.assert_allclose(
        frequencies(rope, config.head_dim), wanted[key], rtol=1e-6
    )
    close(config.rope, "frequencies")
    assert config.rope.attention_factor == pytest.approx(wanted["attention_factor"])
    if "long_frequencies" in wanted:
        rope = dataclasses.replace(config.rope, long_context=True)
        close(rope, "long_frequencies")


@pytest.mark.parametrize("name", PUBLISHED)
def test_writing_and_reading_is_the_identity(name):
    config = TransformerConfig.from_dict(PUBLISHED[name]["raw"])
    raw = json.loads(json.dumps(config.to_dict()))
    assert TransformerConfig.from_dict(raw) == config
    new = {k: v for k, v in raw.items() if k not in ("rope_scaling", "rope_theta")}
    assert TransformerConfig.from_dict(new) == config
    old = {k: v for k, v in raw.items() if k not in ("rope_parameters", "dtype")}
    if [*config.windows] == sorted(config.windows):  # else only layer_types can say it
        old.pop("layer_types", None)
    assert TransformerConfig.from_dict(old) == config


def test_both_spellings_are_one_config():
    scaling = dict(factor=8, low_freq_factor=1, high_freq_factor=4)
    scaling["original_max_position_embeddings"] = 64
    old = read(
        rope_theta=700,
        rope_scaling={"type": "llama3", **scaling},
        torch_dtype="bfloat16",
    )
    parameters = {"rope_type": "llama3", "rope_theta": 700.0, **scaling}
    assert read(rope_parameters=parameters, dtype="bfloat16") == old
    assert old.rope.factor == 8 and old.dtype == "bfloat16"


def test_su_is_longrope_under_its_first_name():
    scaling = {key: [1.5] * 48 for key in ("short_factor", "long_factor")}
    named = [
        read("phi3", rope_scaling={"type": t, **scaling}) for t in ("su", "longrope")
    ]
    assert named[0] == named[1] and named[0].rope.rope_type == "longrope"


def test_null_is_not_absent():
    assert read("mistral").windows == (4096,) * 32
    assert read("mistral", sliding_window=None).windows == (0,) * 32
    assert read("mistral", num_key_value_heads=None).num_key_value_heads == 32
    assert read("llama").eos_token_id == 2
    assert read("llama", eos_token_id=None).eos_token_id is None


def test_context_length_is_that_of_the_chosen_table():
    sizes = dict(rope_type="longrope", original_max_position_embeddings=100, **LONG)
    config = dataclasses.replace(CONFIG, rope=Rope(**sizes))
    assert config.context_length == 100 < config.max_position_embeddings
    config = dataclasses.replace(CONFIG, rope=Rope(**sizes, long_context=True))
    assert config.context_length == config.max_position_embeddings
    assert CONFIG.context_length == CONFIG.max_position_embeddings


SU = {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}


@pytest.mark.parametrize(
    ("model_type", "change", "message"),
    [
        ("llama", dict(architectures=["GemmaForCausalLM"]), "architectures: expected"),
        ("llama", dict(architectures=None), "architectures: expected one of"),
        ("llama", dict(model_type="mistral"), "model_type: expected 'llama'"),
        ("llama", dict(quantization_config={"bits": 4}), "quantization_config: not"),
        (
            "llama",
            dict(hidden_act="gelu"),
            "hidden_act: not supported, expected 'silu'",
        ),
        ("llama", dict(attention_chunk_size=64), "attention_chunk_size: not supported"),
        ("qwen3", dict(attn_logit_softcapping=30.0), "attn_logit_softcapping: not"),
        ("phi3", dict(lm_head_bias=True), "lm_head_bias: not supported"),
        ("mistral", dict(attention_bias=True), "attention_bias: expected False"),
        ("phi3", dict(attention_bias=True), "attention_bias: expected False"),
        ("qwen3", dict(mlp_bias=True), "mlp_bias: expected False, got True"),
        ("llama", dict(sliding_window=8), "sliding_window: expected none, got 8"),
        ("mistral", dict(sliding_window=0), "sliding_window: expected a positive int"),
        ("mistral", dict(layer_types=["full_attention"] * 32), "sliding_attention for"),
        (
            "llama",
            dict(layer_types=["chunked_attention"] * 32),
            "layer_types: expected",
        ),
        ("qwen2", dict(layer_types=["full_attention"]), "layer_types: expected 32"),
        ("qwen2", dict(layer_types=["sliding_attention"] * 32), "expected full_attent"),
        (
            "qwen3",
            dict(use_sliding_window=True, layer_types=["linear_attention"] * 32),
            "expected full_attention or sliding_attention for layer 0, got 'linear",
        ),
        ("qwen2", dict(max_window_layers=None), "max_window_layers: expected int"),
        ("llama", dict(rope_scaling={"type": "yarn", "factor": 2}), "got 'yarn'"),
        ("llama", dict(rope_parameters={"rope_type": "dynamic"}), "got 'dynamic'"),
        ("qwen2", dict(rope_scaling={"type": "mrope"}), "rope_scaling: rope_type exp"),
        ("phi3", dict(rope_scaling={"type": "yarn"}), "in a phi3, got 'yarn'"),
        ("phi3", dict(rope_scaling={"type": "linear"}), "in a phi3, got 'linear'"),
        ("llama", dict(rope_scaling=8), "rope_scaling: expected an object, got 8"),
        ("llama", dict(rope_scaling=LLAMA3), "llama3 lacks high_freq_factor"),
        (
            "llama",
            dict(rope_parameters={"factor": 2}),
            "factor not supported with rope",
        ),
        ("llama", dict(rope_parameters={"full_attention": {}}), "full_attention not"),
        ("llama", dict(rope_theta="big"), "rope_theta expected a positive number"),
        ("llama", dict(partial_rotary_factor=0.5), "partial_rotary_factor: expected 1"),
        ("phi3", dict(partial_rotary_factor=1.5), r"expected a number in \(0, 1\]"),
        ("phi3", dict(rope_scaling=SU | {"long_factor": 2}), "long_factor expected a"),
        ("phi3", dict(rope_scaling=SU, hidden_size=64), "short_factor: expected 1 num"),
        ("llama", dict(hidden_size=None), "hidden_size: expected int, got None"),
        ("llama", dict(hidden_size="48"), "hidden_size: expected int, got '48'"),
        ("llama", dict(tie_word_embeddings=1), "tie_word_embeddings: expected bool"),
        ("llama", dict(num_hidden_layers=0), "num_hidden_layers: expected a positive"),
        ("llama", dict(rms_norm_eps=float("nan")), "rms_norm_eps: expected a positive"),
        ("llama", dict(num_key_value_heads=0), "num_key_value_heads: expected a posit"),
        ("llama", dict(num_key_value_heads=3), "multiple of num_key_value_heads 3"),
        ("llama", dict(head_dim=7), "head_dim: expected an even number"),
        ("llama", dict(hidden_size=50), "multiple of num_attention_heads 32, got 50"),
        ("llama", dict(dtype="float16"), "dtype: expected one of"),
    ],
)
def test_a_config_of_another_function_is_refused_by_name(model_type, change, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig.from_dict(architecture(model_type) | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(qk_norm=True), "qk_norm: expected False in a llama, got True"),
        (dict(qkv_bias=True), "out_bias: expected True in a llama, got False"),
        (dict(model_type="qwen2"), "qkv_bias: expected True in a qwen2, got False"),
        (dict(model_type="phi3", mlp_bias=True), "mlp_bias: expected False in a phi3"),
        (dict(windows=(8, 8)), r"a llama has no layers of \(8, 8\)"),
        (dict(model_type="mistral", windows=(0, 8)), "a mistral has no layers of"),
        (
            dict(model_type="qwen2", qkv_bias=True, windows=(4, 8)),
            r"a qwen2 has no layers of \(4, 8\)",
        ),
        (
            dict(rope=Rope(partial_rotary_factor=0.67)),
            "partial_rotary_factor: expected",
        ),
        (
            dict(model_type="phi3", rope=Rope(rope_type="linear")),
            "rope: rope_type expected one of",
        ),
    ],
)
def test_what_a_family_cannot_say_is_not_written(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change).to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(model_type="gemma"), "model_type: expected one of"),
        (dict(windows=(8,)), r"windows: expected 2 sizes, got \(8,\)"),
        (dict(windows=(8, -1)), "windows: expected 2 sizes"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
