"""Every character there and back, nothing dropped in silence; ids of AutoTokenizer.

fixtures/tokenizers holds what transformers made of each folder (make_tokenizers.py).
"""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import models

from jsharp.lm import tokenizer_class, tokenizer_files
from jsharp.lm.tokenizer import (
    Tokenizer,
    character_tokenizer,
    decode_responses,
    encode_prompts,
    word_tokenizer,
)
from jsharp.policy import Response

FIXTURES = Path(__file__).parent / "fixtures" / "tokenizers"
STYLES = {
    "llama2": "LlamaTokenizer",
    "mistral": "TokenizersBackend",
    "phi3": "TokenizersBackend",
    "qwen2": "Qwen2Tokenizer",
    "llama3": "TokenizersBackend",
    "gpt2": "GPT2Tokenizer",
}
TORTURE = json.loads((FIXTURES / "torture.json").read_text("utf-8"))
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


WORDS = ["Every wumpus is not bitter. ", "Max is  a cat.\nTrue\t42", "x1y"]


@pytest.fixture
def words():
    return word_tokenizer(WORDS)


def test_a_word_is_one_token_with_the_space_before_it(words):
    pieces = ["Every", " wumpus", " is", " not", " bitter", ".", " "]
    assert [words.decode([i]) for i in words.encode(WORDS[0])] == pieces
    pieces = ["Max", " is", " ", " a", " cat", ".", "\n", "True", "\t", "4", "2"]
    assert [words.decode([i]) for i in words.encode(WORDS[1])] == pieces
    assert [words.decode([i]) for i in words.encode("x1y")] == ["x", "1", "y"]


def test_words_are_sorted_behind_the_end_whatever_their_order(words):
    known = [words.decode([i]) for i in range(words.vocab_size)]
    assert known[0] == "<|end|>" and known[1:] == sorted(set(known[1:]))
    again = word_tokenizer(reversed([*WORDS, *WORDS]))
    assert [again.encode(text) for text in WORDS] == list(map(words.encode, WORDS))


def test_texts_without_letters_get_the_ids_of_characters():
    """As of the alphabet in its order: words are sorted, and digits are words."""
    texts = ["17+38+46+55 =>", "55+17=72 72+46=118 118+38=156", "9:3*8-2(0)"]
    each = word_tokenizer(texts)
    characters = character_tokenizer("".join(sorted(set("".join(texts)))))
    assert each.vocab_size == characters.vocab_size
    for text in texts:
        assert each.encode(text) == characters.encode(text)


@pytest.mark.parametrize("text", ["", " ", *WORDS, " cat is.x2Max", "  \n\n4"])
def test_texts_of_known_words_survive(words, tmp_path, text):
    words.save(tmp_path)
    for each in (words, Tokenizer.load(tmp_path)):
        ids = each.encode(text)
        assert ids == words.encode(text) and each.decode(ids) == text


def test_an_unknown_word_is_refused_by_name(words):
    with pytest.raises(ValueError, match=r"no token for \[' dog', '9'\] in 'a"):
        word_tokenizer([*WORDS, "a"]).encode("a dog9")
    with pytest.raises(ValueError, match=r"no token for \['wumpus'\]"):
        words.encode("wumpus")  # it is known behind a space alone


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", "b<|end|>c"], r"expected texts without '<\|end\|>', got 'b<\|end\|>c'"),
        ([], "expected texts to take words from, got none"),
        ([""], "expected texts to take words from, got none"),
    ],
)
def test_texts_that_make_no_tokenizer_of_words_are_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        word_tokenizer(texts)


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


@pytest.fixture(params=STYLES)
def style(request):
    """A tokenizer in the style of a family, and what AutoTokenizer gives."""
    folder = FIXTURES / request.param
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    assert expected["class"] == STYLES[request.param]
    return Tokenizer.load(folder), expected


def test_ids_are_those_of_auto_tokenizer(style):
    tokenizer, expected = style
    assert tokenizer.vocab_size == expected["size"]
    assert tokenizer.special_tokens == expected["special_tokens"]
    for i, text in enumerate(TORTURE["texts"]):
        assert tokenizer.encode(text) == expected["plain"][i], repr(text)
        assert tokenizer.encode(text, special=True) == expected["special"][i], text


def test_texts_are_those_of_auto_tokenizer(style):
    """Whole texts, bytes cut in the middle of a character, ids without a token."""
    tokenizer, expected = style
    rows = [*expected["special"], *expected["fragments"]]
    assert any(i >= expected["size"] for row in rows for i in row)
    for i, ids in enumerate(rows):
        assert tokenizer.decode(ids) == expected["decoded"][i]
        assert tokenizer.decode(ids, skip_special=True) == expected["skipped"][i]


def test_the_torture_list_covers_what_it_names():
    """Three styles add a token in front; four have texts that they cannot undo."""
    lossy = {}
    for name in STYLES:
        raw = json.loads((FIXTURES / name / "expected.json").read_text("utf-8"))
        lossy[name] = sum(
            raw["decoded"][i] != text for i, text in enumerate(TORTURE["texts"])
        )
        adds = any(a != b for a, b in zip(raw["plain"], raw["special"], strict=True))
        assert adds == (name in ("llama2", "mistral", "llama3"))
    assert all(lossy[name] > 0 for name in ("llama2", "mistral", "phi3", "qwen2"))


def test_the_class_decides_and_not_the_file_alone():
    """One tokenizer.json, two model types: the ids differ, as transformers' do."""
    texts = [" Hello", "a<s>b</s> c <s> d"]
    ids = [
        [Tokenizer.load(FIXTURES / name).encode(text) for text in texts]
        for name in ("llama2", "mistral")
    ]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("model_type", "named", "byte_level", "rebuilt"),
    [
        ("llama", "LlamaTokenizerFast", False, "<unk>"),
        ("llama", "LlamaTokenizer", True, None),
        ("llama", None, True, None),
        ("llama", "GPT2TokenizerFast", True, "<|endoftext|>"),
        ("mistral", "LlamaTokenizer", False, None),
        ("phi3", "LlamaTokenizer", False, None),
        ("qwen2", "LlamaTokenizerFast", True, "<|endoftext|>"),
        ("qwen2", "PreTrainedTokenizerFast", True, "<|endoftext|>"),
        ("qwen3", "PreTrainedTokenizerFast", True, None),
        ("qwen3", "Qwen2Tokenizer", True, "<|endoftext|>"),
        ("qwen3", None, True, "<|endoftext|>"),
        (None, None, False, None),
    ],
)
def test_which_files_are_rebuilt(model_type, named, byte_level, rebuilt):
    """As AutoTokenizer 5.23 chose, told apart by the unknown token of each class."""
    found = tokenizer_class.choose(model_type, named, byte_level=byte_level)
    assert (found and found.defaults["unk_token"]) == rebuilt


def test_a_rebuilt_class_has_special_tokens_of_its_own(tmp_path):
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    folder = copied("llama2", tmp_path, **dict.fromkeys(names))
    found = Tokenizer.load(folder).special_tokens
    assert found == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def copied(name: str, target: Path, **changes) -> Path:
    """A copy of a style, with changes to tokenizer_config.json (None removes a key)."""
    shutil.copytree(FIXTURES / name, target / name)
    path = target / name / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), "utf-8")
    return target / name


def test_begin_and_end_flags_of_the_config_decide_nothing(tmp_path):
    """transformers 5 drops add_bos_token and add_eos_token beside a tokenizer.json."""
    folder = copied("llama3", tmp_path, add_bos_token=False, add_eos_token=True)
    changed, plain = Tokenizer.load(folder), Tokenizer.load(FIXTURES / "llama3")
    assert changed.encode("hi", special=True) == plain.encode("hi", special=True)


def test_special_tokens_can_be_read_as_text(tmp_path):
    folder = copied("llama3", tmp_path, split_special_tokens=True)
    text = "<|eot_id|>"
    assert len(Tokenizer.load(FIXTURES / "llama3").encode(text)) == 1
    assert len(Tokenizer.load(folder).encode(text)) > 1


def test_a_declared_token_must_get_its_id(tmp_path):
    size = Tokenizer.load(FIXTURES / "llama3").vocab_size
    token = {"content": "<new>", "special": True}
    entry = lambda i: {"added_tokens_decoder": {str(i): token}}
    good = Tokenizer.load(copied("llama3", tmp_path / "a", **entry(size)))
    assert good.encode("x<new>")[-1] == size
    with pytest.raises(ValueError, match=f"'<new>': expected id {size + 3}, .* {size}"):
        Tokenizer.load(copied("llama3", tmp_path / "b", **entry(size + 3)))


def test_the_order_of_appended_tokens_is_that_of_transformers(tmp_path):
    """pad_token and the like, then names of other files, of the config, then the rest.

    The ids are those of AutoTokenizer 5.23 on these files.
    """
    changes = {"audio_token": "<audio>", "additional_special_tokens": ["<x y>"]}
    named = {"extra_special_tokens": {"video_token": "<video>"}}
    tokenizer = Tokenizer.load(copied("gpt2", tmp_path, **changes, **named))
    order = ["<pad>", "<image>", "<audio>", "<video>", "<x y>"]
    first = Tokenizer.load(FIXTURES / "gpt2").id("<pad>")
    assert [tokenizer.id(t) for t in order] == list(range(first, first + 5))


def test_an_unknown_class_is_refused_by_name(tmp_path):
    folder = copied("llama3", tmp_path, tokenizer_class="CohereTokenizerFast")
    with pytest.raises(
        ValueError, match="tokenizer_config.json: tokenizer_class: .*Co"
    ):
        Tokenizer.load(folder)


@pytest.mark.parametrize("found", ["[]", "{", '{"bos_token": {"made": "up"}}'])
def test_a_damaged_config_is_named(tmp_path, found):
    folder = copied("llama3", tmp_path)
    (folder / "tokenizer_config.json").write_text(found)
    with pytest.raises(ValueError, match="tokenizer_config.json"):
        Tokenizer.load(folder)


def test_another_format_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    message = "no tokenizer.json in .*, only tokenizer.model: convert .*save_pretrained"
    with pytest.raises(FileNotFoundError, match=message):
        Tokenizer.load(tmp_path)


def test_special_tokens_have_ids_by_name():
    tokenizer = Tokenizer.load(FIXTURES / "qwen2")
    assert tokenizer.special_id("eos_token") == tokenizer.id("<|im_end|>")
    assert tokenizer.special_id("bos_token") is None


def test_a_lone_surrogate_is_refused(style):
    with pytest.raises(ValueError, match=r"no token for \[.*'\\ud800'"):
        style[0].encode("a\ud800")


def test_the_files_of_a_tokenizer_travel_byte_for_byte(tmp_path):
    names = tokenizer_files.copy(FIXTURES / "qwen2", tmp_path)
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} == set(
        names
    )
    for name in names:
        written = (tmp_path / name).read_bytes()
        assert written == (FIXTURES / "qwen2" / name).read_bytes()


def test_a_sample_is_not_what_its_text_encodes_to():
    """Why ids are kept: these decode to text that encodes to other ids."""
    tokenizer = Tokenizer.load(FIXTURES / "qwen2")
    ids = [tokenizer.id("H"), tokenizer.id("e"), *tokenizer.encode("llo")]
    end = tokenizer.special_id("eos_token")
    response = Response(
        tokens=jnp.asarray([[[*ids, end]]]),
        length=jnp.asarray([[len(ids) + 1]]),
        sampler_log_prob=jnp.zeros((1, 1)),
    )
    assert decode_responses(tokenizer, response, end=(end,)) == [["Hello"]]
    assert tokenizer.encode("Hello") != ids
    np.testing.assert_array_equal(response.tokens[0, 0], [*ids, end])
