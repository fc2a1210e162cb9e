"""The limits count what they should, and the sides do the same work."""

import json
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from experiments.benchmarks import engine as script
from experiments.benchmarks import engine_goals, engine_jax, engine_model
from experiments.benchmarks.engine_model import GRADIENT, SIZES, Phase, Size
from experiments.benchmarks.engine_profile import parts
from experiments.benchmarks.engine_report import Memory, agreement
from experiments.benchmarks.engine_worker import Worker
from jsharp.lm import transformer
from theory.claim import COMPILE_FAST

# Two heads of 2 over one kv head: 4 x 8 + 4 x 4 + 3 x 4 x 3 = 84 multiply-adds a token,
# 4 x 5 = 20 for the head, 4 + 4 = 8 for a key; a position keeps 4 numbers.
TINY = Size(4, 1, 2, 1, 3, 5, prompts=1, sampled_prompts=1, n=2, prompt=3, horizon=2)
PREFILL = Phase(2 * (2 * 84 + 3 * 8), 4 * 84)


@pytest.mark.parametrize("name", SIZES)
def test_weights_are_those_of_the_model(name):
    size = SIZES[name]
    config = engine_model.transformer_config(size, "float32")
    shapes = jax.eval_shape(partial(transformer.init, config=config), jax.random.key(0))
    matrices = [leaf for leaf in jax.tree.leaves(shapes) if leaf.ndim == 2]
    assert sum(leaf.size for leaf in matrices) == engine_model.parameters(size)


def test_sampling_by_hand():
    """Both rows see 3 keys, then 4; a prompt's 2 keys are read once for both."""
    assert engine_model.sampling(TINY, item=4) == [
        PREFILL,
        Phase(2 * (2 * 104 + 2 * 3 * 8), 4 * (104 + 4 * (2 + 2))),
        Phase(2 * (2 * 104 + 2 * 4 * 8), 4 * (104 + 4 * (2 + 4))),
    ]


def test_scoring_and_training_by_hand():
    """Tokens see 3 keys and 4, in both rows."""
    forward = Phase(2 * (4 * 104 + 2 * (3 + 4) * 8), 4 * 104)
    shape = {"item": 4, "prompts": 1, "n": 2}
    assert engine_model.scoring(TINY, **shape) == [PREFILL, forward]
    both = [Phase(3 * p.flops, 3 * p.bytes) for p in (PREFILL, forward)]
    assert engine_model.scoring(TINY, **shape, passes=GRADIENT) == both
    update = Phase(0, 7 * 4 * (84 + 20 + 20))
    assert engine_model.training(TINY, **shape) == [*both, update]


def test_lora_by_hand():
    """Kernels twice, scores and adapters three times; only the adapters are updated.

    Each rank adds 4 + 4 for the query and the output, 4 + 2 for key and value, and
    4 + 3 for each of the MLP: 16 times 8 + 8 + 6 + 6 + 21 numbers.
    """
    adapters = 16 * 49
    assert engine_model.training(TINY, item=4, prompts=1, n=2, lora=True) == [
        Phase(2 * (2 * 2 * 84 + 3 * 3 * 8), 2 * 4 * 84),
        Phase(2 * (2 * 4 * 104 + 3 * 2 * (3 + 4) * 8), 2 * 4 * 104),
        Phase(3 * 2 * 6 * adapters, 3 * 4 * adapters),
        Phase(0, 7 * 4 * adapters),
    ]


def test_sharing_a_prompt_saves_its_second_prefill():
    shared = engine_model.scoring(TINY, 4, prompts=1, n=2)
    alone = engine_model.scoring(TINY, 4, prompts=2, n=1)
    saved = sum(p.flops for p in alone) - sum(p.flops for p in shared)
    assert saved == PREFILL.flops


def test_the_slower_of_two_limits_counts_in_each_phase():
    phases = [Phase(100, 10), Phase(10, 100)]
    assert engine_model.seconds(phases, flops=10, bandwidth=5) == 10 + 20


def test_texts_repeat_the_prompt_and_not_the_response():
    both = engine_model.texts(SIZES["tiny"], 0, prompts=2, n=3).reshape(2, 3, -1)
    assert (both[:, :, :4] == both[:, :1, :4]).all()
    assert not (both[:, 0, 4:] == both[:, 1, 4:]).all()
    assert not (both[0, 0, :4] == both[1, 0, :4]).all()


def test_a_side_that_did_other_work_is_seen():
    values = {"ours": [2.0, 1.0], "same": [2.00001, 1.0], "other": [2.0, 1.001]}
    found = agreement("w", values, 1e-4, distances=False)
    assert [c.agrees for c in found] == [True, True, False]
    found = agreement("w", {"a": [1e-6], "b": [1e-3]}, 1e-4, distances=True)
    assert [c.agrees for c in found] == [True, False]


def test_memory_is_held_to_its_goals():
    size = SIZES["bigvocab"]
    group = engine_goals.scoring(size, 4, gradient=True)
    weights = 4 * engine_model.parameters(size)
    ask = lambda extra: list(
        script.bounds("w", "a", group, {"a": Memory("w", "a", 5, 9, 9 + extra)})
    )
    assert [b.met for b in ask(200 * 2**20 + weights)] == [True]
    assert [b.met for b in ask(201 * 2**20 + weights)] == [False]
    group = engine_goals.training(SIZES["small"], 4, "pair loss")
    sides = {name: Memory("w", name, 9, 1, 5) for name in ("a", *group.peers)}
    sides["more"] = Memory("w", "more", 10, 1, 5)
    met = lambda side: [b.met for b in script.bounds("w", side, group, sides)]
    assert met("a") == [True] and met("more") == [False]


def test_every_goal_is_of_a_side_that_may_run():
    for group in (g for w in ("sample", "score", "train") for g in every(w)):
        assert set(group.peak) <= set(group.peers)


def every(work):
    return engine_goals.groups(SIZES["small"], work, 4)


def test_a_side_answers_from_its_own_process():
    job = {"size": vars(SIZES["tiny"]), "dtype": "float32", "directory": "none"}
    job |= {"cores": 1, "seed": 0, "sides": ["limit: copy"]}
    worker = Worker("jax", job)
    assert worker.ask({"do": "run", "side": "limit: copy", "i": 0})["seconds"] > 0
    memory = worker.ask({"do": "memory"})
    assert memory["start"] > 0 and memory["peak"] >= memory["ready"] > 0
    with pytest.raises(RuntimeError, match="KeyError: 'no such side'"):
        worker.ask({"do": "run", "side": "no such side", "i": 0})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Every row of jsharp's at a tiny size, in this process."""
    out = tmp_path_factory.mktemp("engine") / "engine.json"
    fast = partial(jax.jit, compiler_options=COMPILE_FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", fast)
        return script.run(script.QUICK, out), out


def test_smoke(found):
    found, out = found
    rows = ["sampling", "scoring, prefix shared", "scoring, independent"]
    rows += [
        "gradient, prefix shared",
        "gradient, independent",
        "SFT",
        "LoRA SFT",
        "pair loss",
    ]
    assert [row.work for row in found.rows] == [f"tiny: {name}" for name in rows]
    assert all(row.peer == script.ROOFLINE and row.rate > 0 for row in found.rows)
    written = json.loads(out.read_text())
    assert written["rows"] == [row._asdict() for row in found.rows]
    assert {"commit", "device", "versions", "cores", "config"} <= set(written)
    assert "| tiny: pair loss |" in out.with_suffix(".md").read_text()
    assert len(found.limits) == 6 and all(x.flops > 0 for x in found.limits)


def test_a_run_taken_up_measures_only_what_is_missing(found, tmp_path, monkeypatch):
    found, out = found
    raw = json.loads(out.read_text())
    raw["rows"] = [row for row in raw["rows"] if row["work"] != "tiny: SFT"]
    part = tmp_path / "engine.json"
    part.write_text(json.dumps(raw))
    asked = []
    monkeypatch.setattr(script, "run_group", lambda *args: asked.append(args[3]))
    again = script.run(script.QUICK, part)
    assert [list(group.ours) for group in asked] == [["SFT"]]
    assert again.checks == found.checks and again.limits == found.limits
    assert len(again.rows) == len(found.rows) - 1
    with pytest.raises(ValueError, match="seed: expected 1, found 0"):
        script.run(replace(script.QUICK, seed=1), part)


def test_all_ways_did_the_same_work(found):
    checks = {c.side: c for c in found[0].checks}
    assert len(checks) == 8 and all(c.agrees for c in checks.values())
    scored = checks["jsharp, scoring, independent"].values
    sft, lora = (checks[f"jsharp, {work}"].values for work in ("SFT", "LoRA SFT"))
    assert len(sft) == 2 and sft[1] < sft[0]
    # The adapters change nothing at first, and then less than all weights do.
    assert lora[0] == pytest.approx(sft[0], rel=1e-6) and sft[1] < lora[1] < lora[0]
    assert np.isfinite(scored).all() and scored[0] < 0


def test_missing_peers_are_left_out_by_name(monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    notes = []
    job = {"size": vars(SIZES["tiny"]), "dtype": "float32", "directory": "none"}
    job |= {"cores": 1, "seed": 0}
    config = script.Config(together=True)
    group = engine_goals.Group(1, {}, {"TRL SFTTrainer": 1.5})
    with script.started(config, job, group, notes) as sides:
        assert set(sides.workers) == {"limit: jax matmul", "limit: copy"}
    assert notes[0] == "TRL SFTTrainer: left out, torch is not installed"


def test_a_profile_names_the_calls_that_cost():
    size = SIZES["tiny"]
    config = engine_model.transformer_config(size, "float32")
    policy = engine_jax.policy_of(config, size)
    params = jax.jit(policy.init)(jax.random.key(0))
    x, response = engine_jax.batch(size, 0, prompts=2, n=3)
    program = jax.jit(policy.log_prob).lower(params, x, response).compile()
    run = lambda: jax.block_until_ready(program(params, x, response))
    spent = parts(run, program.as_text())
    assert any("product" in part for part in spent) and sum(spent.values()) > 0


def test_the_loop_by_hand_agrees_with_transformers():
    """Greedy tokens and log-probs; only where torch is installed."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from experiments.benchmarks import engine_torch_decoder as by_hand

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    prompts = torch.randint(50, (3, 5))
    with torch.no_grad():
        wanted = model.generate(prompts, max_new_tokens=9, do_sample=False)[:, 5:]
        scores = lambda y: (
            model(torch.cat([prompts.repeat_interleave(2, 0), y], 1))
            .logits[:, 4:-1]
            .log_softmax(-1)
            .gather(-1, y[..., None])[..., 0]
        )
        source = transformers.LlamaForCausalLM(config).eval()
        source.load_state_dict(model.state_dict())
        hand = by_hand.Decoder(source)
        tokens, _ = by_hand.sample(hand, prompts, 2, 9, by_hand.greedy)
        assert torch.equal(tokens[::2], wanted) and torch.equal(tokens[1::2], wanted)
        for draw in (by_hand.multinomial, by_hand.inverse_cdf):
            tokens, log_prob = by_hand.sample(hand, prompts, 2, 9, draw)
            torch.testing.assert_close(log_prob, scores(tokens), rtol=0, atol=1e-4)
