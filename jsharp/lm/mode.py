"""The most likely complete response, by best-first branch and bound.

    y*(x) = argmax_y pi(y|x),    pi(prefix|x) >= pi(y|x) of each y that begins with it

The log-probability of an open prefix bounds every response below it. The likeliest open
prefixes are expanded, a batch at a time on the device, until none is as likely as the
best response known (then that one is the mode) or the budget ends (then the likeliest
open prefix says how far the mode may lie above it).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jsharp.lm import beam, scorer, transformer
from jsharp.lm.attention import Prefix
from jsharp.lm.config import TransformerConfig
from jsharp.lm.frontier import Frontier, Space, Tokens
from jsharp.lm.shapes import bucket
from jsharp.policy import Params, Prompts, Response


class Mode(NamedTuple):
    """The most likely response found, and a certificate.

    No response has a log-probability above log_prob + gap + rounding. If `exact`, the
    gap is 0 and every response that may be a maximiser is in `ties`: those whose
    log-probabilities cannot be told from the largest. Of them, `tokens` is the
    lexicographically least.

    `rounding` is the width of a tie (at least `tie`, the grain of the weights' dtype at
    log_prob, and twice the drift of the first beams) and twice the largest drift seen:
    the difference between a response's log-probability token by token, which the search
    compares, and in one pass, which `log_prob` and `ties` report (`scorer.log_prob`).
    """

    tokens: Int[np.ndarray, " H"]
    length: int
    log_prob: float
    exact: bool
    gap: float  # nats
    rounding: float  # nats
    expansions: int
    ties: Response  # all found within `rounding` of the best, `tokens` first; B = 1

    @property
    def upper(self) -> float:
        """A bound on the log-probability of every response, up to `rounding`."""
        return min(0.0, self.log_prob + self.gap)

    @property
    def mass(self) -> tuple[float, float]:
        """Bounds on pi(Y*(x)|x), up to `rounding`; C_cov (Eq 6) is the mean of 1/mass.

        Where exact, from the one most likely response to all that are tied, and so
        equal where none is. Where not, bounds on max_y pi(y|x), which is pi(Y*(x)|x)
        if the maximiser is unique.
        """
        low = float(np.exp(self.log_prob))
        if not self.exact:
            return low, float(np.exp(self.upper))
        tied = np.exp(np.asarray(self.ties.sampler_log_prob, np.float64)).sum()
        return low, max(low, min(1.0, float(tied)))


def mode(
    params: Params,
    prompt: Sequence[int],
    budget: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    start: Response | None = None,
    width: int = 8,
    batch: int = 32,
    children: int = 32,
    tolerance: float = 0.0,
    tie: float = 1e-5,
) -> Mode:
    """y* = argmax of log pi(y|x) over the responses of `transformer_policy`.

    `budget` counts expansions: a prefix fed to the model for its next-token
    probabilities, `batch` of them in one call. The search begins with the best of
    `width` beams and of `start` (responses known, B = 1), and stops early when the
    gap is at most `tolerance` nats. `tie` is the least difference in nats that is
    told apart. Memory: keys and values of at most max(1024, 2 budget) tokens.

    Raises ValueError on an empty prompt, an id outside the vocabulary, a size below
    its least, or a start that is no response of at most `horizon` tokens.
    """
    strides = dict(horizon=horizon, width=width, batch=batch, children=children)
    _check(prompt, config.vocab_size, strides, (*end, pad))
    prompts = _prompts(prompt)
    space = Space(config, horizon, end, batch, children, tie)
    sizes = dict(config=config, horizon=horizon, end=end, pad=pad)
    beams = _beam(params, prompts, width, **sizes)
    rows = _rows(beams)
    scores = _score(params, prompts, rows, space)
    seen = np.asarray(beams.sampler_log_prob, np.float64)[0, : len(rows)]
    drift = float(np.abs(seen - scores).max())
    known = dict(zip(rows, scores.tolist(), strict=True))
    if start is not None:
        rows = _members(start, horizon, end)
        scores = _score(params, prompts, rows, space)
        known.update(zip(rows, scores.tolist(), strict=True))
    grain = float(jnp.finfo(config.dtype).eps) * abs(max(known.values()))
    space = space._replace(tie=max(tie, grain, 2 * drift))
    prefix = _prefill(params, *prompts, config=config)
    search = Frontier(params, prefix, prompt[-1], space, known)
    expansions = 0
    while expansions < budget and not search.exact:
        if search.top - search.best <= tolerance and tolerance > 0:
            break
        expansions += search.advance(min(batch, budget - expansions))
    return _certify(search, prompts, expansions, drift, pad)


def _certify(
    search: Frontier, prompts: Prompts, expansions: int, drift: float, pad: int
) -> Mode:
    space, least = search.space, search.best - search.space.tie
    ties = sorted(row for row, log_prob in search.found.items() if log_prob >= least)
    scores = _score(search.params, prompts, ties, space)
    seen = np.asarray([search.found[row] for row in ties])
    drift = max(drift, float(np.abs(scores - seen).max()))
    response = _response(ties, scores, space.horizon, pad)
    return Mode(
        tokens=np.asarray(response.tokens[0, 0]),
        length=len(ties[0]),
        log_prob=float(scores[0]),
        exact=search.exact,
        gap=0.0 if search.exact else max(0.0, search.top - search.best),
        rounding=space.tie + 2 * drift,
        expansions=expansions,
        ties=response,
    )


def maximisers(modes: Sequence[Mode]) -> tuple[Response, Bool[np.ndarray, "B n"]]:
    """Y*(x) of several prompts as one batch of responses, and which rows are members.

    Any policy scores the batch, so pihat(Y*(x)|x) is the sum of exp over the members.
    All that are tied count as maximisers.
    """
    n = max(mode.ties.length.shape[1] for mode in modes)
    fill = lambda x: np.pad(x[0], ((0, n - x.shape[1]), *((0, 0),) * (x.ndim - 2)))
    stack = lambda *leaves: jnp.asarray(np.stack([fill(np.asarray(x)) for x in leaves]))
    response = jax.tree.map(stack, *(mode.ties for mode in modes))
    return response, np.asarray(response.length) > 0


def sharpened_fraction(
    log_prob: Float[Array | np.ndarray, "B n"],
    member: Bool[np.ndarray, "B n"],
    exact: Sequence[bool],
    *,
    delta: float,
) -> tuple[float, float]:
    """Bounds on P_x[ pihat(Y*(x)|x) >= 1 - delta ] (Def 3.1), over the B prompts.

    `log_prob` is pihat's of the `maximisers` of the base policy. A prompt whose mode
    is not exact counts for the upper bound only. pihat is (eps, delta)-sharpened on
    these prompts when the fraction is at least 1 - eps.
    """
    log_prob = np.asarray(log_prob, np.float64)
    mass = np.where(member, np.exp(log_prob), 0.0).sum(-1)
    known = np.asarray(exact, bool)
    sharp = known & (mass >= 1 - delta)
    return float(sharp.mean()), float((sharp | ~known).mean())


@functools.partial(jax.jit, static_argnames="config")
def _prefill(
    params: Params, tokens: Array, length: Array, *, config: TransformerConfig
) -> Prefix:
    return transformer.prefill(transformer.merge(config, params), tokens, length)


_beam = jax.jit(
    beam.beam,
    static_argnums=2,
    static_argnames=("config", "horizon", "end", "pad", "length_penalty"),
)
_log_prob = jax.jit(scorer.log_prob, static_argnames="config")


def _score(
    params: Params, prompts: Prompts, rows: list[Tokens], space: Space
) -> Float[np.ndarray, " m"]:
    """`scorer.log_prob` of each row, `batch` of them at a time."""
    scores = []
    for first in range(0, len(rows), space.batch):
        some = rows[first : first + space.batch]
        spare = [()] * (space.batch - len(some))
        response = _response(some + spare, np.zeros(space.batch), space.horizon, 0)
        found = _log_prob(params, prompts, response, config=space.config)
        scores.append(np.asarray(found, np.float64)[0, : len(some)])
    return np.concatenate(scores)


def _response(
    rows: Sequence[Tokens], log_prob: Float[np.ndarray, " m"], horizon: int, pad: int
) -> Response:
    """The rows as responses to one prompt."""
    tokens = np.full((1, len(rows), horizon), pad, np.int32)
    for i, row in enumerate(rows):
        tokens[0, i, : len(row)] = row
    length = np.asarray([[len(row) for row in rows]], np.int32)
    seen = jnp.asarray(log_prob[None], jnp.float32)
    return Response(jnp.asarray(tokens), jnp.asarray(length), seen)


def _rows(response: Response) -> list[Tokens]:
    """The responses of the only prompt, without padding; those of length 0 dropped."""
    tokens, length = np.asarray(response.tokens[0]), np.asarray(response.length[0])
    cut = [row[:size] for row, size in zip(tokens, length, strict=True)]
    return [tuple(int(token) for token in row) for row in cut if len(row)]


def _members(start: Response, horizon: int, end: tuple[int, ...]) -> list[Tokens]:
    """The rows of `start`; ValueError where one is not a complete response."""
    rows = _rows(start)
    for row in rows:
        over = row[-1] in end or len(row) == horizon
        if not over or len(row) > horizon or set(row[:-1]) & set(end):
            raise ValueError(
                f"start: expected responses of at most {horizon} tokens that stop at "
                f"the first of {end}, got {row}"
            )
    return rows


def _prompts(prompt: Sequence[int]) -> Prompts:
    """The prompt in a padded batch of one, so that few lengths are compiled."""
    tokens = np.zeros((1, bucket(len(prompt), 16)), np.int32)
    tokens[0, : len(prompt)] = prompt
    return Prompts(jnp.asarray(tokens), jnp.asarray([len(prompt)], jnp.int32))


def _check(
    prompt: Sequence[int], vocabulary: int, sizes: dict[str, int], ids: Sequence[int]
) -> None:
    if not len(prompt):
        raise ValueError("prompt: expected at least one token, got none")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    for token in (*prompt, *ids):
        if not 0 <= token < vocabulary:
            raise ValueError(f"token {token} is outside the vocabulary of {vocabulary}")
