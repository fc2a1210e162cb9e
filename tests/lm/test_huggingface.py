"""Checkpoints in and out of the Hugging Face layout, and every bad one refused."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from tiny_llama import CONFIG, PARAMS

from jsharp.lm import huggingface

FIXTURES = Path(__file__).parent / "fixtures"
ENDS = dict(end=(1, 4), pad=0)


def read(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def assert_same_tree(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype, found, wanted))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def save(directory, model, **settings):
    huggingface.save(
        directory, model.config, model.params, end=model.end, pad=model.pad, **settings
    )


@pytest.mark.parametrize("name", ["grouped", "tied"])
def test_load_then_save_writes_the_tensors_of_transformers(name, tmp_path):
    """Bit for bit the file that save_pretrained wrote: same names, same layout."""
    model = huggingface.load(FIXTURES / name)
    save(tmp_path, model)
    wanted, metadata = read(FIXTURES / name / "model.safetensors")
    found, kept = read(tmp_path / "model.safetensors")
    assert found.keys() == wanted.keys() and kept == metadata == {"format": "pt"}
    for tensor in wanted:
        np.testing.assert_array_equal(found[tensor], wanted[tensor], err_msg=tensor)
    again = huggingface.load(tmp_path)
    assert_same_tree(again.params, model.params)
    assert again._replace(params=None) == model._replace(params=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_save_then_load_is_the_identity(dtype, tied, tmp_path):
    config = dataclasses.replace(CONFIG, dtype=dtype, tie_word_embeddings=tied)
    params = {k: v for k, v in PARAMS.items() if k != "head" or not tied}
    # NumPy's transposes are views, which safetensors would write as garbage.
    params = jax.tree.map(lambda leaf: np.asarray(leaf.astype(dtype)), params)
    huggingface.save(tmp_path, config, params, **ENDS)
    found = huggingface.load(tmp_path)
    assert_same_tree(found.params, params)
    assert (found.end, found.pad) == ((1, 4), 0)
    ids = dict(eos_token_id=(1, 4), pad_token_id=0)
    assert found.config == dataclasses.replace(config, **ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(architectures=["GemmaForCausalLM"]), "architectures: expected one of"),
        (dict(rope_scaling={"rope_type": "yarn", "factor": 2}), "got 'yarn'"),
        (dict(quantization_config={"bits": 4}), "quantization_config: not supported"),
        (dict(dtype="float16"), "dtype: expected one of"),
        (dict(eos_token_id=40), "eos_token_id expected 0 to 39, got 40"),
        (dict(pad_token_id=-1), "pad_token_id expected 0 to 39, got -1"),
    ],
)
def test_a_config_of_another_function_is_refused_before_the_weights(
    change, message, tmp_path
):
    """The folder holds nothing else; test_config has the other reasons."""
    raw = json.loads((FIXTURES / "grouped" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, **change}))
    with pytest.raises(ValueError, match=message) as caught:
        huggingface.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_long_table_is_asked_of_longrope_only():
    with pytest.raises(ValueError, match="long_context: expected a longrope, got def"):
        huggingface.load(FIXTURES / "grouped", long_context=True)
    config = huggingface.load(FIXTURES / "phi3").config
    assert not config.rope.long_context and config.context_length == 16
    config = huggingface.load(FIXTURES / "phi3", long_context=True).config
    assert config.rope.long_context and config.context_length == 128


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_converts_the_weights(checkpoint, stored, dtype):
    path = checkpoint / "model.safetensors"
    tensors = {k: v.astype(stored) for k, v in read(path)[0].items()}
    safetensors.numpy.save_file(tensors, path)
    found = huggingface.load(checkpoint, dtype=dtype)
    assert found.config.dtype == dtype
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found.params))
    np.testing.assert_array_equal(
        found.params["head"], tensors["lm_head.weight"].astype(dtype)
    )
    kernel = found.params["layers"][1]["mlp"]["down"]["kernel"]
    wanted = tensors["model.layers.1.mlp.down_proj.weight"].astype(dtype).T
    np.testing.assert_array_equal(kernel, wanted)


def test_a_config_is_read_with_the_choices_of_load(tmp_path):
    """Half precision, as Llama 2 is published, is read in another type or refused."""
    raw = json.loads((FIXTURES / "phi3" / "config.json").read_text())
    raw = {key: value for key, value in raw.items() if key != "dtype"}
    (tmp_path / "config.json").write_text(json.dumps(raw | {"torch_dtype": "float16"}))
    with pytest.raises(ValueError, match="dtype: .*'float16'; choose one of them"):
        huggingface.read_config(tmp_path)
    found = huggingface.read_config(tmp_path, dtype="float32", long_context=True)
    model = huggingface.load(FIXTURES / "phi3", dtype="float32", long_context=True)
    assert found == model.config


@pytest.fixture
def checkpoint(tmp_path):
    return Path(shutil.copytree(FIXTURES / "grouped", tmp_path / "model"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name} in"):
        huggingface.load(checkpoint)


def test_pickled_weights_are_never_opened(checkpoint):
    whole, pickle = checkpoint / "model.safetensors", checkpoint / "pytorch_model.bin"
    whole.rename(pickle)
    with pytest.raises(FileNotFoundError, match=f"no {whole.name} .* {pickle.name}: a"):
        huggingface.load(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_torn_json_is_named(checkpoint, name):
    (checkpoint / name).write_text((checkpoint / name).read_text()[:-9])
    with pytest.raises(ValueError, match=f"{name} is not JSON"):
        huggingface.load(checkpoint)


@pytest.mark.parametrize("kept", [0, 5, 300, 20_000, -1])
def test_torn_weights_are_named(checkpoint, kept):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is torn"):
        huggingface.load(checkpoint)


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NORM: None}, f"lacks {NORM}"),
        ({"lm_head.weight": None}, "lacks lm_head.weight"),
        ({"rotary.inv_freq": np.ones(3, np.float32)}, "has unexpected rotary.inv"),
        (
            {NORM: np.ones((1, 48), np.float32)},
            rf"{NORM} expected shape \(48,\), got \(1, 48\)",
        ),
        ({NORM: np.ones(48, np.int32)}, f"{NORM} expected one of .*, got I32"),
    ],
)
def test_wrong_tensors_are_named(checkpoint, change, message):
    path = checkpoint / "model.safetensors"
    tensors = {**read(path)[0], **change}
    tensors = {name: each for name, each in tensors.items() if each is not None}
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=message) as caught:
        huggingface.load(checkpoint)
    assert str(path) in str(caught.value)


def test_rotary_buffers_of_old_files_are_passed_over(checkpoint):
    path = checkpoint / "model.safetensors"
    model = huggingface.load(checkpoint)
    tensors = read(path)[0]
    for name in ("rotary_emb.inv_freq", "layers.1.self_attn.rotary_emb.inv_freq"):
        tensors[f"model.{name}"] = np.ones(8, np.int64)
    safetensors.numpy.save_file(tensors, path)
    assert_same_tree(huggingface.load(checkpoint).params, model.params)


def test_a_head_beside_a_tied_table_must_be_that_table(tmp_path):
    checkpoint = Path(shutil.copytree(FIXTURES / "tied", tmp_path / "model"))
    path, model = checkpoint / "model.safetensors", huggingface.load(checkpoint)
    tensors = read(path)[0]
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    safetensors.numpy.save_file(tensors, path)
    assert_same_tree(huggingface.load(checkpoint).params, model.params)
    for bad in (tensors["lm_head.weight"] + np.eye(40, 32, 5), np.ones((40, 31))):
        tensors["lm_head.weight"] = bad.astype(np.float32)
        safetensors.numpy.save_file(tensors, path)
        with pytest.raises(ValueError, match="lm_head.weight is not model.embed_tok"):
            huggingface.load(checkpoint)


@pytest.fixture
def sharded(tmp_path):
    """As `grouped`, in shards of at most 40 kB."""
    model, directory = huggingface.load(FIXTURES / "grouped"), tmp_path / "sharded"
    save(directory, model, max_shard_bytes=40_000)
    return directory


def test_shards_and_their_index_hold_the_model(sharded):
    model = huggingface.load(FIXTURES / "grouped")
    shards = sorted(sharded.glob("model-*.safetensors"))
    count = len(shards)
    assert count > 3 and not (sharded / "model.safetensors").exists()
    wanted = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    assert [path.name for path in shards] == wanted
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    placed = {name: path.name for path in shards for name in read(path)[0]}
    assert index["weight_map"] == placed
    sizes = [sum(t.nbytes for t in read(path)[0].values()) for path in shards]
    assert index["metadata"] == {"total_size": sum(sizes)} and max(sizes) <= 40_000
    found = huggingface.load(sharded)
    assert_same_tree(found.params, model.params)
    assert found._replace(params=None) == model._replace(params=None)


def test_a_later_save_leaves_no_file_of_the_earlier(sharded):
    """Peers read model.safetensors before any shard."""
    model = huggingface.load(sharded)
    kept = {"config.json", "generation_config.json"}
    names = lambda: {path.name for path in sharded.iterdir()} - kept
    save(sharded, model)
    assert names() == {"model.safetensors"}
    save(sharded, model, max_shard_bytes=40_000)
    many = names()
    save(sharded, model, max_shard_bytes=80_000)
    assert "model.safetensors" not in names() and 1 < len(names()) < len(many)
    assert_same_tree(huggingface.load(sharded).params, model.params)


def test_a_sharded_save_that_fails_leaves_no_index_of_two_models(sharded, monkeypatch):
    model = huggingface.load(sharded)
    doubled = model._replace(params=jax.tree.map(lambda leaf: 2 * leaf, model.params))
    files, sync = iter(range(100)), os.fsync

    def full(descriptor):
        if next(files) == 4:  # config, generation config, two shards
            raise OSError("no space left")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save(sharded, doubled, max_shard_bytes=40_000)
    with pytest.raises(FileNotFoundError, match="no model.safetensors in"):
        huggingface.load(sharded)
    assert not list(sharded.glob("*.partial"))


def edit_index(directory, **change):
    path = directory / "model.safetensors.index.json"
    raw = json.loads(path.read_text())
    raw["weight_map"] = {**raw["weight_map"], **change}
    raw["weight_map"] = {k: v for k, v in raw["weight_map"].items() if v is not None}
    path.write_text(json.dumps(raw))


def test_faults_of_shards_are_named(sharded):
    placed = json.loads((sharded / "model.safetensors.index.json").read_text())
    placed = placed["weight_map"]
    table = "model.embed_tokens.weight"
    other = next(each for each in placed.values() if each != placed[table])
    index = "model.safetensors.index.json"

    def refused(kind, message):
        with pytest.raises(kind, match=message):
            huggingface.load(sharded)
        edit_index(sharded, **placed)

    edit_index(sharded, **{NORM: None})
    refused(ValueError, f"{index} lacks {NORM}")
    edit_index(sharded, **{NORM: other if placed[NORM] != other else placed[table]})
    refused(
        ValueError, rf"of-\d+.safetensors (lacks|has unexpected) {NORM}, says {index}"
    )
    edit_index(sharded, **{NORM: "../elsewhere.safetensors"})
    refused(ValueError, f"{index}: expected weight_map to give names of files")
    edit_index(sharded, **{NORM: "gone.safetensors"})
    refused(FileNotFoundError, "no gone.safetensors in")
    edit_index(sharded, **{NORM: 3})
    refused(ValueError, f"{index}: expected weight_map")
    path = sharded / placed[table]
    whole = path.read_bytes()
    safetensors.numpy.save_file({**read(path)[0], "extra": np.ones(3)}, path)
    refused(ValueError, f"{path.name}: extra expected one of")
    extra = {**read(path)[0], "extra": np.ones(3, np.float32)}
    safetensors.numpy.save_file(extra, path)
    refused(ValueError, f"{path.name} has unexpected extra, says {index}")
    path.write_bytes(whole[:-1])
    refused(ValueError, f"{path.name} is torn")
    path.unlink()
    refused(FileNotFoundError, f"no {path.name} in")
    (sharded / index).write_text("{}")
    with pytest.raises(ValueError, match=f"{index} is no index of shards"):
        huggingface.load(sharded)


def test_end_tokens_of_both_configs_count_and_pad_falls_back_on_them(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"eos_token_id": 7, "pad_token_id": None}
    (checkpoint / "config.json").write_text(json.dumps(config))
    generation = checkpoint / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [7, 2]}))
    assert huggingface.load(checkpoint)[2:] == ((7, 2), 7)
    generation.write_text(json.dumps({"eos_token_id": [7, 2], "pad_token_id": 3}))
    assert huggingface.load(checkpoint)[2:] == ((7, 2), 3)
    generation.unlink()
    config["eos_token_id"] = None
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no eos_token_id in"):
        huggingface.load(checkpoint)


TOKENS = [{"id": 8, "content": "</s>"}, {"id": 9, "content": "<|im_end|>"}]


@pytest.mark.parametrize("spelled", ["<|im_end|>", {"content": "<|im_end|>"}])
def test_the_tokenizer_adds_its_end_token_last(checkpoint, spelled):
    """The union, in the order config, generation config, tokenizer."""
    (checkpoint / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": spelled})
    )
    assert huggingface.load(checkpoint).end == (5, 6)  # no vocabulary, no id
    vocabulary = checkpoint / "tokenizer.json"
    vocabulary.write_text(json.dumps({"added_tokens": TOKENS}))
    assert huggingface.load(checkpoint).end == (5, 6, 9)
    generation = checkpoint / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [9, 7]}))
    assert huggingface.load(checkpoint).end == (5, 6, 9, 7)
    vocabulary.write_text(json.dumps({"added_tokens": TOKENS[:1]}))
    with pytest.raises(ValueError, match="tokenizer.json has no .*, eos_token of"):
        huggingface.load(checkpoint)
    raw = {"model": {"vocab": {"<|im_end|>": 11}}, "added_tokens": TOKENS[:1]}
    vocabulary.write_text(json.dumps(raw))
    assert huggingface.load(checkpoint).end == (5, 6, 9, 7, 11)


def test_a_tokenizer_alone_says_where_responses_end(checkpoint):
    raw = json.loads((checkpoint / "config.json").read_text())
    raw |= {"eos_token_id": None, "pad_token_id": None}
    (checkpoint / "config.json").write_text(json.dumps(raw))
    (checkpoint / "generation_config.json").unlink()
    (checkpoint / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    (checkpoint / "tokenizer.json").write_text(json.dumps({"added_tokens": TOKENS}))
    assert huggingface.load(checkpoint)[2:] == ((8,), 8)


def test_save_refuses_params_of_another_shape(tmp_path):
    extra = {**PARAMS, "bias": jnp.ones(3)}
    lacking = {k: v for k, v in PARAMS.items() if k != "head"}
    narrow = {**PARAMS, "embedding": PARAMS["embedding"].astype(jnp.bfloat16)}
    for params, message in (
        (extra, r"params have unexpected \['bias'\]"),
        (lacking, r"params lack \['head'\]"),
        (narrow, r"params\['embedding'\]: expected float32\(9, 16\), got bfloat16"),
    ):
        with pytest.raises(ValueError, match=message):
            huggingface.save(tmp_path / "new", CONFIG, params, **ENDS)
    with pytest.raises(ValueError, match="at least one end token"):
        huggingface.save(tmp_path / "new", CONFIG, PARAMS, end=(), pad=0)
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_the_old_file(checkpoint, monkeypatch):
    before = {p.name: p.read_bytes() for p in checkpoint.iterdir()}
    model = huggingface.load(checkpoint)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model.params)

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        huggingface.save(checkpoint, model.config, doubled, end=(5, 6), pad=0)
    assert {p.name: p.read_bytes() for p in checkpoint.iterdir()} == before
