"""Malformed files to be refused: prompts, completions, problems, checkpoints, outputs.

`make` writes them all, and a good model among them: what is refused differs from what
is accepted by one fault.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from jsharp import files, run_directory
from jsharp.commands import sample, stream
from jsharp.lm import checkpoint, huggingface, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.tokenizer import character_tokenizer
from jsharp.tasks import load
from jsharp.train.config import Sft
from jsharp.train.plan import prepare

_GOOD = '{"id": "q1", "prompt": "1+2"}'

PROMPTS: dict[str, str | bytes] = {
    "good.jsonl": '{"id": "q1", "prompt": "1+2", "answer": "3"}\n',
    "empty.jsonl": "",
    "blank.jsonl": "\n  \n\n",
    "torn.jsonl": f'{_GOOD}\n{{"id": "q2", "pro',
    "binary.jsonl": bytes(range(128, 256)),
    "utf16.jsonl": f"{_GOOD}\n".encode("utf-16"),
    "latin1.jsonl": '{"prompt": "1\xb11"}\n'.encode("latin-1"),
    "array.jsonl": f"[{_GOOD}]\n",
    "pretty.jsonl": '{\n  "prompt": "1+2"\n}\n',
    "table.jsonl": "id,prompt\nq1,1+2\n",
    "deep.jsonl": "[" * 100_000 + "\n",
    "twice.jsonl": '{"prompt": "1+2", "prompt": "1+3"}\n',
    "nan.jsonl": '{"prompt": "1+2", "weight": NaN}\n',
    "huge.jsonl": '{"prompt": "1+2", "weight": 1e999}\n',
    "no-prompt.jsonl": f'{_GOOD}\n{{"question": "1+2"}}\n',
    "number.jsonl": '{"prompt": 12}\n',
    "no-text.jsonl": '{"prompt": ""}\n',
    "strings.jsonl": '{"prompt": ["1+2"]}\n',
    "no-role.jsonl": '{"prompt": [{"content": "1+2"}]}\n',
    "answered.jsonl": '{"prompt": [{"role": "assistant", "content": "3"}]}\n',
    "messages.jsonl": '{"prompt": [{"role": "user", "content": "1+2"}]}\n',
    "id-float.jsonl": '{"id": 1.5, "prompt": "1+2"}\n',
    "id-again.jsonl": f"{_GOOD}\n{_GOOD}\n",
    "id-line.jsonl": '{"id": "2", "prompt": "1+2"}\n{"prompt": "1+3"}\n',
    "long.jsonl": json.dumps({"prompt": "1" * 61}) + "\n",
    "letter.jsonl": '{"prompt": "1+x"}\n',
    "ids-text.jsonl": '{"prompt_ids": ["1"]}\n',
    "ids-large.jsonl": '{"prompt_ids": [1, 4096]}\n',
    "taken.jsonl": '{"prompt": "1+2", "completion": "3"}\n',
    "no-answer.jsonl": f"{_GOOD}\n",
    "answer-list.jsonl": '{"prompt": "1+2", "answer": ["3"]}\n',
    "torn.jsonl.gz": gzip.compress(b'{"prompt": "1+2"}\n' * 99)[:-12],
    "plain.jsonl.gz": f"{_GOOD}\n",
    "no-completion.jsonl": f"{_GOOD}\n",
    "completion-number.jsonl": '{"prompt": "1+2", "completion": 3}\n',
    "completion-large.jsonl": '{"prompt": "1+2", "completion_ids": [4096]}\n',
    "count.jsonl": '{"prompt": "1", "completion": "3", "num_tokens": 7}\n',
    "both-long.jsonl": json.dumps({"prompt": "1" * 40, "completion": "3" * 40}) + "\n",
    "gsm8k.jsonl": '{"question": "1+2?", "answer": "It is 3."}\n',
    "math.jsonl": '{"problem": "1+2?", "solution": "It is 3."}\n',
    "mmlu.jsonl": '{"question": "1+2?", "choices": ["2", "3"], "answer": 2}\n',
    "problems.csv": "question,answer\n1+2?,3\n",
    "problems.parquet": "PAR1",
}

Change = Callable[[Path], Any]


def make(directory: Path) -> None:
    """Write the good model, the malformed files, and a broken copy of it for each."""
    for name, content in PROMPTS.items():
        content = content.encode() if isinstance(content, str) else content
        files.write_bytes(directory / name, content)
    good = directory / "model"
    _write_model(good)
    for name, change in CHECKPOINTS.items():
        shutil.copytree(good, directory / name)
        change(directory / name)
    _write_outputs(directory)


def _write_model(directory: Path) -> None:
    alphabet = "".join(sorted(set("".join(map(_alphabet, ("arithmetic", "game24"))))))
    tokenizer = character_tokenizer(alphabet)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        eos_token_id=0,
        pad_token_id=0,
    )
    shapes = jax.eval_shape(
        lambda key: transformer.init(key, config), jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    huggingface.save(directory, config, params, end=(0,), pad=0)
    tokenizer.save(directory)


def _alphabet(name: str) -> str:
    return load(name).alphabet


def _config(**changes: Any) -> Change:
    """A change of config.json; None takes a key away."""

    def change(model: Path) -> None:
        found = files.read_json(model / "config.json") | changes
        kept = {key: value for key, value in found.items() if value is not None}
        files.write_json(model / "config.json", kept)

    return change


def _tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Change:
    def rewrite(model: Path) -> None:
        path = model / "model.safetensors"
        found = safetensors.numpy.load_file(path)
        change(found)
        files.write_bytes(path, safetensors.numpy.save(found))

    return rewrite


def _cut(name: str) -> Change:
    def change(model: Path) -> None:
        content = (model / name).read_bytes()
        files.write_bytes(model / name, content[: len(content) // 2])

    return change


def _only_pickle(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _escaping_index(model: Path) -> None:
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    names = safetensors.numpy.load_file(model.parent / "outside.safetensors")
    index = {"weight_map": dict.fromkeys(names, "../outside.safetensors")}
    files.write_json(model / "model.safetensors.index.json", index)


def _bad_template(model: Path) -> None:
    files.write_text(model / "chat_template.jinja", "{% for m in messages %}\n{{ m ")


def _adapter(**changes: Any) -> Change:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    config |= {"target_modules": ["q_proj"], **changes}

    def change(model: Path) -> None:
        files.write_json(model / "adapter_config.json", config)
        content = safetensors.numpy.save({"other": np.zeros(1, np.float32)})
        files.write_bytes(model / "adapter_model.safetensors", content)

    return change


_NORM, _QUERY = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"

CHECKPOINTS: dict[str, Change] = {
    "no-config": lambda model: (model / "config.json").unlink(),
    "torn-config": _cut("config.json"),
    "gpt2": _config(model_type="gpt2", architectures=["GPT2LMHeadModel"]),
    "text-size": _config(hidden_size="8"),
    "quantised": _config(quantization_config={"quant_method": "gptq"}),
    "end-outside": _config(eos_token_id=4096),
    "torn-generation": _cut("generation_config.json"),
    "no-weights": lambda model: (model / "model.safetensors").unlink(),
    "pickle": _only_pickle,
    "torn-weights": _cut("model.safetensors"),
    "missing-tensor": _tensors(lambda found: found.pop(_NORM)),
    "more-tensors": _tensors(lambda found: found.update(extra=found[_NORM])),
    "wrong-shape": _tensors(
        lambda found: found.update({_QUERY: found[_QUERY][:4].copy()})
    ),
    "integers": _tensors(
        lambda found: found.update({_NORM: found[_NORM].astype(np.int8)})
    ),
    "escaping": _escaping_index,
    "no-tokenizer": lambda model: (model / "tokenizer.json").unlink(),
    "torn-tokenizer": _cut("tokenizer.json"),
    "bad-template": _bad_template,
    "other-alphabet": lambda model: character_tokenizer("+-=01").save(model),
    "dora": _adapter(use_dora=True),
    "other-adapter": _adapter(),
}


def _write_outputs(directory: Path) -> None:
    """What runs of other settings left, whole and damaged; nothing is drawn for it."""
    outputs, model = directory / "outputs", str(directory / "model")
    files.write_bytes(outputs / "unknown.jsonl", b'{"id": "q1"}\n')
    for name, seed, content in (
        ("other-seed", 1, '{"id": "q1"}\n'),
        ("torn-pin", 0, '{"id": "q1"}\n'),
        ("edited", 0, '{"id": "changed"}\n{"id": "q1"}\n'),
    ):
        output = outputs / f"{name}.jsonl"
        asked = sample.Config(
            input=directory / "good.jsonl",
            output=output,
            model_name_or_path=model,
            max_completion_length=4,
            seed=seed,
        )
        job = sample.prepare(asked)
        with stream.hold(output, job.identity, job.plan, {}, overwrite=False):
            files.write_text(output, content)
    _cut("torn-pin.jsonl.run.json")(outputs)
    for name, seed in (("run", 1), ("other-state", 0)):
        run = Sft(
            output_dir=outputs / name,
            model_name_or_path=model,
            prompts=directory / "good.jsonl",
            max_completion_length=4,
            seed=seed,
        )
        identity = prepare(run).identity("sft")
        run_directory.claim(run.output_dir, identity, resume=True)
    checkpoint.save(outputs / "other-state" / "checkpoints", 1, {"a": np.zeros(1)})
    for name in ("not-a-run", "torn-run"):
        shutil.copytree(outputs / "run", outputs / name)
    files.write_json(outputs / "not-a-run" / "config.json", ["a", "list"])
    _cut("config.json")(outputs / "torn-run")
