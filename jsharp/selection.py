"""Which candidates to keep: best of N, adaptive stopping (Eq 10), exact best-of-k."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Array, Bool, Float, Int


def best_of_n(score: Float[Array, "B n"]) -> Int[Array, "B 1"]:
    """Position of the candidate of largest score; among equals, the first drawn.

    Draws are exchangeable, so the first of several tied maximisers is distributed in
    proportion to pi_base over the tied set: exactly the tie rule of the exact law.
    """
    return jnp.argmax(score, axis=1)[:, None]


class Stopping(NamedTuple):
    """Where adaptive sampling stops in a row of draws (Eq 10)."""

    best: Int[Array, "B 1"]  # position of the likeliest draw up to the stop
    time: Int[Array, " B"]  # N_mu - seen: draws of this row used
    stopped: Bool[Array, " B"]  # False where the row ended first


def adaptive_stop(
    log_prob: Float[Array, "B n"],
    *,
    log_mu: float,
    seen: int | Int[Array, ""] = 0,
    best: Float[Array, " B"] | None = None,
) -> Stopping:
    """N_mu(x) = inf{ k : 1/max_{j<=k} pi_base(y_j|x) <= k/mu }, Eq 10.

    Compared in logs, -max_{j<=k} log pi_base(y_j|x) <= log k - log mu, as sequence
    probabilities underflow (in float32, so a draw at exact equality may stop one late;
    mu = ln(2/delta), the theory's, never meets it). A row may continue one that has
    `seen` draws already, the likeliest of log-probability `best`.
    """
    draws = jnp.arange(1, log_prob.shape[1] + 1)
    likeliest = jax.lax.cummax(log_prob, axis=1)
    if best is not None:
        likeliest = jnp.maximum(likeliest, best[:, None])
    log_k = jnp.log((draws + seen).astype(log_prob.dtype))
    reached = -likeliest <= (log_k - log_mu)[None]
    stopped = reached.any(1)
    time = jnp.where(stopped, jnp.argmax(reached, 1) + 1, log_prob.shape[1])
    used = jnp.where(draws[None] <= time[:, None], log_prob, -jnp.inf)
    return Stopping(best_of_n(used), time.astype(jnp.int32), stopped)


def best_of_k(score: np.ndarray, value: np.ndarray, k: int) -> np.ndarray:
    """Expected value of the best of k drawn without replacement from n candidates.

    E = sum_i value_(i) C(i-1, k-1) / C(n, k) over candidates sorted by score; tied
    candidates share their weight equally. An unbiased estimate, for every k <= n, of
    what a fresh best-of-k would give. score, value [B n] -> [B]; float64.

    Raises ValueError unless 1 <= k <= n and every score is a number.
    """
    score, value = np.asarray(score, float), np.asarray(value, float)
    n = score.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"expected 1 <= k <= n={n}, found k={k}")
    if np.isnan(score).any():
        raise ValueError(
            f"expected scores, found NaN at {np.argwhere(np.isnan(score))}"
        )
    below = (score[:, None, :] < score[:, :, None]).sum(-1)
    tied = (score[:, None, :] == score[:, :, None]).sum(-1)
    # P[the maximum lies in my tie class] = (C(below+tied, k) - C(below, k)) / C(n, k).
    chosen = _share(below + tied, n, k) - _share(below, n, k)
    return (value * chosen / tied).sum(1)


def best_of_every_k(score: np.ndarray, value: np.ndarray) -> np.ndarray:
    """`best_of_k` for k = 1..n at once: score, value [B n] -> [B n], column k - 1.

    With the values in the order of their scores, each replaced by the mean of its ties,
    it is one matrix product with C(i-1, k-1) / C(n, k).

    Raises ValueError unless every score is a number.
    """
    score, value = np.asarray(score, float), np.asarray(value, float)
    n = score.shape[1]
    if np.isnan(score).any():
        raise ValueError(
            f"expected scores, found NaN at {np.argwhere(np.isnan(score))}"
        )
    order = np.argsort(score, axis=1, kind="stable")
    ranked = np.take_along_axis(score, order, 1)
    below = scipy.stats.rankdata(ranked, "min", axis=1).astype(int) - 1
    upto = scipy.stats.rankdata(ranked, "max", axis=1).astype(int)
    total = np.cumsum(np.take_along_axis(value, order, 1), axis=1)
    total = np.pad(total, ((0, 0), (1, 0)))
    within = np.take_along_axis(total, upto, 1) - np.take_along_axis(total, below, 1)
    sizes = np.arange(1, n + 1)[None]
    weight = np.diff(_share(np.arange(n + 1)[:, None], n, sizes), axis=0)
    return within / (upto - below) @ weight


def _share(m: np.ndarray, n: int, k: int | np.ndarray) -> np.ndarray:
    """C(m, k) / C(n, k): all k of n lie among m of them. In logs: n may be large."""
    log_factorial = lambda a: scipy.special.gammaln(np.asarray(a, float) + 1)
    some = np.maximum(m, k)
    log_share = log_factorial(some) - log_factorial(some - k)
    log_share -= log_factorial(n) - log_factorial(n - k)
    return np.where(m >= k, np.exp(log_share), 0.0)


def coverage_at_k(correct: np.ndarray, k: int) -> np.ndarray:
    """Unbiased P[any of k is correct] = 1 - C(n-c, k)/C(n, k); correct [B n] -> [B].

    A skyline that needs the answers, not a self-reward.
    """
    correct = np.asarray(correct, bool)
    return best_of_k(correct, correct, k)
