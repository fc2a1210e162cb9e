"""Every character there and back, and nothing dropped in silence."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from jsharp.lm.tokenizer import Tokenizer, character_tokenizer, encode_prompts

ALPHABET = "ab 19\n\t+<|>é"


@pytest.fixture
def tokenizer():
    return character_tokenizer(ALPHABET)


def test_ids_are_the_end_then_the_alphabet_in_order(tokenizer):
    assert tokenizer.vocab_size == 1 + len(ALPHABET)
    assert tokenizer.id("<|end|>") == 0
    assert tokenizer.encode(ALPHABET) == list(range(1, 1 + len(ALPHABET)))


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "  a  b \n", "<|a|>", "1+1\t9", "é" * 300, ALPHABET]
)
def test_every_text_of_the_alphabet_survives(tokenizer, tmp_path, text):
    tokenizer.save(tmp_path)
    for each in (tokenizer, Tokenizer.load(tmp_path)):
        ids = each.encode(text)
        assert len(ids) == len(text) and each.decode(ids) == text


def test_the_end_is_one_token_and_is_written_out(tokenizer):
    assert tokenizer.encode("a<|end|>b") == [1, 0, 2]
    assert tokenizer.decode([1, 0, 2, 0]) == "a<|end|>b<|end|>"


def test_a_character_outside_the_alphabet_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"no token for \['\?', 'z'\] in 'az\?b'"):
        tokenizer.encode("az?b")


def test_a_tokenizer_that_would_drop_a_character_is_refused():
    """BPE without an unknown token leaves out what it does not know."""
    inner = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    assert inner.encode("a?").ids == [0]
    with pytest.raises(ValueError, match=r"no token for '\?', at 1 of 'a\?'"):
        Tokenizer(inner).encode("a?")


def test_the_unknown_token_is_refused():
    vocab = {"<unk>": 0, "a": 1}
    inner = tokenizers.Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
    assert inner.encode("zz").ids == [0]
    with pytest.raises(ValueError, match=r"no token for 'z', at 0 of 'zz'"):
        Tokenizer(inner).encode("zz")


def test_unknown_ids_and_tokens_are_refused(tokenizer):
    with pytest.raises(ValueError, match="no token has id 99"):
        tokenizer.decode([1, 99])
    with pytest.raises(ValueError, match="no token '<eos>'"):
        tokenizer.id("<eos>")


@pytest.mark.parametrize(
    ("alphabet", "message"), [("aba", r"repeats \['a'\]"), ("", "expected characters")]
)
def test_a_bad_alphabet_is_refused(alphabet, message):
    with pytest.raises(ValueError, match=message):
        character_tokenizer(alphabet)


def test_load_names_the_file_it_cannot_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer.json in"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="tokenizer.json is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_prompts_are_padded_on_the_right(tokenizer):
    prompts = encode_prompts(tokenizer, ["ab", "a b1"], pad=0)
    np.testing.assert_array_equal(prompts.tokens, [[1, 2, 0, 0], [1, 3, 2, 4]])
    np.testing.assert_array_equal(prompts.length, [2, 4])
    wider = encode_prompts(tokenizer, ["ab"], pad=5, length=3)
    np.testing.assert_array_equal(wider.tokens, [[1, 2, 5]])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ""], "prompt 1: expected 1 to 3 tokens, got 0"),
        (["ab1b"], "prompt 0: expected 1 to 3 tokens, got 4: 'ab1b'"),
    ],
)
def test_an_empty_or_overlong_prompt_is_refused(tokenizer, texts, message):
    with pytest.raises(ValueError, match=message):
        encode_prompts(tokenizer, texts, pad=0, length=3)
