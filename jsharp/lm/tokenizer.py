"""Text to token ids and back, by the tokenizer.json that travels with a model."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jsharp.policy import Prompts, Response

_FILE = "tokenizer.json"


class Tokenizer:
    """A tokenizer.json: encode adds no special token, decode hides none."""

    def __init__(self, inner: tokenizers.Tokenizer):
        self.inner = inner

    @classmethod
    def load(cls, directory: str | Path) -> "Tokenizer":
        """Read `directory`/tokenizer.json."""
        path = Path(directory) / _FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {_FILE} in {directory}")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer: {error}") from error

    def save(self, directory: str | Path) -> None:
        """Write `directory`/tokenizer.json."""
        self.inner.save(str(Path(directory) / _FILE))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`.

        Raises ValueError where a character is mapped to the unknown token or (white
        space apart) to none.
        """
        try:
            encoding = self.inner.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises nothing narrower
            lacking = sorted({c for c in text if self.inner.token_to_id(c) is None})
            raise ValueError(f"no token for {lacking} in {text!r}") from error
        unknown = getattr(self.inner.model, "unk_token", None)
        covered = set()
        for token, (start, stop) in zip(encoding.tokens, encoding.offsets, strict=True):
            if token != unknown:
                covered.update(range(start, stop))
        for at, character in enumerate(text):
            if at not in covered and (unknown or not character.isspace()):
                raise ValueError(f"no token for {character!r}, at {at} of {text!r}")
        return encoding.ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens written out.

        Raises ValueError on an id outside the vocabulary.
        """
        for token in ids:
            if self.inner.id_to_token(int(token)) is None:
                raise ValueError(f"no token has id {token}")
        return self.inner.decode([int(i) for i in ids], skip_special_tokens=False)

    def id(self, token: str) -> int:
        """The id of one token; ValueError if the vocabulary lacks it."""
        found = self.inner.token_to_id(token)
        if found is None:
            raise ValueError(f"the vocabulary has no token {token!r}")
        return found

    @property
    def vocab_size(self) -> int:
        return self.inner.get_vocab_size(with_added_tokens=True)


def character_tokenizer(alphabet: str, *, end: str = "<|end|>") -> Tokenizer:
    """One token a character: `end` has id 0, then the alphabet in its order.

    Raises ValueError where the alphabet repeats a character or holds `end` itself.
    """
    repeated = sorted({c for c in alphabet if alphabet.count(c) > 1})
    if repeated:
        raise ValueError(f"the alphabet repeats {repeated}")
    if not alphabet or end in alphabet:
        raise ValueError(f"expected characters besides {end!r}, got {alphabet!r}")
    ids = {token: i for i, token in enumerate((end, *alphabet))}
    # WordLevel without an unknown token refuses other characters; BPE drops them.
    inner = tokenizers.Tokenizer(models.WordLevel(vocab=ids))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(
        [tokenizers.AddedToken(end, special=True, normalized=False)]
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
