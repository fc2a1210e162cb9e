"""Exact laws of best-of-N and of adaptive best-of-N on tables (sections 3 and 4).

Both only look at the order of the scores, so responses of equal score form one level,
and a level wins as a whole: its members share the win in proportion to their mass.
With T_j the mass of level j (best first) and F_j the mass at level j or worse,

    P[best of N is at level j] = F_j^N - F_{j+1}^N

computed from log1p and expm1 of masses summed from the near end, so that a probability
keeps its relative accuracy at N = 1e9 and at masses of 1e-300.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from theory.precision import TIE, Scalar, needs_float64
from theory.quantities import Table, mass, maximisers

# Stands for "never": (1 - 1/|Y|)^FAR is zero for every table that fits a memory.
FAR = 1e300


class Levels(NamedTuple):
    """The responses of each prompt grouped by equal score, the best group first.

    Levels past the last score are empty.
    """

    index: Int[Array, "X Y"]  # the level of each response
    mass: Float[Array, "X Y"]  # T_j, of each level
    above: Float[Array, "X Y"]  # mass of strictly better levels
    below: Float[Array, "X Y"]  # mass of strictly worse levels


@needs_float64
def levels(pi: Table, score: Table) -> Levels:
    """Group by exact equality of `score`; -inf is a score, NaN is not."""
    return Levels(*jax.vmap(_row_levels)(pi, score))


def _row_levels(
    pi: Float[Array, " Y"], score: Float[Array, " Y"]
) -> tuple[Array, Array, Array, Array]:
    order = jnp.argsort(score, descending=True)
    ranked = score[order]
    steps = jnp.concatenate([jnp.zeros(1, bool), ranked[1:] != ranked[:-1]])
    ranks = jnp.cumsum(steps)
    mass = jax.ops.segment_sum(pi[order], ranks, pi.size, indices_are_sorted=True)
    none = jnp.zeros(1, pi.dtype)
    above = jnp.concatenate([none, jnp.cumsum(mass)[:-1]])
    below = jnp.concatenate([jnp.cumsum(mass[::-1])[::-1][1:], none])
    return jnp.zeros_like(order).at[order].set(ranks), mass, above, below


def _log(x: Array) -> Array:
    """log x, -inf with gradient zero at x = 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), -jnp.inf)


def _log_complement(part: Array, log_rest: Array) -> Array:
    """log(1 - part) = log rest, from the first where it is small.

    Not up to 1/2: on CPUs XLA's float64 log1p is off by 3e-14 beyond 0.3.
    """
    small = part < 0.25
    return jnp.where(small, jnp.log1p(-jnp.where(small, part, 0.0)), log_rest)


def _level_law(groups: Levels, n: Array) -> Float[Array, "X Y"]:
    """P[best of n is at level j] = F_j^n - F_{j+1}^n, with n for each level [X Y].

    Ratios of masses are differences of logarithms: the gradient of a quotient divides
    by the square, which underflows below 1e-154.
    """
    present = groups.mass > 0
    at = jnp.where(present, groups.mass + groups.below, 1.0)
    log_at = _log_complement(jnp.where(present, groups.above, 0.0), _log(at))
    more = present & (groups.below > 0)
    share = jnp.exp(jnp.where(more, _log(groups.mass) - _log(at), -1.0))
    log_rest = jnp.where(more, _log(groups.below) - _log(at), -1.0)
    loses = jnp.where(more, jnp.expm1(n * _log_complement(share, log_rest)), -1.0)
    return jnp.where(present, -jnp.exp(n * log_at) * loses, 0.0)


def _spread(groups: Levels, level_mass: Float[Array, "X Y"], pi: Table) -> Table:
    """Hand each level's probability to its members in proportion to their mass."""
    whole = jnp.take_along_axis(groups.mass, groups.index, axis=-1)
    share = jnp.exp(jnp.where(pi > 0, _log(pi) - _log(whole), -jnp.inf))
    return share * jnp.take_along_axis(level_mass, groups.index, axis=-1)


@needs_float64
def best_of_n_law(pi: Table, reward: Table, *, n: Scalar) -> Table:
    """pi^BoN_N(y|x): law of the largest reward among y_1..y_N ~ pi(.|x) (section 3).

    P[y] = (pi(y)/T_j) ( F_j^N - F_{j+1}^N ) for y at level j: ties are shared in
    proportion to mass. n >= 1 may be real and as large as 1e9. For ML sharpening pass
    reward = pi, which has the order of log pi without the rounding of the logarithm.
    """
    groups = levels(pi, reward)
    draws = jnp.full(pi.shape, n, pi.dtype)
    return _spread(groups, _level_law(groups, draws), pi)


class AdaptiveLaw(NamedTuple):
    """What adaptive best-of-N returns, and what it costs."""

    response: Float[Array, "X Y"]  # P[yhat = y | x]
    mean_draws: Float[Array, " X"]  # E[N_mu(x)]


def _first_draws(pi: Table, groups: Levels, mu_threshold: Scalar) -> Table:
    """k_j = least k >= 1 with k >= mu/v_j, for v_j the probability of level j.

    One IEEE division decides, then ceil: where mu/v_j is within half an ulp of an
    integer, the rule stops. A sampler that compares logarithms agrees elsewhere.
    """
    rows = jnp.arange(pi.shape[0])[:, None]
    value = jnp.zeros_like(pi).at[rows, groups.index].max(jax.lax.stop_gradient(pi))
    wait = jnp.ceil(mu_threshold / jnp.where(value > 0, value, 1.0))
    return jnp.where(value > 0, jnp.clip(wait, 1.0, FAR), FAR)


@needs_float64
def adaptive_law(pi: Table, *, mu_threshold: Scalar) -> AdaptiveLaw:
    """Adaptive best-of-N: N_mu = inf{ k : 1/max_{j<=k} pi(y_j) <= k/mu } (Eq 10).

    Level j (probability v_j) is accepted from draw k_j = ceil(mu/v_j) on, and k_j rises
    with j, so that with B_j the mass of levels worse than j

        P[N > k] = B_j^k                                   for k_j <= k < k_{j+1},
        g_j      = sum of B_j^k over k_j <= k < k_{j+1}    (geometric),
        E[N]     = k_1 + sum_j g_j,
        P[yhat at level j] = B_{j-1}^{k_j} - B_j^{k_j} + T_j sum_{i>=j} g_i:

    either the k_j-th draw finds level j best of all so far, or a later draw finds it
    after nothing acceptable came. mu_threshold > 0 is the paper's mu.
    """
    groups = levels(pi, pi)
    first = _first_draws(pi, groups, mu_threshold)
    reached = groups.above + groups.mass
    more = groups.below > 0
    log_worse = jnp.where(
        more,
        _log_complement(
            jnp.where(more, reached, 0.0), jnp.where(more, _log(groups.below), 0.0)
        ),
        -1.0,
    )
    gap = jnp.diff(first, axis=-1, append=jnp.full_like(first[:, :1], FAR))
    waiting = jnp.exp(first * log_worse) * -jnp.expm1(gap * log_worse) / reached
    waiting = jnp.where(more, waiting, 0.0)
    later = jnp.cumsum(waiting[:, ::-1], axis=-1)[:, ::-1]
    level_mass = _level_law(groups, first) + groups.mass * later
    return AdaptiveLaw(_spread(groups, level_mass, pi), first[:, 0] + later[:, 0])


def two_level_draws(first: int, last: int, *, q: float) -> float:
    """E[N_mu] = first + sum of (1-q)^k over first <= k < last (Eq 10).

    For a mode of mass q among equal rivals: it is accepted from draw `first` on, any
    response from `last` on.
    """
    log_miss = math.log1p(-q)
    waiting = math.exp(first * log_miss) * -math.expm1((last - first) * log_miss)
    return first + waiting / q


@needs_float64
def stopping_time_survival(
    pi: Table, draws: Real[Array, " k"], *, mu_threshold: Scalar
) -> Float[Array, "X k"]:
    """P[N_mu(x) > k] at each integer k >= 0 of `draws` (Eq 10; see `adaptive_law`)."""
    groups = levels(pi, pi)
    first = _first_draws(pi, groups, mu_threshold)
    worse = _log_complement(groups.above + groups.mass, _log(groups.below))
    log_worse = jnp.concatenate([jnp.zeros_like(worse[:, :1]), worse], axis=-1)
    k = draws.astype(pi.dtype)
    accepted = jax.vmap(lambda row: jnp.searchsorted(row, k, side="right"))(first)
    log_base = jnp.take_along_axis(log_worse, accepted, axis=-1)
    return jnp.where(accepted > 0, jnp.exp(k[None, :] * log_base), 1.0)


@needs_float64
def least_n_by_prompt(
    pi: Table, *, delta: Scalar, gamma: Scalar = 0.0
) -> Float[Array, " X"]:
    """Least N(x) with pi^BoN_N(Y*_g(x)|x) = 1 - pi(not Y*_g|x)^N >= 1-delta.

    N(x) = ceil( log delta / log(1 - pi(Y*_g|x)) ), at least 1; ML sharpening (Prop C.1
    with its exact law). Integers are decided up to `precision.TIE`.
    """
    members = maximisers(pi, gamma=gamma)
    log_miss = _log_complement(mass(pi, members), _log(mass(pi, ~members)))
    return jnp.maximum(1.0, jnp.ceil(jnp.log(delta) / log_miss * (1.0 - TIE)))


@needs_float64
def least_n(
    pi: Table,
    mu: Float[Array, " X"],
    *,
    eps: Scalar,
    delta: Scalar,
    gamma: Scalar = 0.0,
) -> Float[Array, ""]:
    """Least N with P_mu[ pi^BoN_N(Y*_g(x)|x) >= 1-delta ] >= 1-eps (Def 3.1, F.1).

    The (1-eps)-quantile of `least_n_by_prompt` under mu: the least N such that the
    prompts which need more weigh at most eps, up to `precision.TIE`.
    """
    needed = least_n_by_prompt(pi, delta=delta, gamma=gamma)
    groups = levels(mu[None, :], needed[None, :])
    harder = jnp.take_along_axis(groups.above, groups.index, axis=-1)[0]
    enough = jnp.min(jnp.where(harder <= eps * (1.0 + TIE), needed, jnp.inf))
    return jnp.where(jnp.asarray(eps) >= 1.0, 1.0, enough)


@needs_float64
def prompts_needed(
    *, class_size: Scalar, rho: Scalar, delta: Scalar, eps: Scalar
) -> Float[Array, ""]:
    """n = ceil( 2 log(|Pi|/rho) / ((1 - 1/sqrt 2)^2 delta eps) ) (Thm 4.1', D.1).

    From n prompts on, the statistical term of the proofs is at most eps.
    """
    size = jnp.asarray(class_size, float)
    constant = 2.0 / (1.0 - 1.0 / jnp.sqrt(jnp.asarray(2.0))) ** 2
    return jnp.ceil(constant * jnp.log(size / rho) / (delta * eps) * (1.0 - TIE))
