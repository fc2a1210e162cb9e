"""Claims of section 3: where greedy decoding stands in for the argmax (Prop 3.1).

A policy over sequences is a tensor of weights [V]*H, pi = weights / total, so that
small integers make every comparison exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory.claim import Batch, Claim, Effort, Twin, scaled, vectorised
from theory.families import compositions
from theory.search import JaxInstance, attack

SHAPE = (2, 2, 2)  # V = 2, H = 3


def greedy_lead(weights: Float[Array, "*V"]) -> Float[Array, ""]:
    """min over h of pi(y*_<h, y*_h) - max_{v != y*_h} pi(y*_<h, v), times the total.

    Positive: greedy decoding returns y*. Negative: it does not. Zero: some tie rule
    leaves y*.
    """
    prefix, leads = weights, []
    mode = jnp.unravel_index(jnp.argmax(weights), weights.shape)
    for token in mode:
        step = prefix.reshape(prefix.shape[0], -1).sum(-1)
        rivals = jnp.where(jnp.arange(step.size) == token, -jnp.inf, step)
        leads.append(step[token] - jnp.max(rivals))
        prefix = prefix[token]
    return jnp.min(jnp.stack(leads))


def prop_31(i: JaxInstance) -> tuple[Array, Array]:
    """pi(y*) <= 1/2 wherever y* is unique and greedy, ties against it, misses y*."""
    weights = i["weights"]
    top = jnp.max(weights)
    missed = (jnp.sum(weights == top) == 1) & (greedy_lead(weights) <= 0)
    return jnp.where(missed, top / jnp.sum(weights), 0.0), jnp.asarray(0.5)


def prop_31_tight(i: JaxInstance) -> tuple[Array, Array]:
    """1/2 - eta <= pi(y*) for a policy that defeats greedy, whatever its tie rule."""
    weights = i["weights"]
    top = jnp.max(weights)
    defeated = (jnp.sum(weights == top) == 1) & (greedy_lead(weights) < 0)
    return 0.5 - i["eta"], jnp.where(defeated, top / jnp.sum(weights), 0.0)


def _relaxed(i: JaxInstance) -> tuple[Array, Array]:
    """What the search climbs: pi(y*), at a price for every nat of greedy's lead."""
    weights = i["weights"] / jnp.sum(i["weights"])
    excess = jax.nn.relu(greedy_lead(weights) + 1e-3)
    return jnp.max(weights) * jnp.exp(-10.0 * excess), jnp.asarray(0.5)


def _attack(key, effort: Effort) -> list[Batch]:
    """Search over [2 2 2], and every law on a grid of denominator 1/T.

    T = 12 on [2 2], 6 on [2 2 2], and 4 on [3 3], where a step has two rivals.
    """
    decode = lambda raw: {"weights": jax.nn.softmax(raw["weights"], axis=(0, 1, 2))}
    found = attack(key, _relaxed, {"weights": SHAPE}, decode, effort=effort)
    tables = [
        {"weights": compositions(total, v**h).reshape(-1, *[v] * h).astype(float)}
        for total, v, h in ((12, 2, 2), (6, 2, 3), (4, 3, 2))
    ]
    return [found, *tables]


def _almost_half(key, effort: Effort) -> list[Batch]:
    """pi(1,1) = 1/2 - eta, pi(2,1) = pi(2,2) = 1/4 + eta/2, eta = 2^-4 ... 2^-40."""
    del key, effort
    eta = 2.0 ** -np.arange(4.0, 41.0)
    rival = 0.25 + eta / 2
    weights = np.stack([0.5 - eta, np.zeros_like(eta), rival, rival], -1)
    return [{"weights": weights.reshape(-1, 2, 2), "eta": eta}]


def _above_half(i: JaxInstance) -> tuple[Array, Array]:
    """The planted bug: greedy would be defeated even above 1/2."""
    left, right = prop_31_tight(i)
    return left + 2 * i["eta"], right


_prop_31 = vectorised(prop_31)

CLAIMS = (
    Claim(
        "Prop 3.1",
        "greedy misses a unique y* only if pi(y*) <= 1/2",
        "exact",
        _attack,
        _prop_31,
        (Twin("0.9 x 1/2", scaled(_prop_31, 0.9)),),
    ),
    Claim(
        "Prop 3.1 (tight)",
        "for all eta > 0 some pi with pi(y*) >= 1/2 - eta defeats greedy",
        "exact",
        _almost_half,
        vectorised(prop_31_tight),
        (Twin("pi(y*) >= 1/2 + eta", vectorised(_above_half)),),
    ),
)
