"""Our leaves and the files' tensors: every number is in exactly one place of each."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_llama import CONFIG

from jsharp.lm import layout, transformer
from jsharp.lm.families import FAMILIES

EVERYTHING = dict(qkv_bias=True, out_bias=True, mlp_bias=True, qk_norm=True)
CONFIGS = [
    dataclasses.replace(CONFIG, model_type=model_type, tie_word_embeddings=tied, **each)
    for model_type in FAMILIES
    for tied, each in ((False, {}), (True, EVERYTHING))
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model_type}-{c.qk_norm}")
def test_runs_cover_each_leaf_and_each_tensor_once(config):
    owner = {}
    for leaf in layout.leaves(config):
        axis = len(leaf.shape) - 1 if leaf.transposed else 0
        ours = np.zeros(leaf.shape[axis], int)
        theirs = {n: np.zeros(s[0], int) for n, s in layout.tensors(leaf).items()}
        for run in leaf.runs:
            ours[run.column : run.column + run.size] += 1
            theirs[run.tensor][run.row : run.row + run.size] += 1
        assert all((count == 1).all() for count in (ours, *theirs.values()))
        assert not owner.keys() & theirs.keys()
        owner |= dict.fromkeys(theirs, leaf.path)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model_type}-{c.qk_norm}")
def test_leaves_are_those_of_the_decoder(config):
    tree = jax.eval_shape(lambda: transformer.init(jax.random.key(0), config))
    wanted = {
        tuple(step.key for step in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    assert {leaf.path: leaf.shape for leaf in layout.leaves(config)} == wanted


def test_a_group_is_its_queries_then_its_key_then_its_value():
    """Named row by row: kv head k, its G queries, coordinates of h."""
    groups, queries, size = 2, 2, 6
    for model_type, name in (("llama", "q_proj"), ("phi3", "qkv_proj")):
        config = dataclasses.replace(CONFIG, model_type=model_type)
        found = layout.projections(config)[f"model.layers.1.self_attn.{name}"]
        at = np.arange(groups * (queries + 2) * size)
        at = at.reshape(groups, queries + 2, size)
        wanted = at[:, :queries].ravel()
        if model_type == "phi3":
            rest = at[:, queries].ravel(), at[:, queries + 1].ravel()
            wanted = np.concatenate([wanted, *rest])
        np.testing.assert_array_equal(found.columns, wanted)
        assert found.path == ("layers", 1, "attention", "qkv", "kernel")
        assert found.inner == config.hidden_size


def test_projections_are_the_linear_maps_inside_the_layers():
    names = lambda model_type: {
        name.removeprefix("model.layers.0.")
        for name in layout.projections(
            dataclasses.replace(CONFIG, model_type=model_type, num_hidden_layers=1)
        )
    }
    kinds = ("q", "k", "v", "o")
    separate = {f"self_attn.{kind}_proj" for kind in kinds}
    separate |= {f"mlp.{kind}_proj" for kind in ("gate", "up", "down")}
    for model_type in ("llama", "mistral", "qwen2", "qwen3"):
        assert names(model_type) == separate
    fused = {"self_attn.qkv_proj", "self_attn.o_proj"}
    assert names("phi3") == fused | {"mlp.gate_up_proj", "mlp.down_proj"}
