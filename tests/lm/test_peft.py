"""Adapters out and in under PEFT's names, and what is not plain LoRA refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from test_lora import random_adapters
from tiny_llama import CONFIG

from jsharp.lm import peft

PHI3 = dataclasses.replace(CONFIG, model_type="phi3")
CONFIG_FILE, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def saved(tmp_path):
    adapters = random_adapters(CONFIG)
    peft.save(tmp_path, CONFIG, adapters, alpha=5.0, base="a/base")
    return tmp_path, adapters


def rewrite(directory, **change):
    path = directory / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize("config", [CONFIG, PHI3], ids=lambda c: c.model_type)
def test_save_then_load_is_the_identity(config, tmp_path):
    adapters = random_adapters(config)
    peft.save(tmp_path, config, adapters, alpha=2.5)
    found = peft.load(tmp_path, config)
    assert found.alpha == 2.5 and found.adapters.keys() == adapters.keys()
    jax.tree.map(np.testing.assert_array_equal, found.adapters, adapters)


def test_files_are_those_of_peft(saved):
    """Spelled out: PEFT's modules hold torch's (out, in) matrices."""
    directory, adapters = saved
    tensors = safetensors.numpy.load_file(directory / WEIGHTS)
    assert len(tensors) == 2 * len(adapters)
    name = "model.layers.1.self_attn.k_proj"
    for key in "ab":
        found = tensors[f"base_model.model.{name}.lora_{key.upper()}.weight"]
        np.testing.assert_array_equal(found, np.asarray(adapters[name][key]).T)
    raw = json.loads((directory / CONFIG_FILE).read_text())
    wanted = dict(peft_type="LORA", task_type="CAUSAL_LM", r=3, lora_alpha=5.0)
    wanted |= dict(bias="none", base_model_name_or_path="a/base")
    assert raw.items() >= wanted.items()
    kinds = [f"{kind}_proj" for kind in ("down", "gate", "k", "o", "q", "up", "v")]
    assert raw["target_modules"] == kinds
    phi3 = {name.rsplit(".")[-1] for name in random_adapters(PHI3)}
    assert phi3 == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def test_some_targets_are_enough(tmp_path):
    some = {k: v for k, v in random_adapters(CONFIG).items() if "v_proj" in k}
    peft.save(tmp_path, CONFIG, some, alpha=1.0)
    assert peft.load(tmp_path, CONFIG).adapters.keys() == some.keys()


def test_adapters_are_float32_whatever_the_base_is(saved):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    found = peft.load(saved[0], config).adapters
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))


def test_what_peft_writes_beside_is_passed_over(saved):
    """Keys as PEFT 0.21 writes them for plain LoRA."""
    directory, adapters = saved
    rewrite(
        directory,
        alpha_pattern={},
        rank_pattern={},
        init_lora_weights=True,
        layers_to_transform=None,
        loftq_config={},
        lora_dropout=0.05,
        megatron_core="megatron.core",
        peft_version="0.21.2",
        qalora_group_size=16,
        revision=None,
        a_key_to_come=None,
    )
    assert peft.load(directory, CONFIG).adapters.keys() == adapters.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(use_rslora=True), "use_rslora: not supported, got True"),
        (dict(use_dora=True), "use_dora: not supported"),
        (dict(bias="all"), "bias: not supported, got 'all'"),
        (dict(fan_in_fan_out=True), "fan_in_fan_out: not supported"),
        (dict(modules_to_save=["lm_head"]), "modules_to_save: not supported"),
        (dict(rank_pattern={"q_proj": 2}), "rank_pattern: not supported"),
        (dict(alpha_pattern={"q_proj": 2}), "alpha_pattern: not supported"),
        (dict(layers_to_transform=[0]), "layers_to_transform: not supported"),
        (dict(init_lora_weights="pissa"), "init_lora_weights: not supported"),
        (dict(a_key_to_come=True), "a_key_to_come: not supported"),
        (dict(peft_type="LOHA"), "peft_type: expected an object with 'LORA'"),
        (dict(r=0), "r: expected a positive int, got 0"),
        (dict(lora_alpha="5"), "lora_alpha: expected a number, got '5'"),
        (dict(target_modules="all-linear"), "target_modules: expected a list"),
        (dict(target_modules=["qkv_proj"]), "names no projection of a llama"),
        (dict(target_modules=["lm_head"]), "target 'lm_head' names no projection"),
    ],
)
def test_other_adapters_are_refused_by_name(saved, change, message):
    rewrite(saved[0], **change)
    with pytest.raises(ValueError, match=message) as caught:
        peft.load(saved[0], CONFIG)
    assert str(saved[0] / CONFIG_FILE) in str(caught.value)


def test_wrong_tensors_are_named(saved):
    directory, _ = saved
    path = directory / WEIGHTS
    whole, tensors = path.read_bytes(), safetensors.numpy.load_file(path)
    first = next(iter(tensors))
    for change, message in (
        ({first: np.ones((2, 2), np.float32)}, f"{first} expected shape"),
        ({first: np.ones((2, 2), np.int32)}, f"{first} expected one of"),
        ({"more": np.ones(2, np.float32)}, "has unexpected tensors more"),
    ):
        safetensors.numpy.save_file({**tensors, **change}, path)
        with pytest.raises(ValueError, match=message):
            peft.load(directory, CONFIG)
    del tensors[first]
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=f"{WEIGHTS} lacks tensors {first}"):
        peft.load(directory, CONFIG)
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=f"{WEIGHTS} is torn"):
        peft.load(directory, CONFIG)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"no {WEIGHTS} in"):
        peft.load(directory, CONFIG)
    (directory / CONFIG_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {CONFIG_FILE} in"):
        peft.load(directory, CONFIG)


def test_adapters_that_peft_cannot_name_are_not_written(tmp_path):
    adapters = random_adapters(CONFIG)
    name = "model.layers.1.mlp.up_proj"
    lacking = {k: v for k, v in adapters.items() if k != name}
    with pytest.raises(ValueError, match=f"lacks adapters {name}"):
        peft.save(tmp_path / "new", CONFIG, lacking, alpha=1.0)
    mixed = adapters | {name: random_adapters(CONFIG, rank=2)[name]}
    with pytest.raises(ValueError, match=r"adapters of one rank, got \[2, 3\]"):
        peft.save(tmp_path / "new", CONFIG, mixed, alpha=1.0)
    assert not (tmp_path / "new").exists()
