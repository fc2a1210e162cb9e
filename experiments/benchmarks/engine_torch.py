"""The peers of the engine's benchmark: transformers, torch by hand, TRL."""

# PyTorch is only here where a peer is wanted: no dependency of this project.
# pyright: reportMissingImports=false

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from experiments.benchmarks import engine_torch_decoder as by_hand
from experiments.benchmarks.engine_model import Size
from experiments.benchmarks.engine_side import Job, Memory, Side, host_memory
from experiments.benchmarks.engine_torch_scorers import (
    DEVICE,
    SCORERS,
    all_texts,
    chosen,
    load,
    score_rows,
    scoring,
    wait,
)
from experiments.benchmarks.engine_torch_training import adapted, training, trl_sft


class Chosen(LogitsProcessor):
    """Keeps the log-prob of each drawn token, and only one step's scores."""

    def __init__(self) -> None:
        self.scores: Tensor | None = None
        self.log_prob: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.scores is not None:
            self.add(input_ids[:, -1:])
        self.scores = scores
        return scores

    def add(self, token: Tensor) -> None:
        assert self.scores is not None
        self.log_prob.append(chosen(self.scores, token[:, 0]))


def generate(model: Any, prompts: Tensor, size: Size, *, processor: bool) -> Any:
    """transformers' generate at temperature 1 with the log-prob of each token."""
    kept = Chosen()
    out = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        top_k=0,
        num_return_sequences=size.n,
        max_new_tokens=size.horizon,
        eos_token_id=None,
        pad_token_id=0,
        output_scores=not processor,
        return_dict_in_generate=True,
        logits_processor=LogitsProcessorList([kept] if processor else []),
    )
    tokens = out.sequences[:, size.prompt :]
    if processor:
        kept.add(tokens[:, -1:])
        return tokens, torch.stack(kept.log_prob, 1)
    return tokens, model.compute_transition_scores(
        out.sequences, out.scores, normalize_logits=True
    )


def sampling(model: Any, job: Job, draw: Callable[..., Any]) -> Side:
    """draw(prompts) -> tokens and log-probs [R H]."""
    size, found = job.size, {}
    prompts = all_texts(job, prompts=size.sampled_prompts, n=1)[:, : size.prompt]

    @torch.inference_mode()
    def run(i: int) -> None:
        torch.manual_seed(job.seed + i)
        found["last"] = draw(prompts)
        wait()

    @torch.inference_mode()
    def check() -> list[float]:
        """As jsharp's: the largest distance of a row's log-prob, a token."""
        tokens, seen = (a[: size.n] for a in found["last"])
        whole = torch.cat([prompts[:1].expand(len(tokens), -1), tokens], 1)
        again = score_rows(model, whole, size)
        gap = (again - seen).double().sum(-1).abs().max()
        return [float(gap) / size.horizon]

    return Side(run, check)


def matmul(job: Job) -> Side:
    side = job.size.matmul
    a = torch.ones(side, side, dtype=getattr(torch, job.dtype), device=DEVICE)

    def run(i: int) -> None:
        del i
        torch.matmul(a, a)
        wait()

    return Side(run)


def _sides(job: Job) -> Iterator[tuple[str, Callable[[], Side]]]:
    """Every side by name, built when called."""
    yield "limit: torch matmul", lambda: matmul(job)
    model = functools.cache(lambda: load(job))
    decoder = functools.cache(lambda: by_hand.Decoder(load(job)).requires_grad_(False))
    size = job.size
    for name, processor in (("output scores", False), ("a logits processor", True)):
        yield (
            f"transformers generate, {name}",
            lambda p=processor: sampling(
                model(), job, lambda x: generate(model(), x, size, processor=p)
            ),
        )
    for name in ("multinomial", "inverse_cdf"):
        draw = getattr(by_hand, name)
        yield (
            f"torch by hand, {name.replace('_', ' ')}",
            lambda draw=draw: sampling(
                decoder(),
                job,
                lambda x: by_hand.sample(decoder(), x, size.n, size.horizon, draw),
            ),
        )
    for gradient in (False, True):
        for name, score in SCORERS.items():
            which = decoder if name.startswith("torch") else model
            yield (
                f"{name}{', gradient' if gradient else ''}",
                lambda which=which, score=score, g=gradient: scoring(
                    which().requires_grad_(g), job, score, g
                ),
            )
    for work in ("SFT", "pair loss"):
        yield (
            f"torch by hand, {work}",
            lambda pair=work == "pair loss": training(
                decoder().requires_grad_(True), job, pair=pair
            ),
        )
    yield (
        "PEFT in a torch loop, LoRA SFT",
        lambda: training(adapted(model(), job), job, pair=False),
    )
    yield "TRL SFTTrainer", lambda: trl_sft(model(), job)


def build(job: Job) -> dict[str, Side]:
    """The sides that the job names."""
    torch.set_num_threads(job.cores)
    if DEVICE.type == "cuda":
        torch.set_float32_matmul_precision("high")  # as jax's default on a GPU
    known = dict(_sides(job))
    return {name: known[name]() for name in job.sides}


def memory() -> Memory:
    """Of the device or, on a CPU, of this process."""
    if DEVICE.type == "cpu":
        return host_memory()
    return Memory(torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())
