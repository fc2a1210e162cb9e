"""Ask a language model: N sampled responses and a greedy one for each problem.

    problems -> prompts -> sample, log_prob -> text, answer, correct -> one record each

Records are what JSONL files hold; nothing downstream sees a model.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsharp.evaluate import Samples
from jsharp.lm import huggingface
from jsharp.lm.config import TransformerConfig
from jsharp.lm.language_model import greedy_decoder, transformer_policy
from jsharp.lm.tokenizer import Tokenizer, decode_responses, encode_prompts
from jsharp.policy import Params, Policy, Prompts, Response
from jsharp.reward import REWARDS, Candidates
from jsharp.tasks import Problem, Task, prompt_length

SCORED = ("log-probability", "length-normalised", "majority")


class Model(NamedTuple):
    """A checkpoint with everything that turns text into text; jitted once."""

    config: TransformerConfig
    policy: Policy
    params: Params
    greedy: Any  # (params, prompts) -> Response
    tokenizer: Tokenizer
    end: tuple[int, ...]
    pad: int

    @classmethod
    def load(cls, directory: str | Path, *, horizon: int) -> "Model":
        """Read a Hugging Face directory; responses have at most `horizon` tokens."""
        found = huggingface.load(directory)
        shape = {"horizon": horizon, "end": found.end, "pad": found.pad}
        policy = transformer_policy(found.config, **shape)
        jitted = policy._replace(
            sample=jax.jit(policy.sample, static_argnums=3),
            log_prob=jax.jit(policy.log_prob),
        )
        greedy = jax.jit(greedy_decoder(found.config, **shape))
        tokenizer = Tokenizer.load(directory)
        return cls(
            found.config,
            jitted,
            found.params,
            greedy,
            tokenizer,
            found.end,
            found.pad,
        )

    def prompts(self, task: Task, problems: Sequence[Problem]) -> Prompts:
        """The prompts of a task, always padded to its longest one."""
        asked = [task.prompt(problem) for problem in problems]
        return encode_prompts(
            self.tokenizer, asked, pad=self.pad, length=prompt_length(task)
        )


def labels(answers: list[list[str | None]]) -> jax.Array:
    """Number the distinct answers, [B n]; -1 where there is none."""
    distinct = sorted({a for row in answers for a in row if a is not None})
    number = {answer: i for i, answer in enumerate(distinct)}
    return jnp.asarray(
        [[-1 if a is None else number[a] for a in row] for row in answers], jnp.int32
    )


def generate(
    key: jax.Array,
    model: Model,
    params: Params,
    task: Task,
    problems: Sequence[Problem],
    *,
    n: int,
    batch: int,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of each batch: n samples and one greedy response per problem.

    `params` is the policy that is asked; every log-probability and reward in a record
    is under `model.params`, the base. Greedy records have sample_id -1. The draws of
    problem i depend on (key, i) alone. `len(problems)` must be a multiple of `batch`.
    """
    if len(problems) % batch:
        raise ValueError(
            f"expected a multiple of {batch} problems, got {len(problems)}"
        )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(problems)))
    for start in range(0, len(problems), batch):
        some = problems[start : start + batch]
        prompts = model.prompts(task, some)
        drawn = model.policy.sample(keys[start : start + batch], params, prompts, n)
        greedy = model.greedy(params, prompts)
        records = []
        for response, first in ((greedy, -1), (drawn, 0)):
            records += _records(model, task, some, prompts, response, start, first)
        yield records


def _records(
    model: Model,
    task: Task,
    problems: Sequence[Problem],
    prompts: Prompts,
    response: Response,
    start: int,
    first: int,
) -> list[dict[str, Any]]:
    """One record per response; `first` numbers the candidates."""
    text = decode_responses(model.tokenizer, response, end=model.end)
    answers = [[task.answer(t) for t in row] for row in text]
    log_prob = model.policy.log_prob(model.params, prompts, response)
    candidates = Candidates(response, log_prob, labels(answers))
    rewards = {name: np.asarray(REWARDS[name](candidates)) for name in SCORED}
    tokens, length = np.asarray(response.tokens), np.asarray(response.length)
    seen, base = np.asarray(response.sampler_log_prob), np.asarray(log_prob)
    return [
        {
            "prompt_id": start + b,
            "prompt": task.prompt(problem),
            "sample_id": first + i,
            "response": text[b][i],
            "tokens": tokens[b, i, : length[b, i]].tolist(),
            "length": int(length[b, i]),
            "finish_reason": "stop"
            if tokens[b, i, length[b, i] - 1] in model.end
            else "length",
            "log_prob": float(base[b, i]),
            "sampler_log_prob": float(seen[b, i]),
            "reward": {name: float(r[b, i]) for name, r in rewards.items()},
            "answer": answers[b][i],
            "correct": task.correct(problem, text[b][i]),
        }
        for b, problem in enumerate(problems)
        for i in range(length.shape[1])
    ]


def samples(records: Sequence[dict[str, Any]]) -> Samples:
    """Arrays [B N] of the records of `generate`, in whatever order they were read.

    Raises ValueError if a prompt lacks its greedy response or any sample.
    """
    ordered = sorted(records, key=lambda r: (r["prompt_id"], r["sample_id"]))
    prompts = len({r["prompt_id"] for r in records})
    per_prompt = len(records) // prompts
    ids = np.array([r["sample_id"] for r in ordered])
    if (
        len(records) % prompts
        or (ids.reshape(prompts, -1) != np.arange(per_prompt) - 1).any()
    ):
        raise ValueError(
            f"expected samples -1..{per_prompt - 2} for each of {prompts} prompts, "
            f"found {len(records)} records"
        )
    field = lambda get: np.array([get(r) for r in ordered]).reshape(prompts, -1)
    correct, log_prob = field(lambda r: r["correct"]), field(lambda r: r["log_prob"])
    score = {name: field(lambda r, k=name: r["reward"][k])[:, 1:] for name in SCORED}
    return Samples(
        correct=correct[:, 1:],
        log_prob=log_prob[:, 1:],
        score=score,
        greedy_correct=correct[:, 0],
        greedy_log_prob=log_prob[:, 0],
    )
