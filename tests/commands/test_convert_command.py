"""`jsharp convert`: the same model in other files, and nothing half done."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoint import CONFIG

from jsharp.commands import convert
from jsharp.lm import huggingface, lora, peft


@pytest.fixture
def run(checkpoint, capsys):
    """run(target, ...) -> exit status and stderr, from the tiny checkpoint."""

    def command(target, *args):
        status = convert.main([str(a) for a in (checkpoint.directory, target, *args)])
        return status, capsys.readouterr().err

    return command


def _same(left, right):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), left, right))


def test_type_and_shards_change_and_the_rest_does_not(tmp_path, run, checkpoint):
    target = tmp_path / "deep" / "bf16"
    status, said = run(target, "--dtype", "bfloat16", "--max-shard-size", "1KB")
    assert status == 0 and "parameters, bfloat16, files: " in said
    found = huggingface.load(target)
    assert found.config.dtype == "bfloat16"
    assert found.end == (0,) and found.pad == 0
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), checkpoint.params)
    assert _same(found.params, rounded)
    shards = list(target.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1 and (target / "model.safetensors.index.json").exists()
    name = "tokenizer.json"
    assert (target / name).read_bytes() == (checkpoint.directory / name).read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["bf16"]


def test_there_and_back_is_the_same(tmp_path, run, checkpoint):
    assert run(tmp_path / "again")[0] == 0
    for path in checkpoint.directory.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_defaults_of_generation_stay(tmp_path, checkpoint, capsys):
    source = tmp_path / "source"
    source.mkdir()
    for path in checkpoint.directory.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    settings = {"temperature": 0.6, "eos_token_id": [0, 2], "do_sample": True}
    (source / "generation_config.json").write_text(json.dumps(settings))
    assert convert.main([str(source), str(tmp_path / "target")]) == 0
    found = json.loads((tmp_path / "target" / "generation_config.json").read_text())
    assert {k: found[k] for k in settings} == settings
    assert huggingface.load(tmp_path / "target").end == (0, 2)


def test_an_adapter_is_merged(tmp_path, run, checkpoint):
    """W + (alpha / r) A B by numpy, on the files' own matrices."""
    draw = np.random.default_rng(0)
    random = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)
    names = list(lora.targeted(CONFIG, ("down_proj",)))
    assert names == ["model.layers.0.mlp.down_proj"]
    adapter = {names[0]: {"a": random(20, 2), "b": random(2, 16)}}
    peft.save(tmp_path / "adapter", CONFIG, adapter, alpha=3.0)
    assert run(tmp_path / "merged", "--adapter", tmp_path / "adapter")[0] == 0
    found = huggingface.load(tmp_path / "merged").params
    down = lambda params: params["layers"][0]["mlp"]["down"]["kernel"]
    change = 1.5 * np.float64(adapter[names[0]]["a"]) @ adapter[names[0]]["b"]
    expected = np.float64(down(checkpoint.params)) + change
    assert np.abs(np.asarray(down(found)) - expected).max() < 1e-5
    others = jax.tree.map(lambda x: x, found)
    others["layers"][0]["mlp"]["down"]["kernel"] = down(checkpoint.params)
    assert _same(others, checkpoint.params)


def test_nothing_is_overwritten(tmp_path, run):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").write_text("mine")
    status, said = run(tmp_path / "target")
    assert status == 2 and f"target: {tmp_path / 'target'} exists" in said
    assert [p.name for p in (tmp_path / "target").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("size", "count"), [("500MB", 500_000_000), ("5gb", 5 * 10**9), ("7", 7)]
)
def test_sizes(size, count):
    assert convert.shard_bytes(size) == count


@pytest.mark.parametrize("size", ["5 GiB", "0", "-1MB", "big", "1.5GB"])
def test_other_sizes_are_refused(tmp_path, run, size):
    status, said = run(tmp_path / "target", f"--max-shard-size={size}")
    assert status == 2 and "--max-shard-size must be a size such as 500MB" in said


def test_a_failure_leaves_nothing(tmp_path, run, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(convert.tokenizer_files, "copy", full)
    status, said = run(tmp_path / "target")
    assert status == 2 and "No space left" in said
    assert not list(tmp_path.iterdir())
    assert run(tmp_path / "target", "--adapter", tmp_path / "none")[0] == 2
    assert not list(tmp_path.iterdir())


def test_an_interrupt_is_said_and_leaves_nothing(tmp_path, run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert.tokenizer_files, "copy", interrupted)
    status, said = run(tmp_path / "target")
    assert status == 130 and "interrupted; nothing was made" in said
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_none_is_named(tmp_path, capsys):
    assert convert.main([str(tmp_path / "none"), str(tmp_path / "target")]) == 2
    assert "found no" in capsys.readouterr().err
