"""One round of `jsharp train` on one batch is one step of the algorithm of the toys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands.tiny_checkpoint import CONFIG
from tiny_run import HORIZON, PROMPTS, RULE, lines, steps

from jsharp.ada_sft import ada_sft
from jsharp.lm import huggingface, lora, peft
from jsharp.lm.language_model import transformer_policy
from jsharp.loss import policy_gradient
from jsharp.policy import Prompts, freeze
from jsharp.rlhf import rlhf
from jsharp.rloo import rloo
from jsharp.sft import sft
from jsharp.train import run
from jsharp.train.command import parse
from jsharp.train.optimizer import optimizer, schedule
from jsharp.train.recipes import recipe
from jsharp.update import gradient
from jsharp.xpo import xpo

ONE = ("--limit", 3, "--num-train-epochs", 1, "--seed", 5)  # 3 and a filler
POLICY = transformer_policy(CONFIG, horizon=HORIZON, end=(0,), pad=0)
# Compiled in parts that the algorithms share: a step of each as a whole takes longer.
JITTED = POLICY._replace(
    sample=jax.jit(POLICY.sample, static_argnums=3), log_prob=jax.jit(POLICY.log_prob)
)
OPTIONS = {
    "sft": ("-n", 2),
    "ada-sft": ("--delta", 0.9, "--block", 2, "--max-generations", 6),
    "rlhf": ("-n", 2, "--beta", 0.3),
    "xpo": ("--rounds", 1, "--beta", 0.3, "--alpha", 0.2),
    "rloo": ("-n", 2, "--beta", 0.1),
}
TOYS = {
    "sft": functools.partial(sft, n=2),
    "ada-sft": functools.partial(ada_sft, mu=np.log(2 / 0.9), block=2, max_n=6),
    "rlhf": functools.partial(rlhf, beta=0.3),
    "xpo": functools.partial(xpo, beta=0.3, alpha=0.2, rounds=1),
    "rloo": functools.partial(rloo, n=2, beta=0.1),
}


@functools.cache
def update():
    config = parse(["sft", "--output-dir", "x", *map(str, RULE)])[1]
    tx = optimizer(config, schedule(config, 1))
    return gradient(tx._replace(update=jax.jit(tx.update)))


def stepped(name: str, policy, base, params, prompts):
    """The params after one step of the toy's code, and its Info."""
    algorithm = TOYS[name](policy, base, update())
    key = jax.random.fold_in(jax.random.key(5), 0)
    state, info = algorithm.step(key, algorithm.init(params, prompts), prompts)
    return getattr(state, "update", state).params, info


@pytest.fixture(scope="module")
def batch(checkpoint) -> Prompts:
    ids = [checkpoint.tokenizer.encode(each["prompt"]) for each in PROMPTS[:3]]
    tokens = np.zeros((len(ids), 8), np.int32)
    for row, one in zip(tokens, ids, strict=True):
        row[: len(one)] = one
    return Prompts(jnp.asarray(tokens), jnp.asarray([len(one) for one in ids]))


def same(found, expected, start) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected
    )
    gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), found, start)
    assert max(jax.tree.leaves(gaps)) > 1e-3  # or nothing was compared


@pytest.mark.parametrize("name", OPTIONS)
def test_all_weights(tmp_path, train, checkpoint, batch, name):
    assert train(name, tmp_path, *ONE, *OPTIONS[name]) == 0
    base = freeze(JITTED, checkpoint.params)
    expected, info = stepped(name, JITTED, base, checkpoint.params, batch)
    found = huggingface.load(tmp_path / "hf").params
    same(found, expected, checkpoint.params)
    (line,) = steps(tmp_path)
    assert line["loss"] == pytest.approx(float(info.loss), abs=1e-4)
    assert line["grad_norm"] == pytest.approx(float(info.grad_norm), rel=1e-4)
    assert line["step"] == 1 and line["epoch"] == 1.0
    (drawn,) = [x for x in lines(tmp_path / "metrics.jsonl") if "sharpen/queries" in x]
    assert drawn["sharpen/queries"] == int(info.queries)


def test_adapters(tmp_path, train, checkpoint, batch):
    words = (*ONE, *OPTIONS["rlhf"], "--lora-r", 2, "--lora-targets", "v_proj")
    assert train("rlhf", tmp_path, *words, "--remat") == 0
    adapted = lora.lora(
        POLICY, CONFIG, checkpoint.params, rank=2, alpha=4.0, targets=("v_proj",)
    )
    start = adapted.init(jax.random.fold_in(jax.random.key(5), run._ADAPTERS))
    adapted = adapted._replace(log_prob=jax.jit(adapted.log_prob))
    base = freeze(JITTED, checkpoint.params)
    expected, info = stepped("rlhf", adapted, base, start, batch)
    found = peft.load(tmp_path / "adapter", CONFIG)
    same(found.adapters, expected, start)
    assert found.alpha == 4.0
    (line,) = steps(tmp_path)
    assert line["loss"] == pytest.approx(float(info.loss), abs=1e-4)
    # The clip hides the scale of the gradient: alpha / rank of it.
    assert line["grad_norm"] == pytest.approx(float(info.grad_norm), rel=1e-4)
    merged = lora.merge(CONFIG, checkpoint.params, expected, alpha=4.0)
    same(huggingface.load(tmp_path / "hf").params, merged, checkpoint.params)


def test_the_draws_are_those_of_the_policy(tmp_path, train, checkpoint, batch):
    """Round r of the base's draws: Policy.sample with fold_in(key, r)."""
    words = ("-n", 2, "--chunk-size", 2, "--rounds", 2, "--limit", 3, "--beta", 0.3)
    assert train("rlhf", tmp_path, *words) == 0
    for r in range(2):
        key = jax.random.fold_in(jax.random.key(0), r)
        drawn = JITTED.sample(key, checkpoint.params, batch, 2)
        score = np.asarray(JITTED.log_prob(checkpoint.params, batch, drawn))
        found = lines(tmp_path / "rounds" / f"{r:05}.draws.jsonl")
        for i, line in enumerate(found):
            at = divmod(i, 2)
            size = int(drawn.length[at])
            assert line["completion_ids"] == drawn.tokens[at][:size].tolist()
            assert line["logprob_base"] == pytest.approx(score[at], abs=2e-5)
            assert (line["id"], line["sample_id"]) == (PROMPTS[at[0]]["id"], at[1])


def test_grpo_is_the_advantage_by_deviation():
    config = parse(["rloo", "--output-dir", "x", "--advantage", "grpo"])[1]
    found = recipe(config).loss
    assert found.func is policy_gradient
    assert found.keywords == {"beta": config.beta, "by_deviation": True}
