"""Adapters: nothing at first, W + (alpha/r) A B after, and no gradient to the base."""

import dataclasses
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tiny_llama import CONFIG, END, HORIZON, PAD, PARAMS, PROMPTS

from jsharp.lm import huggingface, layout, scorer, transformer
from jsharp.lm.lora import Adapted, attach, lora, merge, targeted
from jsharp.policy import Policy, Response

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


def test_a_policy_samples_from_the_merge_and_scores_with_the_attached(moved):
    """The policy within hands back what it is given."""

    @jax.jit
    def both(adapters, prompts, response):
        given = ADAPTED.sample("key", adapters, prompts, 4)[1:]
        return given, ADAPTED.log_prob(adapters, prompts, response)

    same = functools.partial(np.testing.assert_allclose, atol=1e-5)
    (*sampled, n), (*scored, response) = both(moved, PROMPTS, jnp.arange(3))
    jax.tree.map(same, tuple(sampled), (merged(CONFIG, PARAMS, moved), PROMPTS))
    beside = jax.jit(functools.partial(attach, CONFIG, alpha=ALPHA))(PARAMS, moved)
    jax.tree.map(same, tuple(scored), (beside, PROMPTS))
    assert n == 4 and response.tolist() == [0, 1, 2]


def total(way, config, params, adapters):
    """A weighted sum of the log-probs of a few responses: a scalar to differentiate."""
    tokens = np.random.default_rng(1).integers(9, size=(3, 2, HORIZON), dtype=np.int32)
    response = Response(
        jnp.asarray(tokens), jnp.full((3, 2), HORIZON), jnp.zeros((3, 2))
    )
    params = way(config, params, adapters, alpha=ALPHA)
    log_prob = scorer.log_prob(params, PROMPTS, response, config=config)
    return (log_prob * jnp.asarray([[1.0, -0.5]])).sum()


BIASED = dataclasses.replace(
    CONFIG, num_hidden_layers=1, windows=(), qkv_bias=True, out_bias=True, mlp_bias=True
)


@pytest.fixture(scope="module")
def slopes():
    """Of the attached: value and gradients to params and adapters; of the merged.

    There are biases, and kernels with some projections adapted and with none.
    """
    params = transformer.init(jax.random.key(1), BIASED)
    shift = lambda leaf: leaf + 0.3 if leaf.ndim == 1 else leaf
    params = jax.tree.map(shift, params)
    # Small, as after a step: products of large factors would round far off.
    few = {
        name: jax.tree.map(lambda a: 0.3 * a, pair)
        for name, pair in random_adapters(BIASED).items()
        if not name.endswith(("k_proj", "o_proj"))
    }
    ours, theirs = (functools.partial(total, way, BIASED) for way in (attach, merge))
    attached = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(params, few)
    return attached, jax.jit(jax.value_and_grad(theirs, argnums=1))(params, few)


def test_attached_they_score_and_learn_as_merged(slopes):
    (value, (_, ours)), (wanted, theirs) = slopes
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    for name, pair in theirs.items():
        for key, leaf in pair.items():
            scale = np.abs(leaf).max()
            assert scale > 1e-3
            np.testing.assert_allclose(ours[name][key], leaf, atol=1e-5 * scale)


def test_attached_the_base_has_no_gradient(slopes):
    (_, (base, adapters)), _ = slopes
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(base))
    assert all(jnp.any(leaf) for leaf in jax.tree.leaves(adapters))


def products(jaxpr):
    """The shape of each matrix product, those of inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval.shape
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


def test_attached_no_product_is_as_large_as_a_kernel(moved):
    """While the merge makes one for each kernel, and one more to differentiate it."""
    kernels = {(16, 48), (24, 16), (16, 40), (20, 16)}

    def large(way):
        score = functools.partial(total, way, CONFIG, PARAMS)
        shapes = [*products(jax.make_jaxpr(jax.grad(score))(moved).jaxpr)]
        return sum(s in kernels or s[::-1] in kernels for s in shapes), len(shapes)

    count, products_of_all = large(attach)
    assert count == 0 and products_of_all > 50
    assert large(merge)[0] >= 2 * 4 * 2


def test_adapters_are_float32_beside_a_narrow_base(moved):
    """Cast in the products; the merge rounds the sum once."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    fresh = lora(POLICY, config, narrow, rank=RANK, alpha=ALPHA).init
    types = lambda tree: {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
    assert types(jax.eval_shape(fresh, jax.random.key(0))) == {"float32"}
    is_pair = lambda leaf: isinstance(leaf, Adapted)
    attached = attach(config, narrow, moved, alpha=ALPHA)
    pairs = filter(is_pair, jax.tree.leaves(attached, is_leaf=is_pair))
    assert len([*pairs]) == 8
    for tree in (attached, merged(config, narrow, moved)):
        assert types(tree) == {"bfloat16"}
    path = lambda tree: tree["layers"][1]["mlp"]["down"]["kernel"]
    pair = moved["model.layers.1.mlp.down_proj"]
    change = ALPHA / RANK * np.asarray(pair["a"]) @ np.asarray(pair["b"])
    wanted = jnp.asarray(path(narrow).astype(jnp.float32) + change, jnp.bfloat16)
    found = path(merged(config, narrow, moved))
    # Equal but for sums that float32 puts on the two sides of a rounding.
    assert np.mean(np.asarray(found == wanted)) > 0.95


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
