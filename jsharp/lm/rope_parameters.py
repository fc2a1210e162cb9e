"""Rotary position embedding as config.json spells it, in transformers 4 and 5.

4   rope_theta, rope_scaling {type | rope_type, ...}, partial_rotary_factor
5   rope_parameters {rope_type, rope_theta, partial_rotary_factor, ...}
"""

import math
import types
from collections.abc import Mapping
from typing import Any

from jsharp.lm.rope import Rope

_REQUIRED: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
        "longrope": ("short_factor", "long_factor"),
    }
)
_ORIGINAL = "original_max_position_embeddings"
_OPTIONAL: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "default": (),
        "linear": (),
        "llama3": (_ORIGINAL,),
        "longrope": (_ORIGINAL, "factor", "attention_factor"),
    }
)
_ALWAYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


def read(raw: dict[str, Any], model_type: str) -> Rope:
    """The Rope of a config.json whose absent keys have their defaults filled in.

    `rope_scaling` goes before `rope_parameters`, and
    `original_max_position_embeddings` of the file before that of the scaling, as in
    transformers. Raises ValueError, naming the key, on a type that is not supported and
    on a lacking or unknown key.
    """
    name = "rope_scaling" if raw.get("rope_scaling") else "rope_parameters"
    found = raw.get(name)
    if not isinstance(found, dict | None):
        raise ValueError(f"{name}: expected an object, got {found!r}")
    found = {k: v for k, v in (found or {}).items() if v is not None}
    kind = _kind(name, found, model_type)
    values = {key: found[key] for key in _REQUIRED[kind]}
    for key, default in (("rope_theta", 10000.0), ("partial_rotary_factor", 1.0)):
        values[key] = found.get(key, raw.get(key, default))
    if model_type != "phi3" and values["partial_rotary_factor"] != 1:
        raise ValueError(
            "partial_rotary_factor: expected 1.0 outside phi3, "
            f"got {values['partial_rotary_factor']!r}"
        )
    if _ORIGINAL in _OPTIONAL[kind]:
        length = raw["max_position_embeddings"]
        values[_ORIGINAL] = raw.get(_ORIGINAL, found.get(_ORIGINAL, length))
    if kind == "longrope":
        _check_numbers(name, values | {"max_position_embeddings": length})
        factor = found.get("factor", length / values[_ORIGINAL])
        scale = found.get("attention_factor", _attention_factor(factor, values))
        values["attention_factor"] = scale
    _check_numbers(name, values)
    as_field = lambda value: tuple(value) if isinstance(value, list) else float(value)
    fields: dict[str, Any] = {key: as_field(value) for key, value in values.items()}
    if _ORIGINAL in values:
        fields[_ORIGINAL] = values[_ORIGINAL]
    return Rope(rope_type=kind, **fields)


def write(config: Any) -> dict[str, Any]:
    """The keys of both spellings for a TransformerConfig (which imports this module).

    Raises ValueError where its family has no such rope.
    """
    rope, phi3 = config.rope, config.model_type == "phi3"
    _check_family("rope", rope.rope_type, config.model_type)
    if rope.partial_rotary_factor != 1 and not phi3:
        raise ValueError(
            f"partial_rotary_factor: expected 1.0 in a {config.model_type}, "
            f"got {rope.partial_rotary_factor}"
        )
    as_json = lambda value: list(value) if isinstance(value, tuple) else value
    scaling = {key: as_json(getattr(rope, key)) for key in _REQUIRED[rope.rope_type]}
    keys: dict[str, Any] = {"rope_theta": rope.rope_theta}
    original = {_ORIGINAL: rope.original_max_position_embeddings}
    if rope.rope_type == "longrope":
        # A Phi-3 of transformers 4 refuses a scaling of more than three keys.
        keys |= original
        factor = config.max_position_embeddings / original[_ORIGINAL]
        if rope.attention_factor != _attention_factor(factor, original):
            scaling["attention_factor"] = rope.attention_factor
    if phi3:
        keys["partial_rotary_factor"] = rope.partial_rotary_factor
    if _ORIGINAL in _OPTIONAL[rope.rope_type] and not phi3:
        scaling |= original
    spelled = {"type" if phi3 else "rope_type": rope.rope_type}
    default = rope.rope_type == "default"
    keys["rope_scaling"] = None if default else {**spelled, **scaling}
    if _ORIGINAL in _OPTIONAL[rope.rope_type]:
        scaling |= original
    shared = {"rope_type": rope.rope_type, "rope_theta": rope.rope_theta}
    if phi3:
        shared["partial_rotary_factor"] = rope.partial_rotary_factor
    return {**keys, "rope_parameters": {**shared, **scaling}}


def _kind(name: str, found: dict[str, Any], model_type: str) -> str:
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "su" and model_type == "phi3":  # its name before longrope
        kind = "longrope"
    _check_family(name, kind, model_type)
    lacking = [key for key in _REQUIRED[kind] if key not in found]
    if lacking:
        raise ValueError(f"{name}: {kind} lacks {', '.join(lacking)}")
    extra = found.keys() - {*_ALWAYS, *_REQUIRED[kind], *_OPTIONAL[kind]}
    if extra:
        raise ValueError(
            f"{name}: {', '.join(sorted(extra))} not supported with rope_type {kind!r}"
        )
    return kind


def _check_family(name: str, kind: Any, model_type: str) -> None:
    known = ("default", "longrope") if model_type == "phi3" else (*_REQUIRED,)
    if kind not in known:
        raise ValueError(
            f"{name}: rope_type expected one of {known} in a {model_type}, got {kind!r}"
        )


def _check_numbers(name: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        listed = key in ("short_factor", "long_factor")
        number = lambda each: type(each) in (int, float) and 0 < each < math.inf
        good = all(map(number, value)) if isinstance(value, list) else number(value)
        if not good or isinstance(value, list) != listed:
            wanted = "a list of positive numbers" if listed else "a positive number"
            raise ValueError(f"{name}: {key} expected {wanted}, got {value!r}")


def _attention_factor(factor: float, rope: dict[str, Any]) -> float:
    """sqrt(1 + log(factor) / log(original)), of arXiv 2402.13753; 1 if not longer."""
    if factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(rope[_ORIGINAL]))
