"""Exact laws that responses and trained policies are held to.

q = pi_base(Y*(x)|x) of each prompt. The best of N by log-probability is in Y*(x) if and
only if one of the N is, so that P = 1 - (1-q)^N (`theory.prices.found_by`), whatever
the other responses are.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from theory.laws import adaptive_law
from theory.prices import found_by


def coverage(mass: Float[np.ndarray, " B"]) -> float:
    """C_cov = E[1/pi_base(Y*(x)|x)] (Eq 6), the prompts standing for mu."""
    return float(np.mean(1 / mass))


def coverage_term(c_cov: float, draws: int, *, delta: float) -> float:
    """C_cov/N*, N = N* log(2/delta): the part of Thm 4.1' that N decides, at most 1."""
    return min(1.0, c_cov * math.log(2 / delta) / draws)


class Adaptive(NamedTuple):
    """What adaptive data are on a table whose cell 0 is the mode."""

    on_mode: Float[np.ndarray, " B"]  # P[yhat = y*|x]
    draws: Float[np.ndarray, " B"]  # E[N_mu(x)]


def adaptive(logits: Float[np.ndarray, "B Y"], *, delta: float) -> Adaptive:
    """`theory.laws.adaptive_law` (Eq 10) at mu = ln(2/delta)."""
    with jax.enable_x64(True):
        pi = jnp.exp(jnp.asarray(logits, jnp.float64))
        found = adaptive_law(pi, mu_threshold=math.log(2 / delta))
        return Adaptive(np.asarray(found.response[:, 0]), np.asarray(found.mean_draws))


def successes(
    mass: Float[np.ndarray, " B"], trials: int
) -> Float[np.ndarray, " successes"]:
    """P[k successes in all], where each prompt has `trials` trials of its own q."""
    law = np.ones(1)
    for q in mass:
        law = np.convolve(law, scipy.stats.binom.pmf(np.arange(trials + 1), trials, q))
    return law


def two_sided(law: Float[np.ndarray, " successes"], count: int) -> float:
    """Twice the smaller tail at `count`, both with it: at most u with probability u."""
    return float(min(1.0, 2 * min(law[: count + 1].sum(), law[count:].sum())))


class Blocks(NamedTuple):
    """Best-of-k on disjoint blocks of the draws: independent trials."""

    count: int  # blocks in which the best of k is in Y*
    trials: int  # blocks of a prompt
    p_value: float


def blocks(
    score: Float[np.ndarray, "B N"],
    member: Bool[np.ndarray, "B N"],
    mass: Float[np.ndarray, " B"],
    k: int,
    *,
    law_of: int | None = None,
) -> Blocks:
    """Test of 1 - (1-q)^k on floor(N/k) blocks of each prompt; `law_of` another k."""
    trials = score.shape[1] // k
    shape = len(score), trials, k
    split = lambda x: x[:, : trials * k].reshape(shape)
    best: Int[np.ndarray, "B trials"] = split(score).argmax(-1)
    won = np.take_along_axis(split(member), best[..., None], -1)
    law = successes(found_by(mass, law_of or k), trials)
    return Blocks(int(won.sum()), trials, two_sided(law, int(won.sum())))


def distance(
    p: Float[np.ndarray, "*b"], q: Float[np.ndarray, "*b"]
) -> Float[np.ndarray, "*b"]:
    """(sqrt p - sqrt q)^2 + (sqrt(1-p) - sqrt(1-q))^2: D_H^2 of the two coins.

    Of two policies' masses on Y* it is at most their own D_H^2 (data processing), whose
    mean over the prompts the maximum likelihood of a finite class keeps at
    2 log(|Pi|/rho)/n (Lem F.1): the step to the first term of Thm 4.1'.
    """
    return (np.sqrt(p) - np.sqrt(q)) ** 2 + (np.sqrt(1 - p) - np.sqrt(1 - q)) ** 2


def common_slope(
    n: Float[np.ndarray, "rows columns"], y: Float[np.ndarray, "*b rows columns"]
) -> Float[np.ndarray, "*b"]:
    """b of y = a_row n^b, one b for all rows: least squares on logarithms.

    Raises ValueError where a value is not positive.
    """
    if not ((n > 0).all() and (y > 0).all()):
        raise ValueError(f"expected positive values, found n={n}, y={y}")
    x, z = np.log(n), np.log(y)
    x = x - x.mean(-1, keepdims=True)
    return (x * z).sum((-1, -2)) / (x * x).sum()
