"""What the engine's benchmark compares with what, and the goals."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.benchmarks import engine_model
from experiments.benchmarks.engine_model import Phase, Size

GENERATE = "transformers generate, "
SCORERS = (
    "transformers, full log-softmax",
    "transformers, TRL's selective log-softmax",
    "transformers, logsumexp row by row",
    "transformers, chunked",
    "torch by hand, chunked",
)

# The steps, and the least ratio to each of their peers.
TRAINING = {
    "SFT": {"torch by hand, SFT": 1.05, "TRL SFTTrainer": 1.5},
    "LoRA SFT": {"PEFT in a torch loop, LoRA SFT": 1.05},
    "pair loss": {"torch by hand, pair loss": 1.05},
}


class Group(NamedTuple):
    """Ways to do one work, counted in tokens; `ours` by the work's name."""

    tokens: int
    ours: Mapping[str, tuple[str, list[Phase]]]  # the side, and the least it can cost
    peers: Mapping[str, float]  # with the least ratio aimed at
    roofline: float | None = None  # the least share of it
    peak: Mapping[str, float] = {}  # the largest ratio of peaks
    extra: int | None = None  # the most bytes above the loaded model


def sampling(size: Size, item: int) -> Group:
    ours = "jsharp, sampling", engine_model.sampling(size, item)
    return Group(
        tokens=size.sampled_prompts * size.n * size.horizon,
        ours={"sampling": ours},
        peers={
            f"{GENERATE}output scores": 3.5,
            f"{GENERATE}a logits processor": 3.5,
            "torch by hand, multinomial": 2.4,
            "torch by hand, inverse cdf": 2.4,
        },
        roofline=0.8,
        peak={
            f"{GENERATE}{way}": 0.6 for way in ("output scores", "a logits processor")
        },
    )


def scoring(size: Size, item: int, *, gradient: bool) -> Group:
    rows, work = size.prompts * size.n, "gradient" if gradient else "scoring"
    passes = engine_model.GRADIENT if gradient else engine_model.FORWARD
    least = lambda prompts, n: engine_model.scoring(
        size, item, prompts=prompts, n=n, passes=passes
    )
    name = lambda way: f"jsharp, {work}, {way}"
    shared, alone = "prefix shared", "independent"
    # Nothing as large as the logits; a gradient is as large as the weights.
    numbers = engine_model.parameters(size) if gradient else 0
    return Group(
        tokens=rows * (size.prompt + size.horizon),
        ours={
            f"{work}, {shared}": (name(shared), least(size.prompts, size.n)),
            f"{work}, {alone}": (name(alone), least(rows, 1)),
        },
        peers={f"{p}{', gradient' if gradient else ''}": 1.3 for p in SCORERS},
        extra=200 * 2**20 + item * numbers if size.vocabulary > 2**16 else None,
    )


def training(size: Size, item: int, work: str) -> Group:
    """One of the steps in `TRAINING`."""
    shape = engine_model.step_shape(size, pair=work == "pair loss")
    least = engine_model.training(size, item, **shape, lora=work == "LoRA SFT")
    peers = TRAINING[work]
    return Group(
        tokens=size.batch * (size.prompt + size.horizon),
        ours={work: (f"jsharp, {work}", least)},
        peers=peers,
        peak={peer: 1.0 for peer in peers if not peer.startswith("TRL")},
    )


def groups(size: Size, work: str, item: int) -> list[Group]:
    """The groups of one work; `item` is the bytes of a number."""
    if work == "sample":
        return [sampling(size, item)]
    if work == "score":
        return [scoring(size, item, gradient=g) for g in (False, True)]
    return [training(size, item, work) for work in TRAINING]
