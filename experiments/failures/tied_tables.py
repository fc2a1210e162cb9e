"""Exact ties and near ties on a table: what best-of-N, SFT and Eq 10 do with them.

One row for each count m: m responses that share the largest probability q, or, near
ties, one of probability q and m - 1 of q e^-g; the rest is even over many rivals. With
all policies in the class, SFT-Sharpening on n -> infinity prompts fits the law of the
best of N itself, which shares a tie in proportion to mass. So

    sum over ties:   pi^BoN_N(Y*|x) = 1 - (1 - m q)^N        what Def 3.1 counts
    largest member:  pi^BoN_N(y|x)  = that / m               no response has more
    near ties, g > 0:  pi^BoN_N(y*|x) = 1 - (1 - q)^N        however small g is
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from theory.laws import adaptive_law, best_of_n_law, least_n_by_prompt
from theory.quantities import mass, maximisers, pi_star_beta

COUNTS = (1, 2, 4, 12)  # twelve derivations of a sum are one such tie
TOP = 0.06
RIVALS = 400
DELTA = 0.1
GAMMA = 0.5
BETA = 0.1
FEW, MOST = 16, 256  # N
MARGINS = (0.0, 1e-3, 1e-2, 0.1, 0.3, 0.69, 1.0, 2.0)  # nats


def tied(count: int, margin: float = 0.0) -> Float[np.ndarray, " Y"]:
    """A row of the table: the likeliest first, `count - 1` of them `margin` nats less.

    Rows of all counts are as long: the last have no mass. Raises ValueError where the
    rivals, sharing the rest, would be as likely.
    """
    near = np.full(count, TOP * np.exp(-margin))
    near[0] = TOP
    rest = (1 - near.sum()) / RIVALS
    if not 0 < rest < near[-1]:
        raise ValueError(f"expected less likely rivals, found {rest} each of {near}")
    none = np.zeros(COUNTS[-1] - count)
    return np.concatenate([near, np.full(RIVALS, rest), none])


def exact_ties() -> list[dict[str, Any]]:
    """For each count: best-of-N in N, the least N, adaptive stopping, what SFT fits."""
    mu, sizes = float(np.log(2 / DELTA)), [2**i for i in range(MOST.bit_length())]
    with jax.enable_x64(True):
        pi = jnp.asarray(np.stack([tied(count) for count in COUNTS]))
        members = maximisers(pi)
        laws = [best_of_n_law(pi, pi, n=float(n)) for n in sizes]
        stopped = adaptive_law(pi, mu_threshold=mu)
        columns = {
            "coverage": 1 / mass(pi, members),
            "mass": jnp.stack([mass(law, members) for law in laws], 1),
            "largest": jnp.stack([law.max(1) for law in laws], 1),
            "least_n": least_n_by_prompt(pi, delta=DELTA),
            "mean_draws": stopped.mean_draws,
            "missed": mass(stopped.response, ~members),
        }
        found = {name: np.asarray(column).tolist() for name, column in columns.items()}
    return [
        {
            "count": count,
            "n": sizes,
            **{name: column[i] for name, column in found.items()},
            "mean_draws_bound": (mu + 1 / count) / TOP,
            "missed_bound": float(np.exp(-count * mu)),
        }
        for i, count in enumerate(COUNTS)
    ]


def near_ties() -> list[dict[str, Any]]:
    """Twelve near ties, in their margin: mass on Y* and on Y*_g after best of N.

    And pi*_beta(y*|x), which regression and XPO aim at.
    """
    with jax.enable_x64(True):
        pi = jnp.asarray(np.stack([tied(COUNTS[-1], margin) for margin in MARGINS]))
        few, many = (best_of_n_law(pi, pi, n=float(n)) for n in (FEW, MOST))
        top, close = maximisers(pi), maximisers(pi, gamma=GAMMA)
        columns = {
            "few": mass(few, top),
            "few_near": mass(few, close),
            "many": mass(many, top),
            "largest": many.max(1),
            "tilted": pi_star_beta(pi, beta=BETA)[:, 0],
        }
        found = {name: np.asarray(column).tolist() for name, column in columns.items()}
    return [
        {"margin": margin, **{name: column[i] for name, column in found.items()}}
        for i, margin in enumerate(MARGINS)
    ]
