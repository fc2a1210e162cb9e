"""Responses to questions: drawn, scored under the base, marked.

    question -> n draws -> log pi_base(y|x), teacher-forced -> answer, correct -> record

What train, evaluate and diagnose share; each record is one line of JSON, and nothing
behind it sees a model.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jsharp.commands.batches import Given, batches
from jsharp.commands.questions import Questions
from jsharp.commands.stream import Record
from jsharp.lm import engine, scorer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.draw import Sampling
from jsharp.lm.engine import Generated
from jsharp.lm.shapes import bucket
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Params, Prompts, Response, mask
from jsharp.reward import Candidates

FIELDS = (
    *("sample_id", "completion", "completion_ids", "finish_reason", "logprob_base"),
    *("logprob_sampler", "num_tokens", "entropy", "certainty", "answer", "correct"),
    *("seed", "model"),
)
GREEDY = -1  # the sample_id of the greedy response

Tick = Callable[[int, int], None]  # (prompts finished, tokens) since the last call


class Speaker(NamedTuple):
    """What turns ids into ids and text: everything of a checkpoint but its weights."""

    config: TransformerConfig
    tokenizer: Tokenizer
    end: tuple[int, ...]
    pad: int
    horizon: int  # tokens of a response, at most
    slots: int  # responses decoded, or scored, at once

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response, its end token left out."""
        ids = list(ids)
        return self.tokenizer.decode(ids[:-1] if ids[-1] in self.end else ids)


class Scores(NamedTuple):
    """Of some responses under a model, float32 at temperature 1."""

    log_prob: Float[np.ndarray, " R"]  # log pi(y|x), summed over tokens
    entropy: Float[np.ndarray, " R"]  # mean over tokens, nats
    certainty: Float[np.ndarray, " R"]  # mean over tokens of KL(uniform || pi), nats


def draw(
    key: Key[Array, ""],
    params: Params,
    speaker: Speaker,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    places: Sequence[int],
    greedy: bool = False,
    tick: Tick | None = None,
) -> list[Generated]:
    """n responses to each prompt, in order; a place's depend on key and place alone."""
    columns = min(n, speaker.slots)
    seen = (0, 0)

    def progress(finished: int, tokens: int) -> None:
        nonlocal seen
        if tick is not None:
            tick(finished - seen[0], tokens - seen[1])
        seen = finished, tokens

    return list(
        engine.generate(
            key,
            params,
            prompts,
            n,
            config=speaker.config,
            horizon=speaker.horizon,
            end=speaker.end,
            pad=speaker.pad,
            sampling=Sampling(temperature=0.0) if greedy else Sampling(),
            rows=max(1, speaker.slots // columns),
            columns=columns,
            places=places,
            progress=progress,
        )
    )


def score(params: Params, speaker: Speaker, given: Sequence[Given]) -> Scores:
    """Teacher-forced scores of each response, in their order."""
    found = np.zeros((3, len(given)), np.float32)
    for batch in batches(given, slots=bucket(speaker.slots), pad=speaker.pad):
        scores = _score(params, batch.prompts, batch.response, config=speaker.config)
        held = batch.place >= 0
        found[:, batch.place[held]] = np.stack(jax.device_get(scores))[:, held]
    return Scores(*found)


@functools.partial(jax.jit, static_argnames="config")
def _score(
    params: Params, prompts: Prompts, response: Response, *, config: TransformerConfig
) -> tuple[Float[Array, "B n"], Float[Array, "B n"], Float[Array, "B n"]]:
    token = scorer.token_statistics(params, prompts, response, config=config)
    counts = mask(response)
    total = lambda x: jnp.where(counts, x, 0.0).sum(-1)
    size = jnp.maximum(response.length, 1)
    mean = lambda x: total(x) / size
    return total(token.log_prob), mean(token.entropy), mean(token.certainty)


def records(
    drawn: Sequence[Generated],
    scores: Scores,
    speaker: Speaker,
    questions: Questions,
    *,
    seed: int,
    model: str,
    greedy: bool = False,
) -> list[Record]:
    """The lines of some prompts' responses; `scores` has them in the same order."""
    lines: list[Record] = []
    for one in drawn:
        entry = questions.entries[one.place]
        for i, size in enumerate(one.length.tolist()):
            ids, at = one.tokens[i, :size].tolist(), len(lines)
            text = speaker.text(ids)
            marked = questions.correct and questions.correct(one.place, text)
            lines.append(
                {
                    "id": entry.id,
                    "prompt": entry.prompt,
                    "prompt_ids": list(entry.ids),
                    "sample_id": GREEDY if greedy else i,
                    "completion": text,
                    "completion_ids": ids,
                    "finish_reason": one.finish[i],
                    "logprob_base": float(scores.log_prob[at]),
                    "logprob_sampler": float(one.sampler_log_prob[i]),
                    "num_tokens": size,
                    "entropy": float(scores.entropy[at]),
                    "certainty": float(scores.certainty[at]),
                    "answer": questions.answer(text),
                    "correct": marked,
                    "seed": seed,
                    "model": model,
                }
            )
    return lines


def given(drawn: Sequence[Generated], questions: Questions) -> list[Given]:
    """What is to be scored: every response, in the order of `records`."""
    return [
        Given(questions.entries[one.place].ids, tuple(one.tokens[i, :size].tolist()))
        for one in drawn
        for i, size in enumerate(one.length.tolist())
    ]


def respond(
    key: Key[Array, ""],
    params: Params,
    base: Params,
    speaker: Speaker,
    questions: Questions,
    places: Sequence[int],
    n: int,
    *,
    seed: int,
    model: str,
    greedy: bool = False,
    tick: Tick | None = None,
) -> list[Record]:
    """Records of n responses of `params` to the questions at `places`, under `base`."""
    prompts = [questions.entries[place].ids for place in places]
    drawn = draw(
        key, params, speaker, prompts, n, places=places, greedy=greedy, tick=tick
    )
    scores = score(base, speaker, given(drawn, questions))
    return records(
        drawn, scores, speaker, questions, seed=seed, model=model, greedy=greedy
    )


def candidates(groups: Sequence[Sequence[Record]]) -> Candidates:
    """What self-rewards look at, from the records of n samples to each of B prompts."""
    size = np.array([[line["num_tokens"] for line in group] for group in groups])
    # A bucket, so that rewards that compare tokens compile for few shapes.
    tokens = np.zeros((*size.shape, bucket(int(size.max()), 16)), np.int32)
    answer = np.full(size.shape, -1, np.int32)
    for b, group in enumerate(groups):
        found = sorted({line["answer"] for line in group} - {None})
        label = {text: i for i, text in enumerate(found)} | {None: -1}
        for i, line in enumerate(group):
            tokens[b, i, : size[b, i]] = line["completion_ids"]
            answer[b, i] = label[line["answer"]]
    field = lambda name: jnp.asarray(
        [[line[name] for line in group] for group in groups], jnp.float32
    )
    return Candidates(
        response=Response(
            jnp.asarray(tokens),
            jnp.asarray(size, jnp.int32),
            field("logprob_sampler"),
        ),
        log_prob=field("logprob_base"),
        answer=jnp.asarray(answer),
        entropy=field("entropy"),
        certainty=field("certainty"),
    )
