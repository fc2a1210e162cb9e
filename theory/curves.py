"""Queries m against eps, fixed and adaptive best-of-N, from the exact laws (Sec 4, D).

Guarantee: with probability 1-rho the maximum-likelihood fit to the selected responses
is (eps, delta)-sharpened. The proofs split the failures as

    P_mu[pihat(Y*) <= 1-delta] <= P_mu[pi^BoN(Y*) < 1-delta/2]
                                  + 2 log(|Pi|/rho) / ((1 - 1/sqrt 2)^2 delta n).

Fixed N (Thm 4.1') pays eps/2 for either term; adaptive with mu = ln(2/delta)
(Thm D.1) has a first term of zero. On instances of constant coverage whose hard
prompts weigh about eps, m is of order eps^-2 and eps^-1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory.laws import adaptive_law, least_n, prompts_needed
from theory.precision import Scalar, needs_float64
from theory.quantities import Table, coverage, expectation

FIXED_SLOPE = -2.0  # d log m / d log eps, Thm 4.1
ADAPTIVE_SLOPE = -1.0  # Thm D.1


class Cost(NamedTuple):
    """What a guarantee costs: n prompts, N responses for each, m = n N queries."""

    n: Float[Array, ""]
    N: Float[Array, ""]  # its exact mean E_mu[N_mu] when adaptive
    m: Float[Array, ""]  # its exact mean when adaptive


class Curve(NamedTuple):
    """Cost at each eps of a grid, with the instance's coverage beside it."""

    eps: Float[Array, " E"]
    coverage: Float[Array, " E"]
    fixed: Cost  # each field [E]
    adaptive: Cost  # each field [E]


@needs_float64
def fixed_cost(
    pi: Table,
    mu: Float[Array, " X"],
    *,
    eps: Scalar,
    delta: Scalar,
    class_size: Scalar,
    rho: Scalar,
    gamma: Scalar = 0.0,
) -> Cost:
    """Least N by its exact law, and n of the proof, each given eps/2 (Thm 4.1')."""
    draws = least_n(pi, mu, eps=eps / 2, delta=delta / 2, gamma=gamma)
    prompts = prompts_needed(class_size=class_size, rho=rho, delta=delta, eps=eps / 2)
    return Cost(prompts, draws, prompts * draws)


@needs_float64
def adaptive_cost(
    pi: Table,
    mu: Float[Array, " X"],
    *,
    eps: Scalar,
    delta: Scalar,
    class_size: Scalar,
    rho: Scalar,
) -> Cost:
    """E_mu[N_mu] at mu = ln(2/delta), exact, and n of the proof (Thm D.1)."""
    law = adaptive_law(pi, mu_threshold=jnp.log(2.0 / delta))
    draws = expectation(mu, law.mean_draws)
    prompts = prompts_needed(class_size=class_size, rho=rho, delta=delta, eps=eps)
    return Cost(prompts, draws, prompts * draws)


@needs_float64
def hard_instance(
    eps: Scalar, *, c_cov: Scalar, responses: int
) -> tuple[Table, Float[Array, " X"]]:
    """Two prompts with C_cov as asked, at which Markov's inequality is nearly tight.

    An easy prompt answers y_0 surely. A hard one of weight h = 2 eps has
    q = pi(Y*) = h/(C - 1 + h) on y_0 and spreads the rest evenly over ceil(2/q) - 1
    others, each about q/2, as the hard family of Thm 3.1' does at g = 1/2. The table is
    padded with zeros to `responses`, which must be at least ceil(2/q).
    """
    hard = 2.0 * eps
    top = hard / (c_cov - 1.0 + hard)
    others = jnp.ceil(2.0 / top) - 1.0
    place = jnp.arange(responses, dtype=float)
    rest = jnp.where((place > 0) & (place <= others), (1.0 - top) / others, 0.0)
    easy = jnp.where(place == 0, 1.0, 0.0)
    return jnp.stack([easy, easy * top + rest]), jnp.stack([1.0 - hard, hard])


def queries_against_eps(
    eps: Float[Array, " E"],
    *,
    c_cov: float,
    delta: float,
    class_size: float,
    rho: float,
) -> Curve:
    """m against eps on `hard_instance` at constant coverage, both algorithms.

    Raises ValueError unless every eps is in (0, 1/2) and c_cov > 1.
    """
    smallest, largest = float(jnp.min(eps)), float(jnp.max(eps))
    if not 0.0 < smallest <= largest < 0.5 or not c_cov > 1.0:
        raise ValueError(
            "expected eps in (0, 1/2) and c_cov > 1, found eps from "
            f"{smallest} to {largest} and c_cov = {c_cov}"
        )
    responses = int((c_cov - 1.0) / smallest) + 4

    def cost(target: Array) -> Curve:
        pi, mu = hard_instance(target, c_cov=c_cov, responses=responses)
        goal = {"eps": target, "delta": delta, "class_size": class_size, "rho": rho}
        return Curve(
            target,
            coverage(pi, mu),
            fixed_cost(pi, mu, **goal),
            adaptive_cost(pi, mu, **goal),
        )

    return jax.lax.map(cost, eps)
