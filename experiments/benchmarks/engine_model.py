"""The work of the engine's benchmark: its sizes, and the least it can cost.

A limit is the time that the matrix products and the memory traffic of a piece of work
take at the speeds measured beside it, phase by phase, whichever of the two is slower.
Norms, rotations, softmaxes and draws are not counted: they are what an engine adds.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jsharp.lm.config import TransformerConfig

# Of a training step; the rate moves the loss enough to compare the second step's.
BETA, RATE = 0.1, 1e-5
RANK, ALPHA = 16, 32.0  # of LoRA, on every projection of the layers


@dataclass(frozen=True)
class Size:
    """A decoder, and how much of each work it is given."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    prompts: int = 16  # scored, with n responses each
    sampled_prompts: int = 16
    n: int = 16
    prompt: int = 64  # tokens
    horizon: int = 128
    batch: int = 16  # sequences of a training step
    peer_batch: int = 16  # sequences that a peer scores at a time
    matmul: int = 1536  # side of the product that measures the limit
    copied: int = 2**25  # numbers copied to measure the limit


SIZES = {
    "tiny": Size(
        **{"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 24},
        **{"vocabulary": 40, "prompts": 2, "sampled_prompts": 2, "n": 3, "prompt": 4},
        **{"horizon": 5, "batch": 4, "peer_batch": 2, "matmul": 64, "copied": 2**10},
    ),
    "small": Size(256, 8, 8, 4, 688, 4096),
    "medium": Size(512, 8, 8, 4, 1376, 8192),
    # 2 prompts: transformers keeps all [32 x 128 x 128k] output scores, 2 GiB.
    "bigvocab": Size(256, 2, 8, 4, 688, 131072, prompts=4, sampled_prompts=2),
}


def transformer_config(size: Size, dtype: str) -> TransformerConfig:
    """Weights large enough that the next token's law is far from uniform."""
    return TransformerConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        initializer_range=0.1,
        dtype=dtype,
    )


class Phase(NamedTuple):
    """A part of the work that cannot start before the one in front of it has ended."""

    flops: float
    bytes: float


def seconds(phases: list[Phase], flops: float, bandwidth: float) -> float:
    """The least time for all phases at `flops` and `bandwidth` (bytes) a second."""
    return sum(max(p.flops / flops, p.bytes / bandwidth) for p in phases)


def layer_weights(size: Size) -> int:
    """Multiply-adds of all layers' projections for one token: numbers in kernels."""
    head = size.hidden // size.heads
    attention = size.hidden * (size.heads + 2 * size.kv_heads) * head
    attention += size.heads * head * size.hidden
    return size.layers * (attention + 3 * size.hidden * size.mlp)


def head_weights(size: Size) -> int:
    return size.hidden * size.vocabulary


def parameters(size: Size) -> int:
    """Numbers in all matrices: the embedding is as large as the head."""
    return layer_weights(size) + 2 * head_weights(size)


def adapter_weights(size: Size) -> int:
    """Numbers in the adapters of all projections: RANK (in + out) for each."""
    kv = size.hidden // size.heads * size.kv_heads
    attention = 2 * 2 * size.hidden + 2 * (size.hidden + kv)
    return RANK * size.layers * (attention + 3 * (size.hidden + size.mlp))


def pair_weights(size: Size) -> int:
    """Multiply-adds for one token that attends to one key: the score and the value."""
    return size.layers * 2 * size.hidden


def _flops(size: Size, *, fed: float, scored: float, pairs: float) -> float:
    """Two for each multiply-add: tokens through layers, through the head, pairs."""
    madds = fed * layer_weights(size) + scored * head_weights(size)
    return 2.0 * (madds + pairs * pair_weights(size))


class Passes(NamedTuple):
    """How often the work of a forward pass is done, with what comes after it.

    A gradient needs a product for the input and one for the other factor: of kernels,
    which LoRA leaves as they are, and of keys and values.
    """

    kernels: int
    pairs: int


FORWARD, GRADIENT, LORA = Passes(1, 1), Passes(3, 3), Passes(2, 3)


def _prefill(size: Size, prompts: int, item: int, passes: Passes = FORWARD) -> Phase:
    """All but the last token of each prompt, once, without the head."""
    fed = size.prompt - 1
    pairs = passes.pairs * prompts * fed * (fed + 1) / 2
    flops = _flops(size, fed=passes.kernels * prompts * fed, scored=0, pairs=pairs)
    return Phase(flops, passes.kernels * item * layer_weights(size))


def sampling(size: Size, item: int) -> list[Phase]:
    """A prefill, then H steps of all rows; each step reads the weights and all keys.

    A prompt's keys and values are read once a step for all of its n responses; `item`
    is the bytes of a number.
    """
    prompts, fed = size.sampled_prompts, size.prompt - 1
    rows = prompts * size.n
    head = size.hidden // size.heads
    kv = size.layers * 2 * size.kv_heads * head
    weights = layer_weights(size) + head_weights(size)
    phases = [_prefill(size, prompts, item)]
    for step in range(size.horizon):
        pairs = rows * (fed + step + 1)
        flops = _flops(size, fed=rows, scored=rows, pairs=pairs)
        seen = prompts * fed + rows * (step + 1)
        phases.append(Phase(flops, item * (weights + kv * seen)))
    return phases


def scoring(
    size: Size, item: int, *, prompts: int, n: int, passes: Passes = FORWARD
) -> list[Phase]:
    """Each prompt once, then n H tokens with the head."""
    fed, horizon = size.prompt - 1, size.horizon
    tokens = passes.kernels * prompts * n * horizon
    pairs = prompts * n * (horizon * fed + horizon * (horizon + 1) / 2)
    after = Phase(
        _flops(size, fed=tokens, scored=tokens, pairs=passes.pairs * pairs),
        passes.kernels * item * (layer_weights(size) + head_weights(size)),
    )
    return [_prefill(size, prompts, item, passes), after]


def training(
    size: Size, item: int, *, prompts: int, n: int, lora: bool = False
) -> list[Phase]:
    """Scoring with its gradient, then AdamW: reads p, g, m, v and writes p, m, v.

    With LoRA only the adapters learn, whose own products are done three times.
    """
    passes, learned = (LORA if lora else GRADIENT), parameters(size)
    phases = scoring(size, item, prompts=prompts, n=n, passes=passes)
    if lora:
        learned = adapter_weights(size)
        tokens = prompts * (size.prompt - 1 + n * size.horizon)
        phases.append(Phase(3 * 2.0 * tokens * learned, 3.0 * item * learned))
    return [*phases, Phase(0.0, 7.0 * item * learned)]


def step_shape(size: Size, *, pair: bool) -> dict[str, int]:
    """Prompts and responses each of a training step; a pair shares its prompt."""
    n = 2 if pair else 1
    return {"prompts": size.batch // n, "n": n}


def texts(size: Size, seed: int, *, prompts: int, n: int) -> np.ndarray:
    """Random tokens [prompts n, P + H], each prompt followed by its n responses.

    Never the last of the vocabulary, which stands for padding: transformers gives its
    embedding no gradient.
    """
    rng = np.random.default_rng(seed)
    shape = prompts, 1, size.prompt
    prompt = rng.integers(size.vocabulary - 1, size=shape).repeat(n, axis=1)
    response = rng.integers(size.vocabulary - 1, size=(prompts, n, size.horizon))
    both = np.concatenate([prompt, response], axis=-1)
    return both.reshape(prompts * n, -1).astype(np.int32)
