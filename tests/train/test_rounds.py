"""Rounds: draws used again, rebased draws, every self-reward, and when Eq 10 stops."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands.tiny_checkpoint import CONFIG
from tiny_run import HORIZON, PROMPTS, lines, steps

from jsharp import run_directory
from jsharp.lm import huggingface
from jsharp.lm.language_model import transformer_policy
from jsharp.policy import Prompts
from jsharp.reward import REWARDS
from jsharp.train import run

N = 3
ONE = ("--num-train-epochs", 1)
POLICY = transformer_policy(CONFIG, horizon=HORIZON, end=(0,), pad=0)
DRAWS = "rounds/00000.draws.jsonl"


@pytest.fixture(scope="module")
def first(tmp_path_factory, train):
    """A run of sft, whose draws others use."""
    directory = tmp_path_factory.mktemp("first") / "run"
    assert train("sft", directory, "-n", N, *ONE) == 0
    return directory


@pytest.fixture(scope="module")
def groups(first):
    found = lines(first / DRAWS)
    return [found[i : i + N] for i in range(0, len(found), N)]


def prompts_of(checkpoint) -> Prompts:
    ids = [checkpoint.tokenizer.encode(each["prompt"]) for each in PROMPTS]
    tokens = np.zeros((len(ids), 8), np.int32)
    for row, one in zip(tokens, ids, strict=True):
        row[: len(one)] = one
    return Prompts(jnp.asarray(tokens), jnp.asarray([len(one) for one in ids]))


def by_hand(name: str, group: list[dict], i: int) -> float:
    """The self-reward of the i-th of some records, from what the records say."""
    one, score = group[i], group[i]["logprob_base"]
    same = [line for line in group if line["answer"] == one["answer"]]
    distinct = {tuple(line["completion_ids"]): line["logprob_base"] for line in same}
    return {
        "log-probability": lambda: score,
        "length-normalised": lambda: score / one["num_tokens"],
        "probability": lambda: math.exp(score),
        "majority": lambda: len(same) / N,
        "self-certainty": lambda: one["certainty"],
        "negative-entropy": lambda: -one["entropy"],
        "perplexity-consistency": lambda: math.log(
            sum(math.exp(x) for x in distinct.values())
        ),
    }[name]()


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_from_draws_used_again(
    tmp_path, train, first, groups, monkeypatch, name
):
    """Nothing is drawn; the example of each prompt is the first of largest reward."""
    monkeypatch.setattr("jsharp.commands.responses.draw", None)
    words = ("-n", N, *ONE, "--draws", first / DRAWS, "--reward", name, "--seed", 3)
    assert train("sft", tmp_path, *words) == 0
    made = lines(tmp_path / "rounds" / "00000.examples.jsonl")
    for group, line in zip(groups, made, strict=True):
        score = [by_hand(name, group, i) for i in range(N)]
        (best,) = line["sample_ids"]
        assert score[best] >= max(score) - 1e-6 * abs(max(score))
        assert all(x < max(score) for x in score[:best]) or name != "majority"
        assert line["completion_ids"] == [group[best]["completion_ids"]]
        assert line["reward"][0] == pytest.approx(max(score), rel=1e-5)
    assert len(steps(tmp_path)) == 2


def test_draws_of_others_are_refused(tmp_path, train, first, capsys):
    """Another N, horizon, prompts or model; draws that nothing pins, or not whole."""
    draws = ("--draws", first / DRAWS)
    refused = {
        "num_generations": ("-n", 2),
        "max_completion_length": ("-n", N, "--max-completion-length", 4),
        "count": ("-n", N, "--limit", 6),
        "model/model.safetensors": ("-n", N, "--model-name-or-path", first / "hf"),
    }
    for name, words in refused.items():
        assert train("sft", tmp_path / name.replace("/", "-"), *draws, *words) == 2
        found = re.search(r"--draws: (\S+): ", capsys.readouterr().err)
        assert found and found[1] == name
    torn = tmp_path / "torn.jsonl"
    torn.write_text("".join((first / DRAWS).read_text().splitlines(True)[:-1]))
    assert train("sft", tmp_path / "x", "-n", N, "--draws", torn) == 2
    assert "no torn.jsonl.run.json says which run wrote it" in capsys.readouterr().err
    beside = (first / DRAWS).with_name("00000.draws.jsonl.run.json").read_text()
    torn.with_name("torn.jsonl.run.json").write_text(beside)
    assert train("sft", tmp_path / "x", "-n", N, "--draws", torn) == 2
    assert "--draws must hold 7 prompts, found 0" in capsys.readouterr().err


def test_rlhf_takes_the_draws_of_sft(tmp_path, train, monkeypatch):
    words = ("-n", 2, "--num-train-epochs", 1)
    assert train("sft", tmp_path / "sft", *words) == 0
    monkeypatch.setattr("jsharp.commands.responses.draw", None)
    draws = ("--draws", tmp_path / "sft" / DRAWS)
    assert train("rlhf", tmp_path / "rlhf", *words, *draws, "--beta", 0.3) == 0
    drawn = lines(tmp_path / "sft" / DRAWS)
    made = lines(tmp_path / "rlhf" / "rounds" / "00000.examples.jsonl")
    for i, line in enumerate(made):
        pair = drawn[2 * i : 2 * i + 2]
        assert line["completion_ids"] == [one["completion_ids"] for one in pair]
        assert line["logprob_base"] == [one["logprob_base"] for one in pair]


def test_rebased_rounds_draw_from_the_policy_of_the_round_before(
    tmp_path, train, first, checkpoint
):
    """Round 0 is the run `first`: its exported weights draw and score round 1."""
    words = ("-n", N, *ONE, "--rounds", 2, "--rebase")
    assert train("sft", tmp_path, *words) == 0
    assert (tmp_path / DRAWS).read_bytes() == (first / DRAWS).read_bytes()
    params = huggingface.load(first / "hf").params
    batch = prompts_of(checkpoint)
    key = jax.random.fold_in(jax.random.key(0), 1)
    drawn = jax.jit(POLICY.sample, static_argnums=3)(key, params, batch, N)
    score = np.asarray(jax.jit(POLICY.log_prob)(params, batch, drawn))
    found = lines(tmp_path / "rounds" / "00001.draws.jsonl")
    for i, line in enumerate(found):
        at = divmod(i, N)
        tokens = drawn.tokens[at][: int(drawn.length[at])].tolist()
        assert line["completion_ids"] == tokens
        assert line["logprob_base"] == pytest.approx(score[at], abs=2e-5)
    before = np.asarray(jax.jit(POLICY.log_prob)(checkpoint.params, batch, drawn))
    assert np.abs(score - before).max() > 0.01  # the weights did move


def test_eq_10_by_brute_force(tmp_path, train, checkpoint):
    """Block b of a prompt comes from fold_in(round's key, b); the stop draw by draw."""
    delta, block, most = 0.6, 2, 6
    words = ("--delta", delta, "--block", block, "--max-generations", most, *ONE)
    assert train("ada-sft", tmp_path, *words, "--chunk-size", 4) == 0
    batch, key = prompts_of(checkpoint), jax.random.fold_in(jax.random.key(0), 0)
    sample = jax.jit(POLICY.sample, static_argnums=3)
    log_prob, tokens = [], []
    for b in range(most // block):
        drawn = sample(jax.random.fold_in(key, b), checkpoint.params, batch, block)
        score = jax.jit(POLICY.log_prob)(checkpoint.params, batch, drawn)
        log_prob.append(np.asarray(score, np.float64))
        tokens += [np.asarray(drawn.tokens).transpose(1, 0, 2)]
    score, tokens = np.concatenate(log_prob, 1), np.concatenate(tokens)
    found, mu = lines(tmp_path / DRAWS), math.log(2 / delta)
    for p, line in enumerate(found):
        seen = [
            k for k in range(1, most + 1) if math.exp(-score[p, :k].max()) <= k / mu
        ]
        stop = seen[0] if seen else most
        best = int(score[p, :stop].argmax())
        assert (line["queries"], line["stopped"]) == (stop, bool(seen))
        assert line["sample_id"] == best
        assert line["completion_ids"] == tokens[best, p, : line["num_tokens"]].tolist()
    assert {line["stopped"] for line in found} == {True, False}
    assert len({(line["queries"] - 1) // block for line in found}) > 1
    (drawn,) = [x for x in lines(tmp_path / "metrics.jsonl") if "sharpen/queries" in x]
    assert drawn["sharpen/queries"] == sum(line["queries"] for line in found)
    unstopped = np.mean([not line["stopped"] for line in found])
    assert drawn["sharpen/frac_unstopped"] == pytest.approx(unstopped)


@pytest.mark.parametrize("name", ["rloo", "xpo"])
def test_later_rounds_compile_nothing(tmp_path, train, monkeypatch, name):
    """All shapes occur in the first half of the steps."""
    words = {
        "rloo": ("-n", 2, "--num-train-epochs", 4, "--beta", 0.1),
        "xpo": ("--rounds", 3, "--limit", 6, "--beta", 0.3, "--alpha", 0.2),
    }[name]
    compiled, counts = [], {}
    listen = lambda event, *_, **__: (
        compiled.append(event) if "backend_compile" in event else None
    )
    log = run._log

    def counted(work, line, times=None):
        counts[line["step"]] = len(compiled)
        log(work, line, times)

    monkeypatch.setattr(run, "_log", counted)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert train(name, tmp_path, *words) == 0
        jax.jit(lambda x: x * 3)(1.0)  # the listener does listen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    total = max(counts)
    assert total >= 8 and counts[total] == counts[total // 2] < len(compiled)


def test_xpo_fits_the_examples_of_all_rounds_so_far(tmp_path, train, monkeypatch):
    """D of Alg 1; and J_beta of each policy, from its own draws."""
    fitted, arrays = [], run.batch

    def seen(some, **sizes):
        fitted.append({line["id"] for line in some})
        return arrays(some, **sizes)

    monkeypatch.setattr(run, "batch", seen)
    words = ("--rounds", 3, "--num-train-epochs", 1, "--beta", 0.3, "--alpha", 0.2)
    assert train("xpo", tmp_path, *words) == 0
    made = [lines(tmp_path / "rounds" / f"{r:05}.examples.jsonl") for r in range(3)]
    logged = [x for x in lines(tmp_path / "metrics.jsonl") if "sharpen/queries" in x]
    done = 0
    for r, line in enumerate(logged):
        upto = {example["id"] for some in made[: r + 1] for example in some}
        count = -(-len(upto) // 4)  # batches of 4
        assert set.union(*fitted[done : done + count]) == upto
        done += count
        own = lambda name, r=r: np.array([example[name][0] for example in made[r]])
        kl = own("logprob_sampler") - own("logprob_base")
        objective = (own("reward") - 0.3 * kl).mean()
        assert line["sharpen/objective"] == pytest.approx(objective)
        assert line["kl"] == pytest.approx(kl.mean())
    assert done == len(fitted)
    assert abs(logged[0]["kl"]) < 1e-4 < abs(logged[2]["kl"])  # pi^1 is the base


def test_a_step_is_logged_where_asked(tmp_path, train, first):
    words = ("-n", N, "--num-train-epochs", 4)
    draws = ("--draws", first / DRAWS, "--logging-steps", 3)
    assert train("sft", tmp_path, *words, *draws) == 0
    assert [line["step"] for line in steps(tmp_path)] == [3, 6, 8]
    assert [line["epoch"] for line in steps(tmp_path)] == [1.5, 3.0, 4.0]
    assert run_directory.read(tmp_path)[0]["round"] == 0
