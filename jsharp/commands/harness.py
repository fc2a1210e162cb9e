"""A checkpoint under the LM Evaluation Harness: pip install 'jsharp[eval]'.

    from jsharp.commands import harness
    lm_eval.simple_evaluate(model=harness.model("./model"), tasks=["gsm8k"])

Contexts become ids as in the harness's own Hugging Face models: with the tokenizer's
special tokens, unless they begin by the begin token, and a continuation is the ids that
both together have beyond those of the context. One thing differs: what does not fit the
model's positions is refused, never truncated.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jsharp.commands import model as checkpoints
from jsharp.commands.batches import Given, batches
from jsharp.lm import engine, huggingface, scorer
from jsharp.lm.chat import Chat
from jsharp.lm.config import TransformerConfig
from jsharp.lm.draw import Sampling
from jsharp.lm.shapes import bucket
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Params, Prompts, Response, mask

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_OPTIONS = {*_LENGTHS, "until", "do_sample", "temperature", "top_k", "top_p"}


class Served(NamedTuple):
    """A loaded checkpoint, and how it is used."""

    config: TransformerConfig
    params: Params
    tokenizer: Tokenizer
    end: tuple[int, ...]
    pad: int
    slots: int  # responses scored, or decoded, at once
    seed: int  # what draws depend on, where a task asks for any

    @property
    def first(self) -> int:
        """What a text without a context is conditioned on: the begin or end token."""
        begin = self.tokenizer.special_id("bos_token")
        return self.end[0] if begin is None else begin


def model(name: str, *, batch_size: int = 64, seed: int = 0) -> Any:
    """An `lm_eval.api.model.LM` of a checkpoint directory, or of "embedded".

    Raises ValueError where lm_eval is not installed, FileNotFoundError or ValueError
    where there is no such checkpoint.
    """
    try:
        base = importlib.import_module("lm_eval.api.model").LM
    except ImportError as error:
        raise ValueError(
            "expected the package lm_eval: pip install 'jsharp[eval]'"
        ) from error
    directory = checkpoints.directory(name)
    found = huggingface.load(directory)
    chat = Chat.load(directory, Tokenizer.load(directory))
    served = Served(
        *(found.config, found.params, chat.tokenizer, found.end, found.pad),
        *(batch_size, seed),
    )

    class Jsharp(base):
        tokenizer_name = name  # under which the harness caches its requests

        def loglikelihood(self, requests, disable_tqdm=False):
            return loglikelihood(served, [request.args for request in requests])

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            return loglikelihood_rolling(served, [r.args[0] for r in requests])

        def generate_until(self, requests, disable_tqdm=False):
            return generate_until(served, [request.args for request in requests])

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            if not add_generation_prompt:
                raise ValueError("expected a chat that ends before the answer")
            return chat.render(chat_history)

    return Jsharp()


def loglikelihood(
    served: Served, pairs: Sequence[tuple[str, str]]
) -> list[tuple[float, bool]]:
    """(log pi(continuation | context), whether its every token is the likeliest).

    Raises ValueError, naming the request, where a continuation has no tokens or does
    not fit the model's positions behind its context.
    """
    given = [_pair(served, *pair) for pair in pairs]
    most = served.config.context_length + 1  # the last token is never fed
    for i, (context, continuation) in enumerate(given):
        if not continuation or len(context) + len(continuation) > most:
            raise ValueError(
                f"request {i}: expected a continuation of 1 to {most - len(context)} "
                f"tokens after a context of {len(context)}, found {len(continuation)}"
            )
    return _score(served, given)


def loglikelihood_rolling(served: Served, texts: Sequence[str]) -> list[float]:
    """log pi(text) of each, every token predicted once from what comes before it.

    All of that in the first `context_length` tokens; behind them a window of as many
    begins anew, but the last one, which has all the context that fits.
    """
    size = served.config.context_length
    windows = [
        _windows([served.first, *served.tokenizer.encode(text)], size) for text in texts
    ]
    scores = iter(_score(served, [given for some in windows for given in some]))
    return [sum((next(scores)[0] for _ in some), 0.0) for some in windows]


def generate_until(
    served: Served, asked: Sequence[tuple[str, dict[str, Any]]]
) -> list[str]:
    """One response to each context, cut before the first of its `until` strings.

    Greedy, unless do_sample or a temperature above 0 asks for a draw. The response is
    decoded to its end token, 256 tokens (or what the options say) or the last of the
    model's positions, and cut then. Raises ValueError, naming the request, for unknown
    options and for a context that leaves no room.
    """
    most, texts = served.config.context_length, [""] * len(asked)
    contexts = [_context(served, context) for context, _ in asked]
    groups: dict[tuple[int, Sampling], list[int]] = {}
    for i, (_, options) in enumerate(asked):
        _check(i, len(contexts[i]), options, most=most)
        groups.setdefault(_way(options), []).append(i)
    for (length, sampling), places in groups.items():
        shortest = min(len(contexts[i]) for i in places)
        drawn = engine.generate(
            jax.random.key(served.seed),
            served.params,
            [contexts[i] for i in places],
            1,
            config=served.config,
            horizon=min(length, most - shortest),
            end=served.end,
            pad=served.pad,
            sampling=sampling,
            rows=served.slots,
            places=places,
        )
        for i, one in zip(places, drawn, strict=True):
            size = min(int(one.length[0]), most - len(contexts[i]))
            text = _text(served, one.tokens[0, :size].tolist())
            texts[i] = _cut(text, asked[i][1].get("until") or ())
    return texts


def _check(i: int, size: int, options: dict[str, Any], *, most: int) -> None:
    if strange := sorted(options.keys() - _OPTIONS):
        raise ValueError(f"request {i}: unknown generation options {strange}")
    if not 1 <= size < most:
        raise ValueError(
            f"request {i}: expected a context of 1 to {most - 1} tokens, found {size}"
        )


def _context(served: Served, text: str) -> list[int]:
    begin = served.tokenizer.special_tokens.get("bos_token")
    begun = begin is not None and text.startswith(begin)
    return served.tokenizer.encode(text, special=not begun)


def _pair(served: Served, context: str, continuation: str) -> Given:
    kept = context.rstrip()  # white space goes with the word behind it
    whole = _context(served, context + continuation)
    if kept:
        ids = _context(served, kept)
    else:
        ids = [served.first]
        whole = served.tokenizer.encode(context + continuation)
        whole = whole if whole[:1] == ids else ids + whole
    return Given(tuple(ids), tuple(whole[len(ids) :]))


def _windows(ids: list[int], size: int) -> list[Given]:
    """All ids but the first as completions, in windows of at most `size` + 1 ids."""
    windows = []
    for start in range(1, len(ids), size):
        stop = min(start + size, len(ids))
        before = max(0, stop - size - 1)
        windows.append(Given(tuple(ids[before:start]), tuple(ids[start:stop])))
    return windows


def _score(served: Served, given: Sequence[Given]) -> list[tuple[float, bool]]:
    scores: list[tuple[float, bool]] = [(0.0, True)] * len(given)
    for batch in batches(given, slots=bucket(served.slots), pad=served.pad):
        inputs = served.params, batch.prompts, batch.response
        log_prob, modes = map(np.asarray, _measure(*inputs, config=served.config))
        for at in map(tuple, np.argwhere(batch.place >= 0)):
            scores[batch.place[at]] = float(log_prob[at]), bool(modes[at])
    return scores


@functools.partial(jax.jit, static_argnames="config")
def _measure(
    params: Params, prompts: Prompts, response: Response, *, config: TransformerConfig
) -> tuple[Float[Array, "B n"], Bool[Array, "B n"]]:
    token = scorer.token_statistics(params, prompts, response, config=config)
    counts = mask(response)
    log_prob = jnp.where(counts, token.log_prob, 0.0).sum(-1)
    return log_prob, ((token.rank == 0) | ~counts).all(-1)


def _way(options: dict[str, Any]) -> tuple[int, Sampling]:
    """How long, and by which law: a temperature alone asks for a draw, 0 for none."""
    length = next((options[k] for k in _LENGTHS if options.get(k) is not None), 256)
    heat, drawn = options.get("temperature"), options.get("do_sample")
    if heat == 0 or not (bool(heat) if drawn is None else drawn):
        return int(length), Sampling(temperature=0.0)
    return int(length), Sampling(
        temperature=1.0 if heat is None else float(heat),
        top_k=options.get("top_k") or 0,
        top_p=options.get("top_p") or 1.0,
    )


def _text(served: Served, ids: list[int]) -> str:
    ended = ids[-1] in served.end
    return served.tokenizer.decode(ids[:-1] if ended else ids, skip_special=True)


def _cut(text: str, until: str | Sequence[str]) -> str:
    for stop in filter(None, [until] if isinstance(until, str) else until):
        text = text.split(stop)[0]
    return text
