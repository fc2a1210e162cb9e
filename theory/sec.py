"""The sequential extrapolation coefficient SEC of a finite class (Def J.1), exactly.

For policies pi^1..pi^T of the class, with f_t = beta log pi^t/pi_base - r and
d_t(x,y,y') = f_t(x,y) - f_t(x,y'),

    sum_t ( E^t[d_t] )^2 / max( lambda, sum_{i<t} E^i[d_t^2] )

where E^i is over x~mu, y~pi^i, y'~pi_base; SEC is the supremum over sequences. The
past enters only through how often each member came, so the supremum is a longest path
over count vectors, found by dynamic programming: C(T+K-1, K-1) of them, not K^T.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import comb

from theory.precision import Scalar, needs_float64
from theory.quantities import Table

# Moves between count vectors that `sec` is willing to judge, some ten seconds of one
# core: T = 800 at K = 3, T = 170 at K = 4. More is an error, never a sample.
MOVE_LIMIT = 2**30


def _moments(
    policies: Float[Array, "K X Y"],
    pi_base: Table,
    reward: Table,
    mu: Float[Array, " X"],
    beta: Scalar,
) -> tuple[Float[Array, " K"], Float[Array, "K K"]]:
    """E^t[d_t] as [K], and E^i[d_t^2] as [K K] in the order [i, t].

    y and y' are independent given x, so that
    E^i[d_t^2] = E_mu[ Var_i(f_t) + Var_base(f_t) + (E_i f_t - E_base f_t)^2 ].
    """
    known = (pi_base > 0)[None] & (policies > 0)
    ratio = jnp.where(known, policies, 1.0) / jnp.where(known, pi_base[None], 1.0)
    f = beta * jnp.log(ratio) - jnp.where(known, reward[None], 0.0)
    mean = jnp.einsum("ixy,txy->itx", policies, f)
    spread = (f[None] - mean[..., None]) ** 2
    variance = jnp.einsum("ixy,itxy->itx", policies, spread)
    base_mean = jnp.einsum("xy,txy->tx", pi_base, f)
    base_spread = (f - base_mean[..., None]) ** 2
    base_variance = jnp.einsum("xy,txy->tx", pi_base, base_spread)
    shift = mean - base_mean[None]
    second = (variance + base_variance[None] + shift**2) @ mu
    return jnp.diagonal(shift @ mu), second


def _covered(
    policies: Float[Array, "K X Y"], pi_base: Table, mu: Float[Array, " X"]
) -> Array:
    """Whether every log-ratio to the base is finite on supp(mu)."""
    same = (policies > 0) == (pi_base > 0)[None]
    return jnp.all(same | (mu <= 0)[None, :, None])


class _States(NamedTuple):
    """How often each member came: all (n_1..n_{K-1}) with sum <= T; n_K is the rest.

    In the order of (m_{K-1}, .., m_1), m_i = n_1 + .. + n_i, so that a state's position
    is sum_i C(m_i + i - 1, i), whatever the round.
    """

    counts: Int[np.ndarray, "S J"]
    previous: Int[np.ndarray, "S J"]  # the state with one of member j less, else itself


def _states(members: int, horizon: int) -> _States:
    """The states of K = `members` in T = `horizon` rounds; J = K-1."""
    partial = np.full((1, 1), horizon)  # T, m_{K-1}, .., m_1 in columns
    for _ in range(members - 1):
        sizes = partial[:, -1] + 1
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        smaller = np.arange(sizes.sum()) - starts
        partial = np.column_stack([np.repeat(partial, sizes, axis=0), smaller])
    sums = partial[:, :0:-1]  # m_1, .., m_{K-1}
    counts = np.diff(sums, axis=1, prepend=0)
    rank = np.arange(members - 1)[None]
    # One of member j less lowers every m_i with i >= j.
    drops = np.asarray(comb(sums + rank - 1, rank), np.int64)
    position = np.arange(len(sums))[:, None]
    lower = position - np.cumsum(drops[:, ::-1], axis=1)[:, ::-1]
    return _States(counts, np.where(counts > 0, lower, position))


@needs_float64
def sec_of_sequence(
    policies: Float[Array, "T X Y"],
    pi_base: Table,
    reward: Table,
    mu: Float[Array, " X"],
    *,
    beta: Scalar,
    lam: Scalar,
) -> Float[Array, ""]:
    """The inner sum of Def J.1 for pi^1..pi^T = `policies`, in that order.

    `reward` is finite on supp(pi_base) and lam > 0; +inf unless every policy has
    exactly the support of pi_base, where the log-ratios are finite.
    """
    first, second = _moments(policies, pi_base, reward, mu, beta)
    seen = jnp.sum(jnp.triu(second, 1), axis=0)  # over i < t
    total = jnp.sum(first**2 / jnp.maximum(lam, seen))
    return jnp.where(_covered(policies, pi_base, mu), total, jnp.inf)


def _longest(
    first: Float[Array, " K"], second: Float[Array, "K K"], horizon: int, lam: Scalar
) -> Float[Array, ""]:
    """The largest inner sum of Def J.1 over sequences of `horizon` members.

    best_{t+1}[n] = max_j best_t[n - e_j] + E^j[d_j]^2 / max(lam, sum_i (n - e_j)_i
    E^i[d_j^2]).
    """
    states = _states(first.size, horizon)
    counts = jnp.asarray(states.counts, first.dtype)
    others = jnp.sum(counts, axis=1)
    moved = jnp.asarray(states.previous)
    possible = jnp.asarray(states.counts > 0)

    def step(best, t):
        last = (t - others)[:, None]
        seen = counts @ second[:-1] + last * second[-1:]
        reached = best[:, None] + (first**2)[None] / jnp.maximum(lam, seen)
        before = jnp.take_along_axis(reached[:, :-1], moved, axis=0)
        choices = jnp.column_stack(
            [jnp.where(possible, before, -jnp.inf), reached[:, -1]]
        )
        return jnp.max(choices, axis=1), None

    start = jnp.where(others > 0, -jnp.inf, 0.0)
    rounds = jnp.arange(horizon, dtype=first.dtype)
    best, _ = jax.lax.scan(step, start, rounds)
    return jnp.max(best)


@needs_float64
def sec(
    policies: Float[Array, "K X Y"],
    pi_base: Table,
    reward: Table,
    mu: Float[Array, " X"],
    *,
    horizon: int,
    beta: Scalar,
    lam: Scalar,
) -> Float[Array, ""]:
    """SEC: the largest `sec_of_sequence` over all K^T sequences, T = horizon (Def J.1).

    A member whose E^t[d_t] is zero, such as pi_base or pi*_beta, adds nothing to any
    sequence and may be left out. Raises ValueError unless horizon >= 1, and when the
    K T C(T+K-1, K-1) moves exceed MOVE_LIMIT.
    """
    members = policies.shape[0]
    if horizon < 1:
        raise ValueError(f"expected horizon >= 1, found {horizon}")
    moves = members * horizon * math.comb(horizon + members - 1, members - 1)
    if moves > MOVE_LIMIT:
        raise ValueError(
            f"sec judges at most {MOVE_LIMIT} moves between count vectors, found "
            f"{moves} for K = {members}, T = {horizon}"
        )
    first, second = _moments(policies, pi_base, reward, mu, beta)
    largest = _longest(first, second, horizon, lam)
    return jnp.where(_covered(policies, pi_base, mu), largest, jnp.inf)


@needs_float64
def sec_bound(
    policies: Float[Array, "K X Y"],
    pi_base: Table,
    reward: Table,
    mu: Float[Array, " X"],
    *,
    horizon: Scalar,
    beta: Scalar,
    lam: Scalar,
) -> Float[Array, ""]:
    """SEC <= sum_j (E^j[d_j])^2 ( 1/lam + (1 + log T)/E^j[d_j^2] ), for any T >= 1.

    When member j comes for the (n+1)-th time, the past sum is at least n E^j[d_j^2].
    """
    first, second = _moments(policies, pi_base, reward, mu, beta)
    own = jnp.diagonal(second)
    again = (1.0 + jnp.log(horizon)) / jnp.where(own > 0, own, 1.0)
    total = jnp.sum(first**2 * (1.0 / lam + jnp.where(own > 0, again, 0.0)))
    return jnp.where(_covered(policies, pi_base, mu), total, jnp.inf)
