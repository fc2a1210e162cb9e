"""The shape of a decoder, under the field names of a Hugging Face config.json."""

import dataclasses
from typing import Any

from jsharp.lm import families
from jsharp.lm.rope import Rope

_MAY_BE_ZERO = ("head_dim", "initializer_range")
_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A decoder; the switches say what is computed, `model_type` how files name it.

    `head_dim` 0 stands for hidden_size / num_attention_heads. `windows` holds, for each
    layer, how many of the latest positions it attends to (its own included), 0 for all;
    an empty tuple stands for all of them 0.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    model_type: str = "llama"
    head_dim: int = 0
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope: Rope = Rope()
    windows: tuple[int, ...] = ()
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
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
        for name, known in (("dtype", _DTYPES), ("model_type", (*families.FAMILIES,))):
            if getattr(self, name) not in known:
                found = getattr(self, name)
                raise ValueError(f"{name}: expected one of {known}, got {found!r}")
        if not self.head_dim:
            self._require_multiple("hidden_size", "num_attention_heads")
            head_dim = self.hidden_size // self.num_attention_heads
            object.__setattr__(self, "head_dim", head_dim)
        self._require_multiple("num_attention_heads", "num_key_value_heads")
        if not any(self.windows):
            object.__setattr__(self, "windows", (0,) * self.num_hidden_layers)
        if len(self.windows) != self.num_hidden_layers or min(self.windows) < 0:
            raise ValueError(
                f"windows: expected {self.num_hidden_layers} sizes, got {self.windows}"
            )
        self._check_rope()

    def _check_rope(self) -> None:
        rotated = self.rope.rotated(self.head_dim)
        if rotated < 2 or rotated % 2:
            raise ValueError(
                "head_dim: expected an even number of turned coordinates, "
                f"got {rotated} of {self.head_dim}"
            )
        if self.rope.rope_type == "longrope":
            for name in ("short_factor", "long_factor"):
                if (found := len(getattr(self.rope, name))) != rotated // 2:
                    raise ValueError(
                        f"{name}: expected {rotated // 2} numbers, got {found}"
                    )

    def _require_multiple(self, name: str, divisor: str) -> None:
        value, by = getattr(self, name), getattr(self, divisor)
        if value % by:
            raise ValueError(
                f"{name}: expected a multiple of {divisor} {by}, got {value}"
            )

    @property
    def context_length(self) -> int:
        """Positions that the weights and the chosen rope table are meant for.

        The short table of longrope ends at original_max_position_embeddings; beyond,
        load with long_context=True.
        """
        if self.rope.rope_type != "longrope" or self.rope.long_context:
            return self.max_position_embeddings
        original = self.rope.original_max_position_embeddings
        return min(original, self.max_position_embeddings)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "TransformerConfig":
        """Read a config.json, in the spelling of transformers 4 or 5.

        Raises ValueError, naming the key, on any value that would change the function
        this decoder computes.
        """
        known = families.read(raw)
        for field in dataclasses.fields(cls):
            if field.name in known:
                known[field.name] = _typed(field.name, field.type, known[field.name])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The config.json that `from_dict` and transformers 4 and 5 read.

        Raises ValueError, naming the field, where `model_type` has no such model.
        """
        return families.write(self)


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
