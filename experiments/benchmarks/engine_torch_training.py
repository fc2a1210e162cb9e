"""The peers' training steps: a loop by hand, and TRL's trainer."""

# PyTorch is only here where a peer is wanted: no dependency of this project.
# pyright: reportMissingImports=false

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.engine_model import BETA, RATE, Size, step_shape, texts
from experiments.benchmarks.engine_side import ADAPTER, Job, Side
from experiments.benchmarks.engine_torch_scorers import (
    DEVICE,
    all_texts,
    head,
    last_hidden,
    wait,
)


def _cross_entropy(model: Any, tokens: Tensor, size: Size) -> Tensor:
    """-log prob of each response token [R H]."""
    logits = F.linear(last_hidden(model, tokens, size), head(model)).float()
    target = tokens[:, -size.horizon :].flatten()
    loss = F.cross_entropy(logits.flatten(0, 1), target, reduction="none")
    return loss.view(len(tokens), -1)


def adapted(model: Any, job: Job) -> Any:
    """transformers' model with PEFT's adapters in it, which alone learn."""
    from peft import PeftModel

    path = Path(job.directory) / ADAPTER
    PeftModel.from_pretrained(model, path, is_trainable=True)
    return model


def training(model: Any, job: Job, *, pair: bool) -> Side:
    """The loop by hand: one cross entropy, and AdamW in one kernel of what learns."""
    size = job.size
    tokens = all_texts(job, **step_shape(size, pair=pair))
    on_device = lambda a: torch.from_numpy(a).to(DEVICE)
    base = on_device(job.base_log_prob)
    rng = np.random.default_rng(job.seed + 1)
    reward = on_device(rng.uniform(size=base.shape).astype(np.float32))
    learned = [p for p in model.train().parameters() if p.requires_grad]
    tx = torch.optim.AdamW(learned, lr=RATE, weight_decay=0.0, fused=True)
    losses: list[float] = []

    def run(i: int) -> None:
        del i
        tx.zero_grad(set_to_none=True)
        nll = _cross_entropy(model, tokens, size)
        if pair:
            log_prob = -nll.sum(-1).view(base.shape)
            gap = BETA * (log_prob - base) - reward
            loss = ((gap[:, 0] - gap[:, 1]) ** 2).mean()
        else:
            loss = nll.mean()
        loss.backward()
        tx.step()
        losses.append(float(loss.detach()))
        wait()

    return Side(run, lambda: losses[:2])


TRL_STEPS = 3  # of which the first is not timed


def trl_sft(model: Any, job: Job) -> Side:
    """TRL's SFTTrainer on the same batch; a run is the mean of its later steps."""
    from transformers import TrainerCallback
    from trl.trainer.sft_trainer import SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            del args, state, control, kwargs
            wait()
            ends.append(time.perf_counter())

    found: dict[str, Any] = {"losses": []}

    class Trainer(SFTTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            out = super().compute_loss(model, inputs, *args, **kwargs)
            found["losses"].append(out[0] if isinstance(out, tuple) else out.detach())
            return out

    trainer = Trainer(
        model.train(),
        args=_options(job),
        train_dataset=_data(job),
        processing_class=_tokenizer(),
        callbacks=[Clock()],
    )

    def run(i: int) -> float:
        del i
        ends.clear()
        trainer.train()
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    return Side(run, lambda: [float(x) for x in found["losses"][:2]])


def _data(job: Job) -> Any:
    from datasets import Dataset

    size = job.size
    tokens = texts(size, job.seed, **step_shape(size, pair=False))
    labels = tokens.copy()
    labels[:, : size.prompt] = -100  # the prompt is not learned
    columns = {"input_ids": tokens.tolist(), "labels": labels.tolist()}
    return Dataset.from_dict(columns)


def _options(job: Job) -> Any:
    from trl.trainer.sft_config import SFTConfig

    size = job.size
    return SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=size.batch,
        max_steps=TRL_STEPS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0,
        optim="adamw_torch_fused",
        max_length=size.prompt + size.horizon,
        gradient_checkpointing=False,
        bf16=job.dtype == "bfloat16",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=DEVICE.type == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        seed=job.seed,
    )


def _tokenizer() -> Any:
    """TRL asks for one to pad with; every sequence here has the same length."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>"
    )
