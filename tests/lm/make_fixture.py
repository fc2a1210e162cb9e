"""Write tests/lm/fixtures: random models of transformers, and what they compute.

    pip install "jsharp[hf]" && python tests/lm/make_fixture.py

Each folder holds a checkpoint as `save_pretrained` writes it (bfloat16 for all but the
oldest two, to be small) and expected.npz: `tokens` [R T], their float32 `logits`
[R T V], and `greedy` [R 12], the continuation of each row by `generate` (no sampling),
padded after its end token; with longrope, whose long table serves these T tokens, also
`short_logits` of the first tokens. configs.json pairs config.json files in the spelling
of transformers 4 with what transformers reads in them.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

FIXTURES = Path(__file__).parent / "fixtures"
NEW, SHORT = 12, 12

# Window and original length are below the sequence's, so that both show.
SMALL = dict(
    vocab_size=32,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    tie_word_embeddings=False,
    eos_token_id=[5, 6],
)
SMALL_SIZES = dict(dtype="bfloat16", rows=2, length=24)


def longrope(size: int, **settings) -> dict:
    return {
        "rope_type": "longrope",
        "rope_theta": 900.0,
        "short_factor": [1.0 + 0.2 * i for i in range(size)],
        "long_factor": [1.5 + 0.7 * i for i in range(size)],
        "original_max_position_embeddings": 16,
        **settings,
    }


SHAPES = {
    # Grouped queries, a head size of its own, an untied head, an unusual RoPE base.
    "grouped": dict(
        model_type="llama",
        vocab_size=40,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0},
        tie_word_embeddings=False,
        eos_token_id=[5, 6],
    ),
    "tied": dict(
        model_type="llama",
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        eos_token_id=5,
    ),
    # Frequencies that are kept, blended and divided, and every bias.
    "llama3": SMALL
    | dict(
        model_type="llama",
        head_dim=16,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 2.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": SMALL
    | dict(model_type="mistral", sliding_window=8, num_key_value_heads=1),
    "qwen2": SMALL
    | dict(
        model_type="qwen2",
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
    "qwen2_tied": SMALL
    | dict(model_type="qwen2", num_hidden_layers=1, tie_word_embeddings=True),
    "qwen3": SMALL | dict(model_type="qwen3", head_dim=16),
    "phi3": SMALL
    | dict(
        model_type="phi3",
        sliding_window=9,
        original_max_position_embeddings=16,
        rope_parameters=longrope(4),
    ),
    # As Phi-4-mini: a part of each head is turned, and the head is tied.
    "phi3_partial": SMALL
    | dict(
        model_type="phi3",
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        original_max_position_embeddings=16,
        rope_parameters=longrope(6, partial_rotary_factor=0.75),
    ),
}

# As published files spell such models, with tables of longrope made up.
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama")
MISTRAL = dict(architectures=["MistralForCausalLM"], model_type="mistral")
QWEN2 = dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2")
QWEN3 = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3")
PHI3 = dict(architectures=["Phi3ForCausalLM"], model_type="phi3")
PUBLISHED = {
    **{f"defaults of {raw['model_type']}": raw for raw in (LLAMA, MISTRAL)},
    **{f"defaults of {raw['model_type']}": raw for raw in (QWEN2, QWEN3, PHI3)},
    "as Llama-2-7B": LLAMA
    | dict(max_position_embeddings=4096, rms_norm_eps=1e-5, rope_scaling=None),
    "as Llama-3.1-8B": LLAMA
    | dict(
        vocab_size=128256,
        intermediate_size=14336,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling={
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        torch_dtype="bfloat16",
        eos_token_id=[128001, 128008, 128009],
        bos_token_id=128000,
    ),
    "a Llama of linear scaling": LLAMA
    | dict(rope_scaling={"type": "linear", "factor": 4}, head_dim=None),
    "a Llama that spells it both ways": LLAMA
    | dict(
        rope_scaling={"type": "linear", "factor": 4.0},
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
    "as Mistral-7B-v0.3": MISTRAL
    | dict(vocab_size=32768, rope_theta=1e6, sliding_window=None, head_dim=None),
    "as Qwen2.5-7B": QWEN2
    | dict(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_window_layers=28,
        sliding_window=131072,
        use_sliding_window=False,
        rope_theta=1000000.0,
        eos_token_id=151643,
    ),
    "a Qwen2 of windows from layer 21": QWEN2
    | dict(use_sliding_window=True, sliding_window=32768, max_window_layers=21),
    "a Qwen3 of windows by name": QWEN3
    | dict(
        num_hidden_layers=3,
        use_sliding_window=True,
        sliding_window=512,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        tie_word_embeddings=True,
        attention_bias=True,
    ),
    "a Qwen3 narrower than its heads": QWEN3
    | dict(hidden_size=1024, num_attention_heads=16, num_key_value_heads=8),
    "as Phi-3-mini-128k": PHI3
    | dict(
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        sliding_window=262144,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1 + 0.05 * i for i in range(48)],
            "long_factor": [1 + 1.3 * i for i in range(48)],
        },
    ),
    "as Phi-4-mini": PHI3
    | dict(
        vocab_size=200064,
        num_attention_heads=24,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        partial_rotary_factor=0.75,
        tie_word_embeddings=True,
        sliding_window=262144,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0] * 48,
            "long_factor": [1 + 0.9 * i for i in range(48)],
        },
    ),
    "a Phi-3 of its own attention factor": PHI3
    | dict(
        hidden_size=64,
        num_attention_heads=8,
        rope_scaling=longrope(4, attention_factor=1.25) | {"rope_theta": 10000.0},
    ),
    "a Phi-3 whose scaling names another original length": PHI3
    | dict(hidden_size=64, num_attention_heads=8, rope_scaling=longrope(4)),
    "a Llama of longrope by factor": LLAMA
    | dict(
        hidden_size=64,
        num_attention_heads=8,
        rope_scaling=longrope(4, factor=4.0) | {"rope_theta": 500.0},
    ),
}
READ = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
    *("rms_norm_eps", "initializer_range", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


def build(shape: dict):
    """A random model whose every parameter matters: no scale is 1 and no bias 0."""
    torch.manual_seed(0)
    special = dict(initializer_range=0.3, bos_token_id=1, pad_token_id=0)
    shape = {**shape, **special}
    config = CONFIG_MAPPING[shape.pop("model_type")](**shape)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.5)
        elif parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def make(name: str, *, dtype: str, rows: int, length: int) -> None:
    shape = SHAPES[name]
    model = build(shape).to(getattr(torch, dtype))
    folder = FIXTURES / name
    model.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.randint(7, shape["vocab_size"], (rows, length))
    expected = {"tokens": tokens.numpy().astype(np.int32)}
    with torch.no_grad():
        expected["logits"] = model(tokens).logits.numpy()
        if "longrope" in str(shape):
            expected["short_logits"] = model(tokens[:, :SHORT]).logits.numpy()
        full = model.generate(tokens, max_new_tokens=NEW, do_sample=False)
    expected["greedy"] = np.zeros((rows, NEW), np.int32)
    expected["greedy"][:, : full.shape[1] - length] = full[:, length:].numpy()
    np.savez(folder / "expected.npz", **expected)


def reading(raw: dict) -> dict:
    """What transformers makes of a config.json: sizes, windows, rotary frequencies."""
    read = CONFIG_MAPPING[raw["model_type"]].from_dict
    config = read(copy.deepcopy(raw))  # it edits the objects within
    layers, window = config.num_hidden_layers, getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    found = {key: getattr(config, key) for key in READ}
    size = config.hidden_size // config.num_attention_heads
    found["head_dim"] = getattr(config, "head_dim", None) or size
    found["windows"] = [(window or 0) * kind.startswith("sliding") for kind in kinds]
    kind = config.rope_parameters["rope_type"]
    tiny = {"num_hidden_layers": 1, "vocab_size": 2, "intermediate_size": 2}
    tiny |= {"pad_token_id": 0, "layer_types": None}
    small = read({**copy.deepcopy(raw), **tiny})
    rotary = AutoModelForCausalLM.from_config(small).model.rotary_emb
    found["frequencies"] = rotary.inv_freq.tolist()
    found["attention_factor"] = rotary.attention_scaling
    if kind == "longrope":
        beyond = config.rope_parameters["original_max_position_embeddings"] + 1
        table, _ = ROPE_INIT_FUNCTIONS[kind](config, seq_len=beyond)
        found["long_frequencies"] = table.tolist()
    return found


if __name__ == "__main__":
    for name in ("grouped", "tied"):
        make(name, dtype="float32", rows=4, length=11)
    for name in SHAPES.keys() - {"grouped", "tied"}:
        make(name, **SMALL_SIZES)
    read = {name: {"raw": r, "read": reading(r)} for name, r in PUBLISHED.items()}
    (FIXTURES / "configs.json").write_text(json.dumps(read) + "\n")
