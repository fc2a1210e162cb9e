"""Text to token ids and back, by the tokenizer that travels with a model.

Sampled ids are never tokenised again: encode(decode(ids)) need not be ids, so a record
keeps the ids beside the text and every score is of the ids (`decode_responses`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jsharp.lm import tokenizer_files
from jsharp.policy import Prompts, Response


class Tokenizer:
    """A tokenizer, and its named special tokens ({"bos_token": "<s>", ...}).

    One that would drop characters or call them unknown because it knows a fixed
    alphabet (WordLevel; BPE with neither bytes nor an unknown token) refuses them. All
    others give the ids and texts of transformers' AutoTokenizer.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str] | None = None,
    ):
        self.inner = inner
        self.special_tokens = dict(special_tokens or {})
        self.strict = _has_fixed_alphabet(inner)

    @classmethod
    def load(cls, directory: str | Path) -> "Tokenizer":
        """Read `directory`: tokenizer.json, and the configuration beside it if any.

        Raises FileNotFoundError or ValueError, naming the file and the field.
        """
        return cls(*tokenizer_files.read(directory))

    def save(self, directory: str | Path) -> None:
        """Write `directory`/tokenizer.json.

        The configuration and the chat template of an open checkpoint travel by
        `tokenizer_files.copy`.
        """
        self.inner.save(str(Path(directory) / tokenizer_files.TOKENIZER))

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of `text`, with the special tokens around it where `special`.

        `encode(text, special=s)` = AutoTokenizer's `(text, add_special_tokens=s)`.
        Special tokens written out in the text are recognised either way.

        Raises ValueError on lone surrogates and, where the alphabet is fixed, on a
        character that is mapped to the unknown token or (white space apart) to none.
        """
        try:
            encoding = self.inner.encode(text, add_special_tokens=special)
        except Exception as error:  # the library raises nothing narrower
            pieces = _pieces(self.inner, text)
            lacking = sorted({c for c in pieces if _id(self.inner, c) is None})
            raise ValueError(f"no token for {lacking} in {text!r:.80}") from error
        if not self.strict:
            return encoding.ids
        unknown = getattr(self.inner.model, "unk_token", None)
        covered = set()
        for token, (start, stop) in zip(encoding.tokens, encoding.offsets, strict=True):
            if token != unknown:
                covered.update(range(start, stop))
        for at, character in enumerate(text):
            if at not in covered and (unknown or not character.isspace()):
                raise ValueError(f"no token for {character!r}, at {at} of {text!r:.80}")
        return encoding.ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of `ids`, special tokens written out or left out.

        The text is for reading: feed the ids, never encode(decode(ids)), to a model.
        An id without a token (models pad their vocabulary) leaves no text; ValueError
        on it where the alphabet is fixed, and on a negative id everywhere.
        """
        for token in ids:
            if token < 0 or (
                self.strict and self.inner.id_to_token(int(token)) is None
            ):
                raise ValueError(f"no token has id {token}")
        return self.inner.decode(list(map(int, ids)), skip_special_tokens=skip_special)

    def id(self, token: str) -> int:
        """The id of one token; ValueError if the vocabulary lacks it."""
        found = self.inner.token_to_id(token)
        if found is None:
            raise ValueError(f"the vocabulary has no token {token!r}")
        return found

    def special_id(self, name: str) -> int | None:
        """The id of a named special token ("eos_token"); None where it has none."""
        token = self.special_tokens.get(name)
        return None if token is None else self.id(token)

    @property
    def vocab_size(self) -> int:
        return self.inner.get_vocab_size(with_added_tokens=True)


def _has_fixed_alphabet(inner: tokenizers.Tokenizer) -> bool:
    model = inner.model
    if isinstance(model, models.WordLevel):
        return True
    parts = (inner.normalizer, inner.pre_tokenizer)
    bytewise = any(p is not None and b"ByteLevel" in p.__getstate__() for p in parts)
    return (
        isinstance(model, models.BPE)
        and model.unk_token is None
        and not (model.byte_fallback or bytewise)
    )


_SURROGATE = re.compile("[\ud800-\udfff]")  # the library takes none


def _pieces(inner: tokenizers.Tokenizer, text: str) -> Sequence[str]:
    """What is looked up in a vocabulary of whole pieces; else, the characters."""
    if not isinstance(inner.model, models.WordLevel) or _SURROGATE.search(text):
        return text
    assert inner.pre_tokenizer is not None
    return [piece for piece, _ in inner.pre_tokenizer.pre_tokenize_str(text)]


def _id(inner: tokenizers.Tokenizer, piece: str) -> int | None:
    return None if _SURROGATE.search(piece) else inner.token_to_id(piece)


def character_tokenizer(alphabet: str, *, end: str = "<|end|>") -> Tokenizer:
    """One token a character: `end` has id 0, then the alphabet in its order.

    Raises ValueError where the alphabet repeats a character or holds `end` itself.
    """
    repeated = sorted({c for c in alphabet if alphabet.count(c) > 1})
    if repeated:
        raise ValueError(f"the alphabet repeats {repeated}")
    if not alphabet or end in alphabet:
        raise ValueError(f"expected characters besides {end!r}, got {alphabet!r}")
    return _lookup((end, *alphabet), pre_tokenizers.Split("", "isolated"))


WORDS = " ?[A-Za-z]+|[\\s\\S]"  # a word with the space before it, or one character


def word_tokenizer(texts: Iterable[str], *, end: str = "<|end|>") -> Tokenizer:
    """One token a word or other character of `texts`: `end` has id 0, they are sorted.

    A word is a run of ASCII letters, with the space before it if there is one; digits,
    signs and other spaces stand alone. Texts without letters get the ids of
    `character_tokenizer`. A word that is not in `texts` is refused (`encode`).

    Raises ValueError where there are no words, or a text holds `end` itself.
    """
    texts = set(texts)
    words = {word for text in texts for word in re.findall(WORDS, text)}
    if bad := sorted(text for text in texts if end in text):
        raise ValueError(f"expected texts without {end!r}, got {bad[0]!r:.80}")
    if not words:
        raise ValueError("expected texts to take words from, got none")
    pieces = pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
    return _lookup((end, *sorted(words)), pieces)


def _lookup(tokens: Sequence[str], pieces: pre_tokenizers.PreTokenizer) -> Tokenizer:
    """Each piece is a token, the first the end; the ids are the order."""
    ids = {token: i for i, token in enumerate(tokens)}
    # WordLevel without an unknown token refuses other characters; BPE drops them.
    inner = tokenizers.Tokenizer(models.WordLevel(vocab=ids))
    inner.pre_tokenizer = pieces
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(
        [tokenizers.AddedToken(tokens[0], special=True, normalized=False)]
    )
    return Tokenizer(inner)


def encode_prompts(
    tokenizer: Tokenizer, texts: Sequence[str], *, pad: int, length: int | None = None
) -> Prompts:
    """Prompts padded on the right to `length`, or to the longest.

    Raises ValueError, naming the text, where one is empty or longer than `length`.
    """
    rows = [tokenizer.encode(text) for text in texts]
    width = length if length is not None else max(map(len, rows), default=1)
    tokens = np.full((len(rows), width), pad, np.int32)
    for i, row in enumerate(rows):
        if not 1 <= len(row) <= width:
            raise ValueError(
                f"prompt {i}: expected 1 to {width} tokens, got {len(row)}: "
                f"{texts[i]!r}"
            )
        tokens[i, : len(row)] = row
    count = np.asarray([len(row) for row in rows], np.int32)
    return Prompts(jnp.asarray(tokens), jnp.asarray(count))


def decode_responses(
    tokenizer: Tokenizer, response: Response, *, end: tuple[int, ...]
) -> list[list[str]]:
    """The n texts of each prompt, the end token stripped."""
    rows, lengths = np.asarray(response.tokens), np.asarray(response.length)
    decode = lambda row, length: tokenizer.decode(
        row[: length - (row[length - 1] in end)].tolist()
    )
    return [list(map(decode, *pair)) for pair in zip(rows, lengths, strict=True)]
