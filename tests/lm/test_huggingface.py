"""Checkpoints in and out of the Hugging Face layout, and every bad one refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from tiny_llama import CONFIG, PARAMS

from jsharp.lm import huggingface
from jsharp.lm.config import TransformerConfig

FIXTURES = Path(__file__).parent / "fixtures"
ENDS = dict(end=(1, 4), pad=0)


def read(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def assert_same_tree(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype, found, wanted))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("name", ["grouped", "tied"])
def test_load_then_save_writes_the_tensors_of_transformers(name, tmp_path):
    """Bit for bit the file that save_pretrained wrote: same names, same layout."""
    model = huggingface.load(FIXTURES / name)
    huggingface.save(tmp_path, model.config, model.params, end=model.end, pad=model.pad)
    wanted, metadata = read(FIXTURES / name / "model.safetensors")
    found, kept = read(tmp_path / "model.safetensors")
    assert found.keys() == wanted.keys() and kept == metadata == {"format": "pt"}
    for tensor in wanted:
        np.testing.assert_array_equal(found[tensor], wanted[tensor], err_msg=tensor)
    again = huggingface.load(tmp_path)
    assert_same_tree(again.params, model.params)
    assert again._replace(params=None) == model._replace(params=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_save_then_load_is_the_identity(dtype, tied, tmp_path):
    config = dataclasses.replace(CONFIG, dtype=dtype, tie_word_embeddings=tied)
    params = {k: v for k, v in PARAMS.items() if k != "head" or not tied}
    # NumPy's transposes are views, which safetensors would write as garbage.
    params = jax.tree.map(lambda leaf: np.asarray(leaf.astype(dtype)), params)
    huggingface.save(tmp_path, config, params, **ENDS)
    found = huggingface.load(tmp_path)
    assert_same_tree(found.params, params)
    assert (found.end, found.pad) == ((1, 4), 0)
    ids = dict(eos_token_id=(1, 4), pad_token_id=0)
    assert found.config == dataclasses.replace(config, **ids)


def test_config_is_read_in_the_spelling_of_transformers_4():
    raw = json.loads((FIXTURES / "grouped" / "config.json").read_text())
    wanted = TransformerConfig.from_dict(raw)
    assert wanted.rope_theta == 700 and wanted.head_dim == 16
    raw["rope_theta"] = raw.pop("rope_parameters")["rope_theta"]
    raw |= {"torch_dtype": raw.pop("dtype"), "rope_scaling": None}
    assert TransformerConfig.from_dict(raw) == wanted
    raw |= {"head_dim": None, "num_attention_heads": 6, "num_key_value_heads": None}
    assert TransformerConfig.from_dict(raw).head_dim == 48 // 6
    assert TransformerConfig.from_dict(raw).num_key_value_heads == 6
    assert TransformerConfig.from_dict(wanted.to_dict()) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(architectures=["MistralForCausalLM"]), "architectures: expected"),
        (dict(rope_scaling={"rope_type": "yarn", "factor": 2}), "rope_scaling: "),
        (dict(rope_parameters={"rope_type": "llama3"}), "rope_parameters: "),
        (dict(quantization_config={"bits": 4}), "quantization_config: not supported"),
        (dict(attention_bias=True), "attention_bias: expected False, got True"),
        (dict(mlp_bias=True), "mlp_bias: expected False, got True"),
        (dict(hidden_act="gelu"), "hidden_act: expected 'silu', got 'gelu'"),
        (dict(partial_rotary_factor=0.5), "partial_rotary_factor: expected 1.0"),
        (dict(hidden_size=None), "hidden_size: missing"),
        (dict(hidden_size="48"), "hidden_size: expected int, got '48'"),
        (dict(num_hidden_layers=0), "num_hidden_layers: expected a positive number"),
        (dict(rms_norm_eps=float("nan")), "rms_norm_eps: expected a positive number"),
        (dict(num_key_value_heads=3), "multiple of num_key_value_heads 3, got 4"),
        (dict(head_dim=7), "head_dim: expected an even number, got 7"),
        (dict(head_dim=None, hidden_size=50), "multiple of num_attention_heads 4"),
        (dict(dtype="float16"), "dtype: expected one of"),
        (dict(eos_token_id=40), "eos_token_id expected 0 to 39, got 40"),
        (dict(pad_token_id=-1), "pad_token_id expected 0 to 39, got -1"),
    ],
)
def test_a_config_of_another_function_is_refused_before_the_weights(
    change, message, tmp_path
):
    raw = json.loads((FIXTURES / "grouped" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, **change}))
    with pytest.raises(ValueError, match=message) as caught:
        huggingface.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.fixture
def checkpoint(tmp_path):
    return Path(shutil.copytree(FIXTURES / "grouped", tmp_path / "model"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name} in"):
        huggingface.load(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_torn_json_is_named(checkpoint, name):
    (checkpoint / name).write_text((checkpoint / name).read_text()[:-9])
    with pytest.raises(ValueError, match=f"{name} is not JSON"):
        huggingface.load(checkpoint)


@pytest.mark.parametrize("kept", [0, 5, 300, 20_000, -1])
def test_torn_weights_are_named(checkpoint, kept):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is torn"):
        huggingface.load(checkpoint)


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NORM: None}, f"lacks {NORM}"),
        ({"lm_head.weight": None}, "lacks lm_head.weight"),
        ({"rotary.inv": np.ones(3, np.float32)}, "has unexpected rotary.inv"),
        (
            {NORM: np.ones((1, 48), np.float32)},
            rf"{NORM} expected shape \(48,\), got \(1, 48\)",
        ),
        ({NORM: np.ones(48, np.int32)}, f"{NORM} has unsupported type I32"),
    ],
)
def test_wrong_tensors_are_named(checkpoint, change, message):
    path = checkpoint / "model.safetensors"
    tensors = {**read(path)[0], **change}
    tensors = {name: each for name, each in tensors.items() if each is not None}
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=message) as caught:
        huggingface.load(checkpoint)
    assert str(path) in str(caught.value)


def test_shards_are_refused_by_name(checkpoint):
    (checkpoint / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="index.json: sharded weights"):
        huggingface.load(checkpoint)


def test_end_tokens_of_both_configs_count_and_pad_falls_back_on_them(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"eos_token_id": 7, "pad_token_id": None}
    (checkpoint / "config.json").write_text(json.dumps(config))
    generation = checkpoint / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [7, 2]}))
    assert huggingface.load(checkpoint)[2:] == ((7, 2), 7)
    generation.write_text(json.dumps({"eos_token_id": [7, 2], "pad_token_id": 3}))
    assert huggingface.load(checkpoint)[2:] == ((7, 2), 3)
    generation.unlink()
    config["eos_token_id"] = None
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no eos_token_id in"):
        huggingface.load(checkpoint)


def test_save_refuses_params_of_another_shape(tmp_path):
    extra = {**PARAMS, "bias": jnp.ones(3)}
    lacking = {k: v for k, v in PARAMS.items() if k != "head"}
    narrow = {**PARAMS, "embedding": PARAMS["embedding"].astype(jnp.bfloat16)}
    for params, message in (
        (extra, r"params have unexpected \['bias'\]"),
        (lacking, r"params lack \['head'\]\['kernel'\]"),
        (narrow, r"params\['embedding'\]: expected float32\(9, 16\), got bfloat16"),
    ):
        with pytest.raises(ValueError, match=message):
            huggingface.save(tmp_path / "new", CONFIG, params, **ENDS)
    with pytest.raises(ValueError, match="at least one end token"):
        huggingface.save(tmp_path / "new", CONFIG, PARAMS, end=(), pad=0)
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_the_old_file(checkpoint, monkeypatch):
    before = {p.name: p.read_bytes() for p in checkpoint.iterdir()}
    model = huggingface.load(checkpoint)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model.params)

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        huggingface.save(checkpoint, model.config, doubled, end=(5, 6), pad=0)
    assert {p.name: p.read_bytes() for p in checkpoint.iterdir()} == before
