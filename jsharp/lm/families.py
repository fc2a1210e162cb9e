"""What the config.json of each family says: its defaults, switches and windows.

The defaults are those of the config classes of transformers, for keys a file omits; a
null is not an omission (a Mistral without `sliding_window` has one of 4096, a Mistral
with null has none).
"""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from jsharp.lm import rope_parameters

_COMMON = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_LLAMA = {
    **_COMMON,
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
}
_MISTRAL = {
    **_LLAMA,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}
_QWEN2 = {
    **_LLAMA,
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "bos_token_id": None,
    "eos_token_id": None,
}
_QWEN3 = {**_QWEN2, "head_dim": 128}
_PHI3 = {
    **_COMMON,
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 32000,
    "pad_token_id": 32000,
}


class Family(NamedTuple):
    """How one `model_type` is told apart and read."""

    architecture: str
    defaults: Mapping[str, Any]
    attention_bias: bool = False  # whether the key of that name is a switch
    mlp_bias: bool = False  # likewise
    qkv_bias: bool = False
    qk_norm: bool = False
    layered: bool = False  # whether layers differ in their window
    windowed: bool = True


FAMILIES: Mapping[str, Family] = types.MappingProxyType(
    {
        "llama": Family(
            "LlamaForCausalLM",
            _LLAMA,
            attention_bias=True,
            mlp_bias=True,
            windowed=False,
        ),
        "mistral": Family("MistralForCausalLM", _MISTRAL),
        "qwen2": Family("Qwen2ForCausalLM", _QWEN2, qkv_bias=True, layered=True),
        "qwen3": Family(
            "Qwen3ForCausalLM", _QWEN3, attention_bias=True, qk_norm=True, layered=True
        ),
        "phi3": Family("Phi3ForCausalLM", _PHI3),
    }
)

# Keys that make another function unless they are absent, null or this.
_NEUTRAL = types.MappingProxyType(
    {
        "hidden_act": "silu",
        "hidden_activation": "silu",
        "lm_head_bias": False,
        "use_bidirectional_attention": False,
        "quantization_config": None,
        "compression_config": None,
        "attention_chunk_size": None,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "per_layer_config": None,
    }
)
_KINDS = ("full_attention", "sliding_attention")
_PLAIN = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "initializer_range",
    "tie_word_embeddings",
    "bos_token_id",
    "pad_token_id",
)


def read(raw: dict[str, Any]) -> dict[str, Any]:
    """The arguments of TransformerConfig that a config.json stands for.

    Raises ValueError, naming the key, on any value that would change the function
    computed; keys that do not (dropout, versions) are not read.
    """
    model_type = _model_type(raw)
    family = FAMILIES[model_type]
    raw = {**family.defaults, **raw}
    _refuse(raw, family)
    heads, end = raw["num_attention_heads"], raw["eos_token_id"]
    grouped = raw["num_key_value_heads"]
    biased = family.attention_bias and raw["attention_bias"]
    return {
        **{key: raw[key] for key in _PLAIN},
        "model_type": model_type,
        "num_key_value_heads": heads if grouped is None else grouped,
        "head_dim": 0 if raw["head_dim"] is None else raw["head_dim"],
        "rope": rope_parameters.read(raw, model_type),
        "windows": _windows(raw, family),
        "qkv_bias": biased or family.qkv_bias,
        "out_bias": biased,
        "mlp_bias": raw["mlp_bias"],
        "qk_norm": family.qk_norm,
        "dtype": _dtype(raw),
        "eos_token_id": tuple(end) if isinstance(end, list) else end,
    }


def write(config: Any) -> dict[str, Any]:
    """The config.json of a TransformerConfig (which imports this module).

    `read`, transformers 4 and transformers 5 understand it alike.

    Raises ValueError, naming the field, where the family has no such model.
    """
    family = FAMILIES[config.model_type]
    _check_expressible(config, family)
    end = config.eos_token_id
    return {
        "architectures": [family.architecture],
        "model_type": config.model_type,
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias and family.attention_bias,
        "mlp_bias": config.mlp_bias,
        **{key: getattr(config, key) for key in _PLAIN},
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "eos_token_id": list(end) if isinstance(end, tuple) else end,
        "dtype": config.dtype,
        "torch_dtype": config.dtype,
        **rope_parameters.write(config),
        **_window_keys(config, family),
    }


def _model_type(raw: dict[str, Any]) -> str:
    names = raw.get("architectures")
    known = {family.architecture: key for key, family in FAMILIES.items()}
    if not isinstance(names, list) or len(names) != 1 or names[0] not in known:
        raise ValueError(f"architectures: expected one of {[*known]}, got {names!r}")
    model_type = known[names[0]]
    if raw.get("model_type", model_type) != model_type:
        raise ValueError(
            f"model_type: expected {model_type!r} with architectures {names}, "
            f"got {raw['model_type']!r}"
        )
    return model_type


def _dtype(raw: dict[str, Any]) -> Any:
    found = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    if found == "float16":
        raise ValueError(
            "dtype: expected one of float32, bfloat16, got 'float16'; choose one of "
            "them as the dtype to load it"
        )
    return found


def _refuse(raw: dict[str, Any], family: Family) -> None:
    for key, neutral in _NEUTRAL.items():
        if raw.get(key) not in (None, neutral):
            only = "none" if neutral is None else repr(neutral)
            raise ValueError(f"{key}: not supported, expected {only}, got {raw[key]!r}")
    for key in ("attention_bias", "mlp_bias"):
        # transformers gives a Qwen2 its biases whatever this key says.
        switch = getattr(family, key) or (key == "attention_bias" and family.qkv_bias)
        if raw[key] is not False and not (switch and raw[key] is True):
            raise ValueError(f"{key}: expected False, got {raw[key]!r}")


def _windows(raw: dict[str, Any], family: Family) -> tuple[int, ...]:
    layers, window = raw["num_hidden_layers"], raw["sliding_window"]
    if not isinstance(layers, int):
        raise ValueError(f"num_hidden_layers: expected int, got {layers!r}")
    if family.layered and not raw["use_sliding_window"]:
        window = None
    if window is not None and (type(window) is not int or window < 1):
        raise ValueError(f"sliding_window: expected a positive int, got {window!r}")
    if window is not None and not family.windowed:
        raise ValueError(f"sliding_window: expected none, got {window}")
    first = raw["max_window_layers"] if family.layered else 0
    if type(first) is not int:
        raise ValueError(f"max_window_layers: expected int, got {first!r}")
    sliding = lambda i: window is not None and i >= first
    derived = [_KINDS[sliding(i)] for i in range(layers)]
    kinds = derived if raw.get("layer_types") is None else raw["layer_types"]
    _check_layer_types(kinds, derived, free=family.layered and window is not None)
    return tuple((window or 0) * _KINDS.index(kind) for kind in kinds)


def _check_layer_types(kinds: Any, derived: list[str], *, free: bool) -> None:
    if not isinstance(kinds, list) or len(kinds) != len(derived):
        raise ValueError(f"layer_types: expected {len(derived)} names, got {kinds!r}")
    for i, kind in enumerate(kinds):
        expected = _KINDS if free else (derived[i],)
        if kind not in expected:
            raise ValueError(
                f"layer_types: expected {' or '.join(expected)} for layer {i}, "
                f"got {kind!r}"
            )


def _window_keys(config: Any, family: Family) -> dict[str, Any]:
    window = max(config.windows)
    if not family.windowed:
        return {}
    if not family.layered:
        return {"sliding_window": window or None}
    kinds = [_KINDS[size > 0] for size in config.windows]
    full = kinds.index(_KINDS[1]) if window else len(kinds)
    return {
        "use_sliding_window": bool(window),
        "sliding_window": window or None,
        "max_window_layers": full,
        "layer_types": kinds,
    }


def _check_expressible(config: Any, family: Family) -> None:
    biased = family.attention_bias and config.qkv_bias
    expected = {
        "qkv_bias": biased or family.qkv_bias,
        "out_bias": biased,
        "mlp_bias": family.mlp_bias and config.mlp_bias,
        "qk_norm": family.qk_norm,
    }
    for name, value in expected.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}: expected {value} in a {config.model_type}, "
                f"got {getattr(config, name)}"
            )
    sizes = {0, max(config.windows)} if family.layered else {max(config.windows)}
    sizes = sizes if family.windowed else {0}
    if not set(config.windows) <= sizes:
        raise ValueError(
            f"windows: a {config.model_type} has no layers of {config.windows}"
        )
