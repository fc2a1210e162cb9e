"""The shape of a decoder, under the field names of a Hugging Face config.json."""

import dataclasses
import types
from typing import Any

# The only supported value of each key; an absent or null key means the same.
_NEUTRAL = types.MappingProxyType(
    {
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "partial_rotary_factor": 1.0,
    }
)
_REFUSED = ("quantization_config", "sliding_window", "layer_types")
_MAY_BE_ZERO = ("head_dim", "initializer_range")
_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A Llama decoder; `head_dim` 0 stands for hidden_size / num_attention_heads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = 0
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    dtype: str = "float32"
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.type in (int, float):
                _check_size(field.name, getattr(self, field.name))
        if not self.head_dim:
            self._require_multiple("hidden_size", "num_attention_heads")
            head_dim = self.hidden_size // self.num_attention_heads
            object.__setattr__(self, "head_dim", head_dim)
        if self.head_dim % 2:
            raise ValueError(f"head_dim: expected an even number, got {self.head_dim}")
        self._require_multiple("num_attention_heads", "num_key_value_heads")
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype: expected one of {_DTYPES}, got {self.dtype!r}")

    def _require_multiple(self, name: str, divisor: str) -> None:
        value, by = getattr(self, name), getattr(self, divisor)
        if value % by:
            raise ValueError(
                f"{name}: expected a multiple of {divisor} {by}, got {value}"
            )

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "TransformerConfig":
        """Read a config.json, in the spelling of transformers 4 or 5.

        Raises ValueError, naming the key, on any value that would change the function
        this decoder computes; keys that do not (dropout, versions) are not read.
        """
        raw = {key: value for key, value in raw.items() if value is not None}
        _refuse_unsupported(raw)
        rope = raw.get("rope_parameters", {})
        fields = {field.name: field for field in dataclasses.fields(cls)}
        known = {key: value for key, value in raw.items() if key in fields}
        if "rope_theta" in rope:
            known["rope_theta"] = rope["rope_theta"]
        if "dtype" in raw or "torch_dtype" in raw:
            known["dtype"] = raw.get("dtype", raw.get("torch_dtype"))
        if isinstance(known.get("eos_token_id"), list):
            known["eos_token_id"] = tuple(known["eos_token_id"])
        if "num_attention_heads" in known:  # absent in files older than grouped queries
            known.setdefault("num_key_value_heads", known["num_attention_heads"])
        for name, field in fields.items():
            if name in known:
                known[name] = _typed(name, field.type, known[name])
            elif field.default is dataclasses.MISSING:
                raise ValueError(f"{name}: missing")
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The config.json that `from_dict` and transformers 4 and 5 read."""
        raw = dataclasses.asdict(self)
        if isinstance(self.eos_token_id, tuple):
            raw["eos_token_id"] = list(self.eos_token_id)
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            **raw,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": self.rope_theta,
            },
            "torch_dtype": self.dtype,
        }


def _typed(name: str, kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float, bool, str) and type(value) is not kind:
        raise ValueError(f"{name}: expected {kind.__name__}, got {value!r}")
    return value


def _check_size(name: str, value: float | int) -> None:
    positive = value > 0 or (value == 0 and name in _MAY_BE_ZERO)
    if not positive or value == float("inf"):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    architectures = raw.get("architectures", [])
    if architectures != ["LlamaForCausalLM"]:
        raise ValueError(
            f"architectures: expected ['LlamaForCausalLM'], got {architectures!r}"
        )
    for key, value in _NEUTRAL.items():
        if raw.get(key, value) != value:
            raise ValueError(f"{key}: expected {value!r}, got {raw[key]!r}")
    for key in _REFUSED:
        if key in raw:
            raise ValueError(f"{key}: not supported, got {raw[key]!r}")
    for key in ("rope_scaling", "rope_parameters"):
        rope = raw.get(key, {})
        if not isinstance(rope, dict):
            raise ValueError(f"{key}: expected an object, got {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        extra = sorted(rope.keys() - {"rope_type", "type", "rope_theta"})
        if kind != "default" or extra:
            raise ValueError(
                f"{key}: expected rope_type 'default' and rope_theta only, got {rope!r}"
            )
