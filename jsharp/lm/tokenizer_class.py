"""Which tokenizer class AutoTokenizer takes, and what it makes of a tokenizer.json.

transformers 5 reads some classes as they stand in the file, and rebuilds the others
from the vocabulary and the merges alone, with a normaliser, a splitter and a decoder of
its own (tokenization_auto.py and tokenization_{llama,qwen2,gpt2}.py of 5.23).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Rebuild(NamedTuple):
    """What transformers makes of a vocabulary and merges, whatever else a file says."""

    defaults: dict[str, str]  # special tokens of the class
    model: dict[str, Any]  # options of the BPE
    normalizer: Any
    pre_tokenizer: Callable[[dict[str, Any]], Any]
    decoder: Callable[[dict[str, Any]], Any]
    respecial: bool = False  # adds every special token again, not normalised

    def build(
        self, read: tokenizers.Tokenizer, model: dict[str, Any], config: dict[str, Any]
    ) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
        """The tokenizer, and the config with the defaults of the class."""
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        merges = [(left, right) for left, right in pairs]
        inner = tokenizers.Tokenizer(
            models.BPE(vocab=model["vocab"], merges=merges, **self.model)
        )
        if self.normalizer is not None:
            inner.normalizer = self.normalizer
        inner.pre_tokenizer = self.pre_tokenizer(config)
        inner.decoder = self.decoder(config)
        if read.post_processor is not None:
            inner.post_processor = read.post_processor
        return inner, {**self.defaults, **config}


def _metaspace(config: dict[str, Any]) -> pre_tokenizers.Metaspace:
    scheme = "always" if config.get("legacy", False) else "first"
    return pre_tokenizers.Metaspace(
        replacement="▁",
        prepend_scheme=scheme if _prefix(config, True) else "never",
        split=False,
    )


def _metaspace_decoder(config: dict[str, Any]) -> decoders.Sequence:
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(content=" ", left=1)] if _prefix(config, True) else []
    return decoders.Sequence([*steps, *strip])


def _prefix(config: dict[str, Any], otherwise: bool) -> bool:
    found = config.get("add_prefix_space")
    return otherwise if found is None else bool(found)


_END = "<|endoftext|>"
_BYTES = {"continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
_LLAMA = Rebuild(
    defaults={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    model={"fuse_unk": True, "byte_fallback": True},
    normalizer=None,
    pre_tokenizer=_metaspace,
    decoder=_metaspace_decoder,
)
_QWEN2 = Rebuild(
    defaults={"unk_token": _END, "eos_token": _END, "pad_token": _END},
    model=_BYTES,
    normalizer=normalizers.NFC(),
    pre_tokenizer=lambda config: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(_prefix(config, False), use_regex=False),
        ]
    ),
    decoder=lambda config: decoders.ByteLevel(),
    respecial=True,
)
_GPT2 = Rebuild(
    defaults={"unk_token": _END, "bos_token": _END, "eos_token": _END},
    model=_BYTES,
    normalizer=None,
    pre_tokenizer=lambda config: pre_tokenizers.ByteLevel(_prefix(config, False)),
    decoder=lambda config: decoders.ByteLevel(),
)
_CLASSES: dict[str, Rebuild | None] = {
    "TokenizersBackend": None,
    "PreTrainedTokenizer": None,
    "LlamaTokenizer": _LLAMA,
    "Qwen2Tokenizer": _QWEN2,
    "GPT2Tokenizer": _GPT2,
}


def choose(
    model_type: str | None, tokenizer_class: str | None, *, byte_level: bool
) -> Rebuild | None:
    """What to rebuild; None to take tokenizer.json as it stands.

    `byte_level` says that the file mentions ByteLevel: a LlamaTokenizer of that kind is
    not one. Raises ValueError on a class that is not known.
    """
    if model_type in ("mistral", "phi3"):
        return None  # whatever class is named
    if model_type == "qwen2" or (model_type == "qwen3" and not tokenizer_class):
        return _QWEN2
    name = str(tokenizer_class or "TokenizersBackend").removesuffix("Fast")
    if name not in _CLASSES:
        raise ValueError(
            f"tokenizer_class: expected one of {', '.join(_CLASSES)}, got "
            f"{tokenizer_class!r}; PreTrainedTokenizerFast takes tokenizer.json as it "
            "stands"
        )
    return None if name == "LlamaTokenizer" and byte_level else _CLASSES[name]
