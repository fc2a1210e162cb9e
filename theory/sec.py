"""The sequential extrapolation coefficient SEC of a finite class (Def J.1), exactly.

For policies pi^1..pi^T of the class, with f_t = beta log pi^t/pi_base - r and
d_t(x,y,y') = f_t(x,y) - f_t(x,y'),

    sum_t ( E^t[d_t] )^2 / max( lambda, sum_{i<t} E^i[d_t^2] )

where E^i is over x~mu, y~pi^i, y'~pi_base; SEC is the supremum over sequences.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory.precision import Scalar, needs_float64
from theory.quantities import Table

# Sequences that `sec` is willing to enumerate; more is an error, never a sample.
SEQUENCE_LIMIT = 2**18


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


def _inner_sums(
    first: Float[Array, " K"],
    second: Float[Array, "K K"],
    sequences: Int[Array, "S T"],
    lam: Scalar,
) -> Float[Array, " S"]:
    """The sum of Def J.1 for each sequence of class members."""
    total = jnp.zeros(sequences.shape[0], first.dtype)
    for t in range(sequences.shape[1]):
        now = sequences[:, t]
        seen = jnp.sum(second[sequences[:, :t], now[:, None]], axis=-1)
        total = total + first[now] ** 2 / jnp.maximum(lam, seen)
    return total


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
    order = jnp.arange(policies.shape[0])[None, :]
    total = _inner_sums(first, second, order, lam)[0]
    return jnp.where(_covered(policies, pi_base, mu), total, jnp.inf)


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

    Raises ValueError when K^T exceeds SEQUENCE_LIMIT.
    """
    members = policies.shape[0]
    if members**horizon > SEQUENCE_LIMIT:
        raise ValueError(
            f"sec enumerates at most {SEQUENCE_LIMIT} sequences, found K^T = "
            f"{members}^{horizon} = {members**horizon}"
        )
    first, second = _moments(policies, pi_base, reward, mu, beta)
    every = jnp.unravel_index(jnp.arange(members**horizon), (members,) * horizon)
    largest = jnp.max(_inner_sums(first, second, jnp.stack(every, axis=-1), lam))
    return jnp.where(_covered(policies, pi_base, mu), largest, jnp.inf)
