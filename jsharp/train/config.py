"""The recipe of a training run: one dataclass for each algorithm, and presets."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jsharp.commands.questions import Source, from_files
from jsharp.commands.settings import ModelSettings
from jsharp.reward import REWARDS

RewardName = Annotated[
    str, tyro.conf.arg(help=f"The self-reward: {', '.join(REWARDS)}.")
]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]
Schedule = Literal["linear", "cosine", "constant"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ModelSettings):
    output_dir: Path
    """Where everything goes; the same command goes on there after a kill."""
    task: str | None = None
    """What to sharpen on: game24, arithmetic, prontoqa, sums; gsm8k, math, mmlu of
    files."""
    train_data: Path | None = None
    """The file of the task's training problems (gsm8k, math, mmlu)."""
    eval_data: Path | None = None
    """The file of the task's held-out problems (gsm8k, math, mmlu)."""
    prompts: Path | None = None
    """Instead of a task: JSON lines, each {"prompt": text or messages, "answer"?}."""
    eval_prompts: Path | None = None
    """Held-out prompts of the same form."""
    grader: str | None = None
    """How "answer" marks a response: exact, last_number, choice, math. No reward."""
    limit: int | None = None
    """Only the first LIMIT training prompts."""
    eval_limit: int = 64
    """Held-out prompts to evaluate on; 0: no evaluation."""
    eval_generations: int = 8
    """Samples to each of them, besides the greedy response."""
    eval_steps: int = 0
    """Steps from one evaluation to the next; 0: only as a round begins, and at the end
    (xpo and rloo: at the beginning and at the end)."""
    max_completion_length: int = 40
    """Tokens of a response, at most."""
    sample_batch_size: int = 64
    """Responses decoded, or scored, at once: memory grows with it."""
    chunk_size: int = 64
    """Prompts drawn, then saved, together: what a kill can cost."""
    rounds: int = 1
    """Times to sample and fit again."""
    rebase: bool = False
    """Sample and score each round under the policy that the last round ended with."""
    lora_r: int = 0
    """Rank of the adapters; 0: train all weights."""
    lora_alpha: float | None = None
    """Their scale is LORA_ALPHA / LORA_R; by default twice the rank."""
    lora_targets: tuple[str, ...] | None = None
    """Projections to adapt, as q_proj; by default all of attention and MLP."""
    batch_size: int = 32
    """Examples to an optimiser step."""
    gradient_accumulation_steps: int = 1
    """Parts that a batch is computed in: the same sum, in less memory."""
    remat: bool = False
    """Compute each layer again in the backward pass: a third more work, less memory."""
    num_train_epochs: int = 3
    """Passes over the examples of a round."""
    learning_rate: float = 1e-4
    """AdamW's, at its highest."""
    lr_scheduler_type: Schedule = "linear"
    """How it goes to zero (constant: it does not)."""
    warmup_steps: int = 0
    """Steps in which it grows from zero."""
    weight_decay: float = 0.0
    """Decoupled, of matrices only."""
    max_grad_norm: float = 1.0
    """Longer gradients are cut to this length."""
    seed: int = 0
    """What all draws and all orders depend on."""
    logging_steps: int = 1
    """Steps from one line of metrics.jsonl to the next."""
    save_steps: int = 100
    """Steps from one checkpoint to the next: what a kill can cost."""
    save_total_limit: int | None = 2
    """Checkpoints to keep."""
    draws: Path | None = None
    """Draws of an earlier run of the same model, prompts and N, whatever its seed, to
    use again: its rounds/00000.draws.jsonl."""
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl; wandb writes files only (offline)."""
    resume: bool = True
    """False: refuse an output_dir that holds a run."""
    allow_changes: bool = False
    """Go on although data or settings are not those that the run was begun with: the
    round at hand is drawn anew. What moves its steps is refused in any case."""

    @property
    def training(self) -> Source:
        return Source(
            self.task, "train", self.train_data, self.prompts, self.grader, self.limit
        )

    @property
    def held_out(self) -> Source | None:
        """What to evaluate on; None where nothing is named."""
        problems = self.task if self.eval_data or not from_files(self.task) else None
        if not self.eval_limit or not (problems or self.eval_prompts):
            return None
        return Source(
            self.task,
            "held_out",
            self.eval_data,
            self.eval_prompts,
            self.grader,
            self.eval_limit,
        )

    @property
    def adapter_alpha(self) -> float:
        """alpha of W + (alpha / rank) A B."""
        return 2.0 * self.lora_r if self.lora_alpha is None else self.lora_alpha


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sft(Config):
    """SFT-Sharpening (section 2.1): fit the best of N by maximum likelihood.

    Draws N responses to each training prompt from the base, keeps the one of largest
    self-reward, and maximises its log-likelihood.

    Example: jsharp train sft --task game24 --output-dir run --lora-r 16
    """

    num_generations: Count = 16
    """N, responses to each prompt."""
    reward: RewardName = "log-probability"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaSft(Config):
    """Adaptive SFT-Sharpening (App D): each prompt draws until it has seen enough.

    N_mu(x) = inf{ k : 1/max_{j<=k} pi_base(y_j|x) <= k/mu } with mu = ln(2/delta),
    Eq 10; then as sft. The reward is the log-probability.

    Example: jsharp train ada-sft --task game24 --output-dir run --delta 0.2
    """

    delta: float = 0.1
    """mu = ln(2/delta), Thm D.1."""
    block: int = 8
    """Responses drawn at a time; those behind the stop do not count."""
    max_generations: int = 64
    """A prompt that has not stopped here keeps its likeliest; their count is logged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rlhf(Config):
    """Offline RLHF-Sharpening (Eq 4, Eq 8): regress log-ratio gaps on reward gaps.

    Draws pairs y, y' from the base and minimises the squares of
    beta log pi/pi_base (y) - beta log pi/pi_base (y') - (r(y) - r(y')).

    Example: jsharp train rlhf --task game24 --output-dir run --beta 0.5
    """

    num_generations: Count = 2
    """Responses to each prompt: an even number, taken in pairs."""
    beta: float = 0.5
    """The KL strength: the target is pi_base exp(r/beta)."""
    reward: RewardName = "log-probability"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Xpo(Config):
    """RLHF-Sharpening with exploration: XPO (Alg 1) on the data of all rounds.

    Each round draws y from the policy and y' from the base for its share of the
    prompts, adds them to the data, and fits all data so far; the loss adds
    alpha log pi(y'|x) to the squares of Eq 8.

    Kept is the last iterate. Alg 1 returns that of the largest J_beta: its estimate,
    from one draw a prompt, is logged as sharpen/objective, and is too noisy here to
    choose by. One schedule of the learning rate spans all rounds.

    Example: jsharp train xpo --task game24 --output-dir run --rounds 8
    """

    rounds: int = 8
    """T: the prompts are dealt out over the rounds."""
    beta: float = 0.5
    """The KL strength."""
    alpha: float = 1e-3
    """The weight of exploration."""
    reward: RewardName = "log-probability"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rloo(Config):
    """On-policy RL for the KL-regularised objective (Eq 3): RLOO, or GRPO.

    Every step draws n responses to each of batch_size prompts from the policy itself;
    the return is r - beta log pi/pi_base, its baseline that of the other responses.

    Example: jsharp train rloo --task game24 --output-dir run --beta 0.05
    """

    num_generations: Count = 8
    """n, responses to each prompt of a step."""
    batch_size: int = 16
    """Prompts to an optimiser step, each with its n responses."""
    num_train_epochs: int = 1
    """Passes over the prompts."""
    beta: float = 0.05
    """The KL strength."""
    advantage: Literal["rloo", "grpo"] = "rloo"
    """grpo divides by the group's standard deviation, which biases the gradient."""
    reward: RewardName = "log-probability"


ALGORITHMS: dict[str, type[Config]] = {
    "sft": Sft,
    "ada-sft": AdaSft,
    "rlhf": Rlhf,
    "xpo": Xpo,
    "rloo": Rloo,
}

# Section 5 of the paper (App A.3); weight decay is 0.1 there for one task of four.
PAPER: dict[str, Any] = {
    "max_completion_length": 512,
    "lora_r": 16,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 0.1,
    "weight_decay": 0.1,
    "batch_size": 4,
    "num_train_epochs": 30,
}
PRESETS = ("default", "paper")


def preset(name: str, kind: type[Config]) -> dict[str, Any]:
    """Defaults of an algorithm's options; N = 50 is SFT-Sharpening's alone."""
    if name == "default":
        return {}
    return PAPER | ({"num_generations": 50} if kind is Sft else {})
