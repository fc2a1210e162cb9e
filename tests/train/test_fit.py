"""One optimiser step: parts, fillers, short batches, types; nothing compiled twice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands.tiny_checkpoint import CONFIG

from jsharp.lm import scorer
from jsharp.train.command import parse
from jsharp.train.examples import batch
from jsharp.train.fit import make_step, start
from jsharp.train.recipes import recipe
from jsharp.train.trainee import trainee

RATE = 0.1
TX = optax.sgd(RATE)  # so that the change of the weights is the gradient


def example(rng, width: int) -> dict:
    ids = lambda size: rng.integers(1, 7, size).tolist()
    log_prob = (-rng.uniform(2, 6, width)).tolist()
    return {
        "id": "x",
        "prompt_ids": ids(rng.integers(1, 7)),
        "completion_ids": [ids(rng.integers(1, 6)) for _ in range(width)],
        "logprob_base": log_prob,
        "logprob_sampler": log_prob,
        "reward": rng.normal(size=width).tolist(),
    }


EXACT = 2e-6  # of the gradient's norm: some roundings of float32
WIDTH = {"rlhf": 2, "rloo": 3}


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(1)
    return {k: [example(rng, width) for _ in range(6)] for k, width in WIDTH.items()}


@functools.cache
def built(name: str, dtype: str = "float32"):
    words = [name, "--output-dir", "x", *(["-n", "3"] if name == "rloo" else [])]
    config = parse(words)[1]
    model = dataclasses.replace(CONFIG, dtype=dtype)
    trained, constant = trainee(config, model), optax.constant_schedule(RATE)
    made = recipe(config)
    return trained, make_step(model, trained, made, TX, constant, remat=False)


def step(name, params, lines, *, size=8, parts=1, dtype="float32"):
    """The gradient as the step applied it, and its metrics."""
    trained, run = built(name, dtype)
    base = jax.tree.map(lambda x: x.astype(dtype), params)
    state = start(jax.random.key(0), trained.init(jax.random.key(1), base), TX)
    before = jax.tree.map(np.array, state.params)
    data = batch(lines, size=size, parts=parts, width=WIDTH[name], pad=0)
    after, metrics = run(state, {}, data)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))
    squares = [(np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(after.params)]
    assert metrics["param_norm"] == pytest.approx(np.sqrt(sum(squares)), rel=1e-5)
    gap = lambda a, b: (a - np.asarray(b)) / RATE
    return jax.tree.map(gap, before, after.params), jax.device_get(metrics)


def close(one, other, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


def test_parts_change_nothing(checkpoint, examples):
    """6 examples in a batch of 8, in 1 part or in 4, the last of fillers alone."""
    lines = examples["rlhf"]
    whole, metrics = step("rlhf", checkpoint.params, lines)
    other, found = step("rlhf", checkpoint.params, lines, parts=4)
    close(other, whole, EXACT * metrics["grad_norm"])
    close(found, metrics, 2e-4)
    assert metrics["num_tokens"] == sum(
        len(ids) for line in lines for ids in line["completion_ids"]
    )


@pytest.mark.parametrize("name", WIDTH)
def test_a_batch_is_the_mean_of_its_examples(checkpoint, examples, name):
    """Whatever their lengths, and the fillers nothing: each example by itself among 7
    fillers, then the mean, by NumPy."""
    alone = [step(name, checkpoint.params, [line]) for line in examples[name]]
    whole, metrics = step(name, checkpoint.params, examples[name])
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[a for a, _ in alone])
    close(whole, mean, EXACT * metrics["grad_norm"])
    for key in metrics.keys() - {"num_tokens", "grad_norm", "param_norm"}:
        each = [found[key] for _, found in alone]
        total = max(each) if key == "sharpen/drift" else np.mean(each)
        np.testing.assert_allclose(metrics[key], total, atol=2e-4, err_msg=key)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(whole)))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-3)
    assert metrics["learning_rate"] == np.float32(RATE)


def test_bfloat16_is_close_and_its_masters_are_float32(checkpoint, examples):
    whole, metrics = step("rlhf", checkpoint.params, examples["rlhf"])
    rough, found = step("rlhf", checkpoint.params, examples["rlhf"], dtype="bfloat16")
    for key in ("loss", "logps/chosen", "grad_norm"):
        assert found[key] == pytest.approx(metrics[key], rel=0.05), key
        assert found[key] != metrics[key]  # it was not computed in float32
    drawn = built("rlhf", "bfloat16")[0].draw({}, whole)  # what is sampled and saved
    assert {leaf.dtype for leaf in jax.tree.leaves(drawn)} == {jnp.dtype("bfloat16")}
    size = metrics["grad_norm"]
    gaps = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), whole, rough)
    assert np.sqrt(sum(jax.tree.leaves(gaps))) < 0.1 * size


def test_metrics_of_pairs_and_groups_by_hand(checkpoint, examples):
    """By NumPy, from the log-probs of the scorer."""
    score = jax.jit(functools.partial(scorer.log_prob, config=CONFIG))
    for name, beta in (("rlhf", 0.5), ("rloo", 0.05)):
        lines = examples[name]
        data = batch(lines, size=6, parts=1, width=WIDTH[name], pad=0)
        one = jax.tree.map(lambda x: jnp.asarray(x[0]), data)
        log_prob = score(checkpoint.params, one.prompts, one.response)
        log_prob = np.asarray(log_prob, np.float64)
        base = np.array([line["logprob_base"] for line in lines])
        reward = np.array([line["reward"] for line in lines])
        metrics = step(name, checkpoint.params, lines)[1]
        ratio = log_prob - base
        if name == "rloo":
            kl = ratio.mean()
            expected = {
                "reward": reward.mean(),
                "reward_std": reward.std(1).mean(),
                "kl": kl,
                "sharpen/objective": reward.mean() - beta * kl,
                "sharpen/drift": np.abs(ratio).max(),
            }
        else:
            at, rows = reward.argmax(1), np.arange(6)
            chosen, rejected = ratio[rows, at] * beta, ratio[rows, 1 - at] * beta
            expected = {
                "logps/chosen": log_prob[rows, at].mean(),
                "logps/rejected": log_prob[rows, 1 - at].mean(),
                "rewards/chosen": chosen.mean(),
                "rewards/rejected": rejected.mean(),
                "rewards/margins": (chosen - rejected).mean(),
                "rewards/accuracies": (chosen > rejected).mean(),
                "sharpen/reward_gap": np.abs(np.diff(reward)).mean(),
                "sharpen/frac_zero_gap": 0.0,
            }
        found = {key: metrics[key] for key in expected}
        close(found, expected, 1e-4)
