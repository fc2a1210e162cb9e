"""Adapters: nothing at first, W + (alpha/r) A B after, and no gradient to the base."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tiny_llama import CONFIG, END, PAD, PARAMS, PROMPTS

from jsharp.lm import huggingface, layout
from jsharp.lm.lora import lora, merge, targeted
from jsharp.policy import Policy

# Hands back what it is given.
POLICY = Policy(init=lambda key: PARAMS, sample=lambda *a: a, log_prob=lambda *a: a)
RANK, ALPHA = 3, 5.0
ADAPTED = lora(POLICY, CONFIG, PARAMS, rank=RANK, alpha=ALPHA)


@functools.partial(jax.jit, static_argnums=0)
def merged(config, params, adapters):
    return merge(config, params, adapters, alpha=ALPHA)


def random_adapters(config, rank=RANK):
    """As after some training: B is not zero."""
    normal = np.random.default_rng(0).normal
    draw = lambda *shape: jnp.asarray(normal(size=shape), jnp.float32)
    return {
        name: {"a": draw(each.inner, rank), "b": draw(rank, len(each.columns))}
        for name, each in layout.projections(config).items()
    }


@pytest.fixture(scope="module")
def adapters():
    return jax.jit(ADAPTED.init)(jax.random.key(7))


@pytest.fixture(scope="module")
def moved():
    return random_adapters(CONFIG)


def test_at_first_it_is_the_base_exactly(adapters):
    same = merged(CONFIG, PARAMS, adapters)
    jax.tree.map(np.testing.assert_array_equal, same, PARAMS)


def test_there_is_an_adapter_for_each_projection_of_the_files(adapters):
    shapes = {
        "self_attn.q_proj": (16, 24),
        "self_attn.k_proj": (16, 12),
        "self_attn.v_proj": (16, 12),
        "self_attn.o_proj": (24, 16),
        "mlp.gate_proj": (16, 20),
        "mlp.up_proj": (16, 20),
        "mlp.down_proj": (20, 16),
    }
    names = {f"model.layers.{i}.{name}" for i in range(2) for name in shapes}
    assert adapters.keys() == names
    for name, (inner, outer) in shapes.items():
        for i in range(CONFIG.num_hidden_layers):
            pair = adapters[f"model.layers.{i}.{name}"]
            assert pair["a"].shape == (inner, RANK) and jnp.any(pair["a"])
            assert pair["b"].shape == (RANK, outer) and not jnp.any(pair["b"])


def exported(directory, config, params):
    huggingface.save(directory, config, params, end=END, pad=PAD)
    return safetensors.numpy.load_file(directory / "model.safetensors")


@pytest.mark.parametrize("model_type", ["llama", "phi3"])
def test_merge_adds_the_scaled_product_to_each_tensor_of_the_files(
    model_type, tmp_path
):
    """By the road of export: W^T + (alpha / r) B^T A^T, tensor by tensor."""
    config = dataclasses.replace(CONFIG, model_type=model_type)
    moved = random_adapters(config)
    before = exported(tmp_path / "before", config, PARAMS)
    after = exported(tmp_path / "after", config, merged(config, PARAMS, moved))
    adapted = {f"{name}.weight": pair for name, pair in moved.items()}
    assert len(adapted) == 2 * (7 if model_type == "llama" else 4)
    assert adapted.keys() <= before.keys() == after.keys()
    for name, tensor in before.items():
        if name in adapted:
            a, b = (np.asarray(adapted[name][key]) for key in "ab")
            tensor = tensor + ALPHA / RANK * b.T @ a.T
        np.testing.assert_allclose(after[name], tensor, atol=1e-5, err_msg=name)


def test_an_adapter_changes_its_own_columns_only(moved):
    name = "model.layers.1.self_attn.k_proj"
    found = merged(CONFIG, PARAMS, {name: moved[name]})
    kernel = lambda tree: np.asarray(tree["layers"][1]["attention"]["qkv"]["kernel"])
    changed = (kernel(found) != kernel(PARAMS)).reshape(16, 2, 4, 6)
    assert changed[:, :, 2].all() and not changed[:, :, [0, 1, 3]].any()
    same = jax.tree.map(np.array_equal, found, PARAMS)
    assert not same["layers"][1]["attention"]["qkv"].pop("kernel")
    assert all(jax.tree.leaves(same))


def test_an_adapter_of_another_family_is_refused(moved):
    phi3 = dataclasses.replace(CONFIG, model_type="phi3")
    with pytest.raises(ValueError, match="q_proj is no projection of a phi3"):
        merge(phi3, PARAMS, moved, alpha=ALPHA)


def test_samples_and_scores_are_those_of_the_merged_weights(moved):
    """The policy within hands back what it is given."""

    @jax.jit
    def both(adapters, prompts, response):
        given = ADAPTED.sample("key", adapters, prompts, 4)[1:]
        return given, ADAPTED.log_prob(adapters, prompts, response)

    wanted = merged(CONFIG, PARAMS, moved), PROMPTS
    same = functools.partial(np.testing.assert_allclose, atol=1e-5)
    (*sampled, n), (*scored, response) = both(moved, PROMPTS, jnp.arange(3))
    jax.tree.map(same, tuple(sampled), wanted)
    jax.tree.map(same, tuple(scored), wanted)
    assert n == 4 and response.tolist() == [0, 1, 2]


def test_gradients_move_b_first_and_the_base_never(adapters, moved):
    """Under a stand-in for the log-probability that depends on every weight."""
    square = lambda params, *_: sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    policy = POLICY._replace(log_prob=square)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(params, adapters):
        adapted = lora(policy, CONFIG, params, rank=RANK, alpha=ALPHA)
        return adapted.log_prob(adapters, PROMPTS, None)

    base, first = slopes(PARAMS, adapters)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(base))
    assert all(not jnp.any(pair["a"]) and jnp.any(pair["b"]) for pair in first.values())
    base, later = slopes(PARAMS, moved)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(base))
    assert all(jnp.any(pair["a"]) and jnp.any(pair["b"]) for pair in later.values())


def test_targets_choose_the_projections():
    some = targeted(CONFIG, ("q_proj", "down_proj"))
    assert len(some) == 4
    assert all(name.endswith((".q_proj", ".down_proj")) for name in some)
    assert [*targeted(CONFIG, ("layers.1.mlp.up_proj",))] == [
        "model.layers.1.mlp.up_proj"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rank=0), "rank must be at least 1, got 0"),
        (
            dict(targets=("qkv_proj",)),
            "target 'qkv_proj' names no projection of a llama",
        ),
        (dict(targets=("proj",)), "which has down_proj, gate_proj, k_proj, o_proj"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lora(POLICY, CONFIG, PARAMS, **{"rank": 1, "alpha": 1.0, **change})
