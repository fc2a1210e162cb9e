"""The evaluation harness's three questions, against the law of the whole sequence."""

import sys
import types

import numpy as np
import pytest
from tiny_checkpoint import CONFIG
from tokenizers import processors

from jsharp.commands import harness
from jsharp.lm.draw import Sampling
from jsharp.lm.tokenizer import character_tokenizer

END, POSITIONS = 0, CONFIG.max_position_embeddings


class Request(types.SimpleNamespace):
    """What the harness hands over: `args` alone counts."""


def requests(*args):
    return [Request(args=each) for each in args]


@pytest.fixture(scope="module")
def lm(checkpoint):
    """The adapter on a stand-in for lm_eval, whose only part in it is a base class."""
    name = "lm_eval.api.model"
    module = types.ModuleType(name)
    module.LM = type("LM", (), {"rank": 0})
    with pytest.MonkeyPatch.context() as patch:
        for each in ("lm_eval", "lm_eval.api"):
            patch.setitem(sys.modules, each, types.ModuleType(each))
        patch.setitem(sys.modules, name, module)
        made = harness.model(str(checkpoint.directory), batch_size=2)
    assert isinstance(made, module.LM) and made.rank == 0
    return made


def following(law, before, after):
    """(log-probability, all likeliest) of the ids `after` behind the ids `before`."""
    rows = law([*before, *after[:-1]])[len(before) - 1 :]
    chosen = rows[np.arange(len(after)), after]
    return float(chosen.sum()), bool((chosen == rows.max(-1)).all())


def greedy(law, ids, count):
    """Up to `count` likeliest tokens behind `ids`, the end token the last."""
    drawn: list[int] = []
    while len(drawn) < count and END not in drawn:
        drawn.append(int(law([*ids, *drawn])[-1].argmax()))
    return drawn


def test_loglikelihood_is_the_laws(lm, law, checkpoint):
    encode = checkpoint.tokenizer.encode
    best = checkpoint.tokenizer.decode(greedy(law, encode("ab"), 1))
    pairs = [("ab", "cd"), ("dcba dcb", "a"), ("ab", best), ("a b ", "c"), ("", "abc")]
    pairs += [(" ", "b"), ("b" * 20, "a"), ("a" * 20, "b" * 13)]  # to the last position
    found = lm.loglikelihood(requests(*pairs))
    for (context, continuation), (log_prob, likeliest) in zip(
        pairs, found, strict=True
    ):
        kept = context.rstrip()
        rest = context[len(kept) :] + continuation
        wanted = following(law, encode(kept) or [END], encode(rest))
        assert (log_prob, likeliest) == (pytest.approx(wanted[0], abs=2e-5), wanted[1])
    assert found[2][1] and not found[0][1]


def test_a_begin_token_comes_once_and_first():
    """With a tokenizer that puts one before every text."""
    tokenizer = character_tokenizer("ab", end="<s>")
    begin = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.inner.post_processor = begin
    tokenizer.special_tokens["bos_token"] = "<s>"
    served = harness.Served(CONFIG, None, tokenizer, (2,), 0, 1, 0)
    for context, continuation in (("a", "b"), ("<s>a", "b")):
        assert harness._pair(served, context, continuation) == ((0, 1), (2,))
    assert harness._pair(served, "", "ab") == ((0,), (1, 2))
    assert harness._pair(served, "", "<s>b") == ((0,), (2,))
    # The end of a response is no text, here the letter b, and nor is a special token.
    assert [harness._text(served, ids) for ids in ([0, 1, 2], [1, 1])] == ["a", "aa"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("ab", ""), "request 1: expected a continuation of 1 to 31 .* 2, found 0"),
        (("a" * 20, "b" * 14), "of 1 to 13 tokens after a context of 20, found 14"),
        (("q", "a"), "no token for"),
    ],
)
def test_what_cannot_be_scored_is_refused(lm, pair, message):
    with pytest.raises(ValueError, match=message):
        lm.loglikelihood(requests(("a", "b"), pair))


def test_a_text_is_predicted_once_token_by_token(lm, law, checkpoint):
    """Windows by the letter of the harness, of texts of 0, 2.5, 1.5 and 1 of them."""
    encode, n = checkpoint.tokenizer.encode, POSITIONS
    letters = np.random.default_rng(0).choice(list("abcd "), 5 * n // 2)
    texts = ["".join(letters[:size]) for size in (0, 5 * n // 2, 3 * n // 2, n)]
    wanted = []
    for text in texts:
        ids, total = [END, *encode(text)], 0.0
        for place in range(1, len(ids)):
            window = (place - 1) // n * n  # where the ids fed in this window begin
            if window + n >= len(ids):  # the last one
                window = max(0, len(ids) - 1 - n)
            total += law(ids[window:place])[-1][ids[place]]
        wanted.append(total)
    found = lm.loglikelihood_rolling(requests(*((text,) for text in texts)))
    assert found == pytest.approx(wanted, abs=1e-4) and found[0] == 0


def test_greedy_text_is_cut_where_it_is_told(lm, law, checkpoint):
    encode, decode = checkpoint.tokenizer.encode, checkpoint.tokenizer.decode
    whole = {}
    for context in ("ab" * 10, "dcba dcb" * 3, "a" * 27):
        size = min(8, POSITIONS - len(context))
        ids = greedy(law, encode(context), size)
        whole[context] = decode([i for i in ids if i != END])
    assert max(map(len, whole.values())) > 2
    first = next(iter(whole))
    stop = whole[first][1:2] or "b"
    asked = [(c, {"max_gen_toks": 8, "until": []}) for c in whole]
    asked += [(c, {"max_new_tokens": 8, "until": stop}) for c in whole]
    asked += [(first, {"max_gen_toks": 8, "until": ["", "é", stop]})]
    cut = [text.split(stop)[0] for text in whole.values()]
    wanted = [*whole.values(), *cut, whole[first].split("é")[0].split(stop)[0]]
    assert lm.generate_until(requests(*asked)) == wanted


def test_draws_of_equal_requests_differ_and_repeat(lm):
    ask = lambda **how: lm.generate_until(
        requests(*[("ab" * 10, {"max_gen_toks": 8, **how})] * 5)
    )
    found = ask(do_sample=True)
    assert len(set(found)) > 1 and found == ask(do_sample=True)
    assert ask(temperature=1.0, do_sample=None, top_k=None) == found
    likeliest = ask()
    assert len(set(likeliest)) == 1
    assert ask(do_sample=True, temperature=0) == likeliest == ask(do_sample=False)


@pytest.mark.parametrize(
    ("options", "length", "sampling"),
    [
        ({}, 256, Sampling(temperature=0.0)),
        ({"max_tokens": 7, "do_sample": False}, 7, Sampling(temperature=0.0)),
        ({"do_sample": True, "top_k": 3}, 256, Sampling(top_k=3)),
        ({"temperature": 0.5, "top_p": 0.9}, 256, Sampling(temperature=0.5, top_p=0.9)),
    ],
)
def test_options_mean_what_they_do_in_the_harness(options, length, sampling):
    assert harness._way(options) == (length, sampling)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("ab", {"num_beams": 4}), r"request 1: unknown generation options \['num_b"),
        (("a" * 32, {}), "request 1: expected a context of 1 to 31 tokens, found 32"),
        (("", {}), "request 1: expected a context of 1 to 31 tokens, found 0"),
    ],
)
def test_what_cannot_be_answered_is_refused(lm, asked, message):
    with pytest.raises(ValueError, match=message):
        lm.generate_until(requests(("a", {}), asked))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch, checkpoint):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'jsharp\[eval\]'"):
        harness.model(str(checkpoint.directory))


def test_a_chat_needs_a_template_and_a_turn_to_answer(lm):
    chat = [{"role": "user", "content": "a"}]
    with pytest.raises(ValueError, match="no chat template"):
        lm.apply_chat_template(chat)
    with pytest.raises(ValueError, match="ends before the answer"):
        lm.apply_chat_template(chat, add_generation_prompt=False)
