"""A transformer as a policy: tokens in, responses and their log-probabilities out."""

import functools
from collections.abc import Callable

from jsharp.lm import sampler, scorer, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.policy import Policy, Response


def transformer_policy(
    config: TransformerConfig,
    *,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    remat: bool = False,
) -> Policy:
    """The decoder's responses of at most `horizon` tokens, ended by any id in `end`.

    With `remat` gradients trade work for memory (see `scorer.log_prob`). Raises
    ValueError where an id is outside the vocabulary, or the horizon beyond the model's
    positions.
    """
    _check(config, horizon, end, pad)
    return Policy(
        init=functools.partial(transformer.init, config=config),
        sample=functools.partial(
            sampler.sample, config=config, horizon=horizon, end=end, pad=pad
        ),
        log_prob=functools.partial(scorer.log_prob, config=config, remat=remat),
    )


def greedy_decoder(
    config: TransformerConfig, *, horizon: int, end: tuple[int, ...], pad: int
) -> Callable[..., Response]:
    """greedy(params, prompts) -> Response with n = 1: the likeliest token at each step.

    Raises ValueError where an id is outside the vocabulary, or the horizon beyond the
    model's positions.
    """
    _check(config, horizon, end, pad)
    return functools.partial(
        sampler.greedy, config=config, horizon=horizon, end=end, pad=pad
    )


def _check(
    config: TransformerConfig, horizon: int, end: tuple[int, ...], pad: int
) -> None:
    if not 1 <= horizon <= config.context_length:
        raise ValueError(
            f"horizon: expected 1 to the model's {config.context_length} positions, "
            f"got {horizon}"
        )
    for name, token in (("pad", pad), *(("end", token) for token in end)):
        if not 0 <= token < config.vocab_size:
            raise ValueError(
                f"{name} token {token} is outside the vocabulary of {config.vocab_size}"
            )
