"""Parity with transformers on random checkpoints of every family, in both directions.

    pip install "jsharp[hf]" peft && python -m experiments.benchmarks.parity

Two minutes on a CPU; run by hand, for it needs torch. For each family it makes a
random model that transformers saves, loads it here, saves it here and opens that in
transformers with no flag, and prints max |difference| / max |logit| of the float32
logits:

    in        transformers' model, loaded here
    out       the model saved here (in three shards), opened by transformers
    bf16      a bfloat16 file loaded as float32 by both
    narrow    the same file run in bfloat16 here, against those float32 logits
    theirs    and run in bfloat16 by transformers, against the same: both only round
    LoRA      adapters made here, opened by PEFT (and read back as PEFT saves them)
    merged    the merged weights saved here, opened by transformers
    greedy    whether a continuation of 16 tokens is the same

With longrope both tables are used: `in` is the larger of the two differences.
"""

# pyright: reportMissingImports=false

import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsharp.lm import huggingface, layout, lora, peft, transformer
from jsharp.lm.attention import causal

ROWS, LENGTH, NEW = 2, 96, 16
SIZES = dict(
    vocab_size=1000,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=512,
    tie_word_embeddings=False,
    initializer_range=0.08,
    bos_token_id=1,
    eos_token_id=[5, 6],
    pad_token_id=0,
)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def longrope(pairs: int, **settings: float) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.05 * i for i in range(pairs)],
        "long_factor": [1.0 + 0.6 * i for i in range(pairs)],
        "original_max_position_embeddings": 64,
        **settings,
    }


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": dict(model_type="llama"),
    "llama, biased": dict(model_type="llama", attention_bias=True, mlp_bias=True),
    "llama3 rope, tied": dict(
        model_type="llama", rope_parameters=LLAMA3, tie_word_embeddings=True
    ),
    "llama, linear rope": dict(
        model_type="llama",
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    ),
    "mistral, window": dict(
        model_type="mistral", sliding_window=32, num_key_value_heads=1, head_dim=48
    ),
    "qwen2": dict(model_type="qwen2", num_key_value_heads=2),
    "qwen2, tied, windows": dict(
        model_type="qwen2",
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=24,
        max_window_layers=2,
    ),
    "qwen3": dict(model_type="qwen3", head_dim=64),
    "phi3, window": dict(model_type="phi3", sliding_window=40),
    "phi3, longrope": dict(
        model_type="phi3",
        original_max_position_embeddings=64,
        rope_parameters=longrope(16),
    ),
    "phi3, partial, tied": dict(
        model_type="phi3",
        num_key_value_heads=2,
        tie_word_embeddings=True,
        original_max_position_embeddings=64,
        rope_parameters=longrope(12, partial_rotary_factor=0.75),
    ),
}
COLUMNS = ("in", "out", "bf16", "narrow", "theirs", "LoRA", "merged")


def build(shape: dict[str, Any]):
    """A random model of transformers: no scale is 1 and no bias 0."""
    import torch
    import transformers

    torch.manual_seed(0)
    shape = {**SIZES, **shape}
    config = transformers.CONFIG_MAPPING[shape.pop("model_type")](**shape)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.5)
        elif parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def theirs(model, tokens: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.float().numpy()


def opened(directory: Path, dtype: str):
    import transformers

    found = transformers.AutoModelForCausalLM.from_pretrained(directory)
    assert str(found.dtype) == f"torch.{dtype}", found.dtype
    return found.eval()


@functools.partial(jax.jit, static_argnums=0)
def ours(config, params, tokens):
    model = transformer.merge(config, params)
    position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = model(tokens[:, None], position[:, None], causal())
    return model.logits(hidden)[:, 0]


def gap(found, wanted) -> float:
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def save(directory: Path, model: huggingface.Checkpoint, **settings) -> None:
    huggingface.save(
        directory, model.config, model.params, end=model.end, pad=model.pad, **settings
    )


def inward(directory: Path, model, tokens: np.ndarray) -> tuple[float, bool]:
    """The `in` column, over both tables of longrope, and `greedy`."""
    import torch

    model.save_pretrained(directory)
    long = "longrope" in str(model.config)
    found = huggingface.load(directory, long_context=long)
    gaps = [gap(ours(found.config, found.params, tokens), theirs(model, tokens))]
    if long:
        short = huggingface.load(directory)
        head = tokens[:, : short.config.context_length]
        gaps.append(gap(ours(short.config, short.params, head), theirs(model, head)))
    with torch.no_grad():
        full = model.generate(
            torch.from_numpy(tokens),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
        ).numpy()
    fed = np.array(ours(found.config, found.params, full[:, :-1]))
    fed[..., list(found.end)] = -np.inf  # as min_new_tokens has it
    chosen = fed[:, LENGTH - 1 :].argmax(-1)
    return max(gaps), bool((chosen == full[:, LENGTH:]).all())


def outward(directory: Path, found: huggingface.Checkpoint, model, tokens) -> float:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(found.params))
    save(directory, found, max_shard_bytes=size * 2 // 5)
    assert len(list(directory.glob("model-*.safetensors"))) >= 3
    return gap(theirs(opened(directory, "float32"), tokens), theirs(model, tokens))


def halved(directory: Path, model, tokens: np.ndarray) -> tuple[float, ...]:
    import torch
    import transformers

    model.to(torch.bfloat16).save_pretrained(directory)
    wide = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32
    )
    long = "longrope" in str(model.config)
    load = functools.partial(huggingface.load, directory, long_context=long)
    found, narrow = load(dtype="float32"), load()
    assert narrow.params["embedding"].dtype == jnp.bfloat16
    wanted = theirs(wide, tokens)
    peer = theirs(opened(directory, "bfloat16"), tokens)
    return (
        gap(ours(found.config, found.params, tokens), wanted),
        gap(ours(narrow.config, narrow.params, tokens), wanted),
        gap(peer, wanted),
    )


def adapted(
    base: Path, directory: Path, found: huggingface.Checkpoint, tokens: np.ndarray
) -> tuple[float, float]:
    import peft as peers

    draw = np.random.default_rng(0).normal
    adapters = {
        name: {
            "a": jnp.asarray(draw(0, 0.1, (each.inner, 4)), jnp.float32),
            "b": jnp.asarray(draw(0, 0.1, (4, len(each.columns))), jnp.float32),
        }
        for name, each in layout.projections(found.config).items()
    }
    peft.save(directory / "adapter", found.config, adapters, alpha=6.0, base=str(base))
    again = peft.load(directory / "adapter", found.config)
    assert again.alpha == 6.0 and again.adapters.keys() == adapters.keys()
    params = lora.merge(found.config, found.params, again.adapters, alpha=again.alpha)
    merged = ours(found.config, params, tokens)
    before = gap(ours(found.config, found.params, tokens), np.asarray(merged))
    assert before > 1e-2, "adapters that change nothing show nothing"
    theirs_on_base = peers.PeftModel.from_pretrained(
        opened(base, "float32"), directory / "adapter"
    )
    theirs_on_base.save_pretrained(directory / "peers")
    written = peft.load(directory / "peers", found.config)
    assert written.alpha == 6.0
    jax.tree.map(np.testing.assert_array_equal, written.adapters, adapters)
    save(directory / "merged", found._replace(params=params))
    return (
        gap(theirs(theirs_on_base, tokens), np.asarray(merged)),
        gap(
            theirs(opened(directory / "merged", "float32"), tokens), np.asarray(merged)
        ),
    )


def row(shape: dict[str, Any]) -> tuple[dict[str, float], bool]:
    with tempfile.TemporaryDirectory() as name:
        directory, model = Path(name), build(shape)
        tokens = np.random.default_rng(0).integers(7, 1000, (ROWS, LENGTH))
        first, greedy = inward(directory / "in", model, tokens)
        long = "longrope" in str(model.config)
        found = huggingface.load(directory / "in", long_context=long)
        out = outward(directory / "out", found, model, tokens)
        lora_gap, merged = adapted(directory / "in", directory, found, tokens)
        rounded = halved(directory / "bf16", model, tokens)
    values = (first, out, *rounded, lora_gap, merged)
    return dict(zip(COLUMNS, values, strict=True)), greedy


def main() -> None:
    print(f"| family | {' | '.join(COLUMNS)} | greedy |")
    print("|" + "---|" * (len(COLUMNS) + 2))
    for name, shape in FAMILIES.items():
        values, greedy = row(shape)
        cells = " | ".join(f"{values[key]:.1e}" for key in COLUMNS)
        print(f"| {name} | {cells} | {'same' if greedy else 'differs'} |", flush=True)


if __name__ == "__main__":
    main()
