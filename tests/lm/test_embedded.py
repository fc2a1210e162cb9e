"""The shipped base model: small, honest, and as good as its recipe says, no better."""

import json
import math

import jax
import jax.numpy as jnp
import pytest
from levels import LEVEL
from scipy import stats

import jsharp.tasks
from jsharp.lm import embedded, huggingface
from jsharp.lm.language_model import transformer_policy
from jsharp.lm.tokenizer import Tokenizer, decode_responses, encode_prompts

RECIPE = json.loads((embedded.directory() / "recipe.json").read_text())
NAMES = ("game24", "arithmetic")


@pytest.fixture(scope="module")
def model():
    return huggingface.load(embedded.directory())


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(embedded.directory())


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in embedded.directory().iterdir() if path.is_file()]
    shipped = {path.name for path in files if path.suffix != ".py"}
    assert shipped == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "recipe.json",
        "tokenizer.json",
    }
    assert sum(path.stat().st_size for path in files) < 8_000_000


def test_it_loads_and_is_what_the_recipe_says(model, tokenizer):
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert count == RECIPE["parameters"] <= 1_500_000
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.end == (tokenizer.id("<|end|>"),)
    assert RECIPE["command"].startswith("jsharp pretrain --tasks game24 arithmetic")
    assert f"--seed {RECIPE['seed']} " in RECIPE["command"]
    assert RECIPE["device"] and RECIPE["training_seconds"] > 0
    assert "jax" in RECIPE["versions"] and "commit" in RECIPE


@pytest.mark.parametrize("name", ["game24", "arithmetic"])
def test_no_held_out_prompt_was_trained_on(name, tokenizer):
    """Training draws from `task.train` alone (test_pretrain); no prompt is in both."""
    task = jsharp.tasks.load(name)
    trained = {task.prompt(problem) for problem in task.train}
    held_out = {task.prompt(problem) for problem in task.held_out}
    assert len(held_out) == RECIPE["held_out"][name]["prompts"] == 256
    assert not trained & held_out
    assert all(tokenizer.encode(prompt) for prompt in held_out)


@pytest.mark.parametrize("name", ["game24", "arithmetic"])
def test_it_is_an_honest_base_model(name):
    """Sampled accuracy strictly between 10% and 70%, by an exact interval."""
    graded = RECIPE["held_out"][name]
    count = graded["prompts"] * graded["n"]
    hits = round(graded["one_sample"] * count)
    assert math.isclose(hits / count, graded["one_sample"])
    interval = stats.binomtest(hits, count).proportion_ci(0.99, method="exact")
    assert 0.10 < interval.low and interval.high < 0.70
    assert graded["one_sample"] <= graded["coverage"]
    assert graded["best_of_n"] <= graded["coverage"]


def _again(key, model, tokenizer, name, *, n=2):
    """p-value of Fisher's test that fresh samples are as often right as recorded.

    The prompts are the recorded ones, so given them both counts vary less than
    binomially, and the test is conservative.
    """
    task, graded = jsharp.tasks.load(name), RECIPE["held_out"][name]
    policy = transformer_policy(model.config, horizon=40, end=model.end, pad=model.pad)
    asked = [task.prompt(problem) for problem in task.held_out]
    prompts = encode_prompts(tokenizer, asked, pad=model.pad)
    drawn = jax.jit(policy.sample, static_argnums=3)(key, model.params, prompts, n)
    answered = decode_responses(tokenizer, drawn, end=model.end)
    hits = sum(
        task.correct(problem, text)
        for problem, row in zip(task.held_out, answered, strict=True)
        for text in row
    )
    before = graded["prompts"] * graded["n"]
    recorded = round(graded["one_sample"] * before)
    fresh = len(task.held_out) * n
    table = [[hits, fresh - hits], [recorded, before - recorded]]
    return stats.fisher_exact(table).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["game24", "arithmetic"])
def test_fresh_samples_agree_with_the_recipe(key, model, tokenizer, name):
    assert _again(key, model, tokenizer, name) > LEVEL


@pytest.mark.parametrize("name", ["game24"])
def test_the_agreement_test_rejects_a_damaged_model(key, model, tokenizer, name):
    """Twin: the final norm scaled by 0.6, which is sampling at temperature 1/0.6."""
    norm = {"scale": 0.6 * model.params["norm"]["scale"]}
    damaged = model._replace(params={**model.params, "norm": norm})
    assert _again(key, damaged, tokenizer, name) < LEVEL
