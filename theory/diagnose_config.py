"""The options of `jsharp diagnose`, and of its --check."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jsharp.commands.questions import Part
from jsharp.commands.settings import Kind, ModelSettings, require

_INSIDE = ("eps", "delta", "rho", "level")
_COUNTS = ("max_completion_length", "limit", "dimension", "batch_size", "chunk_size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ModelSettings):
    """What sharpening would give a model on these prompts, and at what price.

    MODEL is a checkpoint directory, or `embedded`. PROMPTS is a task (game24,
    arithmetic, prontoqa, sums; gsm8k, math, mmlu with --data), or a file of JSON
    lines, each {"prompt": text or messages, "answer"?}, marked by --grader. Diagnose
    the prompts that you would train on.

    A pilot of NUM_GENERATIONS draws and a greedy response per prompt goes to
    OUTPUT_DIR/pilot.jsonl, the exact modes y*(x) = argmax pi(y|x) as far as the search
    proves them to OUTPUT_DIR/modes.jsonl (the format of `jsharp mode`). Then printed,
    and written to OUTPUT_DIR/diagnosis.json:

    coverage: C_cov = mean of 1/pi(y*|x) (Eq 6) and its profile, the share of prompts
    where 1/pi(y*|x) >= M (profile.csv, profile.png). Sharpening by SFT can only teach
    what the draws contain: a hard prompt needs about 1/pi(y*|x) of them. Where y* is
    not certain: the likeliest draw bounds 1/pi(y*|x) from above, always; and a response
    of mass p is missed by N draws with probability (1-p)^N, which bounds it from below
    with confidence 1 - LEVEL/2 (of max pi: pi(Y*|x) may be larger where y* is tied).
    Over the law of prompts (LEVEL/2 more) nothing bounds the mean of 1/pi from above,
    as one rare hard prompt may decide it; E min(1/pi, M) is bounded.

    margin: log pi(y1|x) - log pi(y2|x) of the two likeliest responses.

    signals: whether log-probability prefers short responses, and how often each
    self-reward puts a right response above a wrong one (AUC; 0.5 is a coin).

    lift: accuracy of the best of k by log-probability, k = 1, 2, 4, ..., N, and of y*,
    which is where sharpening ends.

    price: for (EPS, DELTA), all but EPS of the prompts answer y* with probability 1 -
    DELTA: the least N, an n that is only sufficient, and the cheapest algorithm by its
    theorem. All guarantees assume that the target is in Pi; the costs of regression and
    XPO are optimistic (C_conc = C_cov, least R_max).

    Every bound says what it assumes. Intervals [low, high] are percentile bootstraps
    over prompts: approximate, too narrow for few prompts, of width zero where all of
    them agree. From fewer than 20 prompts the verdict claims nothing by them.

    It all is computed in float32. Killed at any instant, the same command goes on.
    Later, with the responses of `jsharp evaluate` of the sharpened model,
    jsharp diagnose --check DIAGNOSIS.json EVAL_DIR compares prediction and measurement.

    Example: jsharp diagnose embedded game24 --output-dir diagnosis -n 32 --limit 64
    """

    # Required here: a MODEL that may be left out would make PROMPTS ambiguous.
    model_name_or_path: Annotated[  # pyright: ignore[reportGeneralTypeIssues]
        str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")
    ] = dataclasses.field()
    """A checkpoint directory; `embedded` is the small model that ships with jsharp."""
    prompts: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPTS")]
    """A task, or a file of prompts (.jsonl or .jsonl.gz)."""
    dtype: Kind = "float32"
    """float32 alone: in bfloat16 log-probabilities are off by nats, and bounds void."""
    output_dir: Path
    """Where everything goes."""
    grader: str | None = None
    """How "answer" in a file marks a response: exact, last_number, choice, math."""
    part: Part = "train"
    """Which problems of a task: those that one would train on, or the held out."""
    data: Path | None = None
    """The file of the task's problems (gsm8k, math, mmlu)."""
    limit: int = 256
    """Only the first LIMIT prompts."""
    num_generations: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 32
    """Draws per prompt (N), at temperature 1; at least 2."""
    max_completion_length: int = 64
    """Tokens of a response, at most."""
    mode_budget: int = 1024
    """Prefixes to expand in search of a prompt's mode, at most; 0: no search."""
    eps: float = 0.1
    """Fraction of prompts that may fail, in (0, 1)."""
    delta: float = 0.1
    """Mass that may stay off y*, in (0, 1)."""
    rho: float = 0.05
    """Failure probability of the fit, in (0, 1)."""
    gamma: float = 0.5
    """Slack of C_cov,g: near-maximisers have at least 1-g of the largest mass."""
    log_class: float = 20.0
    """log|Pi| in n of Thm 4.1: for a transformer, a guess; n is in proportion to it."""
    dimension: int = 10
    """d of the bound on XPO's extrapolation coefficient, of a linear class."""
    level: float = 0.05
    """Each bound misses with at most this probability, each bootstrap about with it."""
    seed: int = 0
    """What all draws, and the resampling, depend on."""
    batch_size: int = 64
    """Responses decoded, or scored, at once: memory grows with it."""
    chunk_size: int = 16
    """Prompts computed, then saved, together: what a kill can cost."""
    overwrite: bool = False
    """Start anew, whatever OUTPUT_DIR holds; without it a run goes on."""

    def check(self) -> None:
        """ValueError for the first option out of its domain."""
        exact = self.dtype == "float32"
        require("dtype", exact, "float32, whose rounding bounds allow", self.dtype)
        for name in _INSIDE:
            found = getattr(self, name)
            require(name, 1e-12 <= found < 1, "in [1e-12, 1)", found)
        for name in _COUNTS:
            found = getattr(self, name)
            require(name, found >= 1, "at least 1", found)
        at_least_two = self.num_generations >= 2
        require("num_generations", at_least_two, "at least 2", self.num_generations)
        require("mode_budget", self.mode_budget >= 0, "at least 0", self.mode_budget)
        require("seed", 0 <= self.seed < 2**31, "0 to 2^31 - 1", self.seed)
        require("gamma", 0 <= self.gamma < 1, "in [0, 1)", self.gamma)
        found = self.log_class
        require("log_class", 0 <= found <= 600, "from 0 to 600", found)
        found = self.output_dir
        require("output_dir", not found.is_file(), "a directory, not a file", found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Compare what a diagnosis predicted with what the sharpened model did.

    EVAL_DIR/responses.jsonl holds its responses, drawn at temperature 1 and scored
    under the base that was diagnosed (jsharp evaluate --base-model-name-or-path, with
    --dtype float32): another base is refused. "hits", how often a draw is y*, is over
    the prompts where y* is certain and not tied; of other prompts than those that were
    diagnosed there is none, and the rest is shown for what it is worth. Each predicted
    figure of best of N is "within" its interval, "near" where only the intervals
    overlap, else "below" or "above". Perfect training on best-of-N data gives what is
    predicted.

    Example: jsharp diagnose --check diagnosis/diagnosis.json after -n 32
    """

    diagnosis: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIAGNOSIS.json")
    ]
    """Written by jsharp diagnose."""
    eval_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="EVAL_DIR")]
    """Where jsharp evaluate put the responses of the sharpened model."""
    num_generations: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """N of the best-of-N that it was trained on; by default the pilot's."""
