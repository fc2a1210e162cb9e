"""The peers' scorers: teacher-forced log-probs by transformers and by hand."""

# PyTorch is only here where a peer is wanted: no dependency of this project.
# pyright: reportMissingImports=false

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM

from experiments.benchmarks import engine_torch_decoder as by_hand
from experiments.benchmarks.engine_model import Size, texts
from experiments.benchmarks.engine_side import Job, Side

CHUNK = 512  # rows of logits
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(job: Job) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.directory, dtype=getattr(torch, job.dtype), attn_implementation="sdpa"
    )
    return model.to(DEVICE).eval()


def all_texts(job: Job, *, prompts: int, n: int) -> Tensor:
    both = texts(job.size, job.seed, prompts=prompts, n=n)
    return torch.from_numpy(both).long().to(DEVICE)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def chosen(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax(logits)[token] by one logsumexp."""
    picked = logits.gather(-1, tokens[..., None])[..., 0]
    return picked - logits.logsumexp(-1)


def _logits(model: Any, tokens: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Logits [R H V] that predict the responses, and the responses."""
    out = model(tokens[:, :-1], logits_to_keep=size.horizon, use_cache=False)
    return out.logits.float(), tokens[:, -size.horizon :]


def score_full(model: Any, tokens: Tensor, size: Size) -> Tensor:
    logits, target = _logits(model, tokens, size)
    return logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]


def score_selective(model: Any, tokens: Tensor, size: Size) -> Tensor:
    """As trl.trainer.utils.selective_log_softmax in float32."""
    logits, target = _logits(model, tokens, size)
    picked = logits.gather(-1, target[..., None])[..., 0]
    return picked - torch.stack([row.logsumexp(-1) for row in logits])


def last_hidden(model: Any, tokens: Tensor, size: Size) -> Tensor:
    if isinstance(model, by_hand.Decoder):
        return model(tokens[:, :-1])[:, -size.horizon :]
    out = model.model(tokens[:, :-1], use_cache=False)
    return out.last_hidden_state[:, -size.horizon :]


def head(model: Any) -> Tensor:
    return model.head if isinstance(model, by_hand.Decoder) else model.lm_head.weight


def score_rows(model: Any, tokens: Tensor, size: Size) -> Tensor:
    """The logits of one sequence at a time."""
    hidden, target = last_hidden(model, tokens, size), tokens[:, -size.horizon :]
    table = head(model)
    rows = zip(hidden, target, strict=True)
    return torch.stack([chosen(F.linear(h, table).float(), t) for h, t in rows])


def score_chunks(model: Any, tokens: Tensor, size: Size) -> Tensor:
    """At most CHUNK rows of logits in either direction: recomputed backward."""
    hidden = last_hidden(model, tokens, size).flatten(0, 1)
    target = tokens[:, -size.horizon :].flatten()
    table = head(model)
    score = lambda h, t: chosen(F.linear(h, table).float(), t)
    if torch.is_grad_enabled():
        score = functools.partial(checkpoint, score, use_reentrant=False)
    parts = zip(hidden.split(CHUNK), target.split(CHUNK), strict=True)
    return torch.cat([score(h, t) for h, t in parts]).view(len(tokens), -1)


SCORERS = {
    "transformers, full log-softmax": score_full,
    "transformers, TRL's selective log-softmax": score_selective,
    "transformers, logsumexp row by row": score_rows,
    "transformers, chunked": score_chunks,
    "torch by hand, chunked": score_chunks,
}


def scoring(model: Any, job: Job, score: Callable[..., Tensor], gradient: bool) -> Side:
    """A few sequences at a time; gradients add up in the parameters."""
    size, found = job.size, {}
    every = all_texts(job, prompts=size.prompts, n=size.n)
    counted = len(every) * size.horizon

    def run(i: int) -> None:
        del i
        model.zero_grad(set_to_none=True)
        total = 0.0
        for tokens in every.split(size.peer_batch):
            with torch.set_grad_enabled(gradient):
                log_prob = score(model, tokens, size).sum()
                if gradient:
                    log_prob.backward()
            total += float(log_prob.detach())
        wait()
        found["last"] = total

    def check() -> list[float]:
        value = [found["last"] / counted]
        if gradient:
            value.append(_gradient_norm(model) / counted)
        return value

    return Side(run, check)


def _gradient_norm(model: torch.nn.Module) -> float:
    grads = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(grads).norm())
