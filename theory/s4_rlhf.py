"""Claims of section 4.2, RLHF-Sharpening: coverage bounds of the tilted policy.

pi*_beta(y|x) is proportional to pi_base(y|x)^(1+1/beta). With P* the largest
probability of a row and Z = sum_y p^(1+1/beta), the ratio pi*_beta/p = p^(1/beta)/Z is
largest at the mode, and Z >= p(Y*_g) ((1-g) P*)^(1/beta). That is the whole proof of
Lem 4.1 (g = 0) and of Lem 4.1', where it leaves (1-g)^(-1/beta), not (1-g)^(-1).
"""

from decimal import Decimal, localcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory.claim import (
    Batch,
    Claim,
    Effort,
    Instance,
    Number,
    Twin,
    join,
    scaled,
    vectorised,
)
from theory.families import two_level, zoo
from theory.precision import TIE
from theory.quantities import (
    concentrability,
    coverage,
    expectation,
    log_pi_star_beta,
    log_probability,
    pi_star_beta,
)
from theory.search import JaxInstance, attack, between

PROMPTS, RESPONSES = 2, 8
BETAS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0)
GAMMAS = (0.0, 0.01, 0.1, 0.5, 0.9)


SHAPES = {"pi": (PROMPTS, RESPONSES), "mu": (PROMPTS,), "beta": (), "gamma": ()}


def _decode(raw: dict[str, Array]) -> JaxInstance:
    return {
        "pi": jax.nn.softmax(raw["pi"]),
        "mu": jax.nn.softmax(raw["mu"]),
        "beta": between(raw["beta"], BETAS[0], BETAS[-1]),
        "gamma": 1.0 - between(raw["gamma"], 1e-2, 1.0),
    }


def _by_hand() -> Batch:
    """pi = (2, 1 x 7)/9, beta = 1/4, g = 1/2: C = 9 (2^9+7)/(2^5+7)^2 = 3.07 > 2."""
    row = two_level(RESPONSES, best=1, ratio=0.5)
    return {
        "pi": np.stack([row] * PROMPTS)[None],
        "mu": np.full((1, PROMPTS), 1 / PROMPTS),
        "beta": np.array([0.25]),
        "gamma": np.array([0.5]),
    }


def _many_responses() -> Batch:
    """pi = (10, 1 x 1000)/1010, beta = 1/2, g = 9/10: C = 25.5, C_cov,g = 1.

    Eight responses leave room for an exponent of 1/(2 beta): 10 here.
    """
    return {
        "pi": two_level(1001, best=1, ratio=0.1)[None, None],
        "mu": np.ones((1, 1)),
        "beta": np.array([0.5]),
        "gamma": np.array([0.9]),
    }


def _attack_on(pair, *designed: Batch):
    """Search on `pair`, families over beta and g, `_by_hand`, `designed`."""

    def instances(key, effort: Effort) -> list[Batch]:
        search_key, zoo_key = jax.random.split(key)
        found = attack(search_key, pair, SHAPES, _decode, effort=effort)
        size = effort.instances
        families = zoo(zoo_key, count=size, prompts=PROMPTS, responses=RESPONSES)
        families["beta"] = np.resize(BETAS, size)
        families["gamma"] = np.resize(GAMMAS, size)
        return [join(found, families, _by_hand()), *designed]

    return instances


def tilted_concentrability(i: JaxInstance) -> Float[Array, ""]:
    """C_{pi*_beta} = E_mu[ sum_y pi*_beta(y|x)^2 / pi_base(y|x) ]."""
    tilted = pi_star_beta(i["pi"], beta=i["beta"])
    return concentrability(tilted, i["pi"], i["mu"])


def lemma_41(i: JaxInstance) -> tuple[Array, Array]:
    """C_{pi*_beta} <= C_cov (Lem 4.1, first part)."""
    return tilted_concentrability(i), coverage(i["pi"], i["mu"])


def lemma_41_loss(i: JaxInstance) -> tuple[Array, Array]:
    """C_{pi_base/pi*_beta;beta} <= |Y| (Lem 4.1, second part).

    In logs: pi*_beta underflows where the coefficient, Z^beta |supp|, does not.
    """
    log_pi = log_probability(i["pi"])
    inside = i["pi"] > 0
    tilted = jnp.where(inside, log_pi_star_beta(i["pi"], beta=i["beta"]), 0.0)
    log_pi = jnp.where(inside, log_pi, 0.0)
    moment = jnp.exp(log_pi + i["beta"] * (log_pi - tilted))
    left = expectation(i["mu"], jnp.sum(jnp.where(inside, moment, 0.0), axis=-1))
    return left, jnp.asarray(float(i["pi"].shape[-1]))


def lemma_41_prime(i: JaxInstance) -> tuple[Array, Array]:
    """C_{pi*_beta} <= (1-g)^-1 C_cov,g (Lem 4.1', as printed)."""
    cover = coverage(i["pi"], i["mu"], gamma=i["gamma"])
    return tilted_concentrability(i), cover / (1.0 - i["gamma"])


def lemma_41_prime_repaired(
    i: JaxInstance, *, share: float = 1.0
) -> tuple[Array, Array]:
    """C_{pi*_beta} <= (1-g)^(-1/beta) C_cov,g (Lem 4.1', the exponent of its proof).

    `share` < 1 of the exponent is the planted bug.
    """
    cover = coverage(i["pi"], i["mu"], gamma=i["gamma"])
    lost = (1.0 - i["gamma"]) ** (-share / i["beta"])
    return tilted_concentrability(i), cover * lost


def exact_sides(instance: Instance, *, bound: str) -> tuple[Number, Number]:
    """Both sides in 50-digit decimals, rows renormalised: an independent second road.

    C_{pi*_beta} = sum p^(1+2/beta) / (sum p^(1+1/beta))^2, loss = Z^beta |supp|; bound
    is "loss", "lemma" (g = 0), "printed" or "repaired". Y*_g has the slack that
    `maximisers` gives it.
    """
    with localcontext(prec=50):
        gamma = Decimal(float(instance["gamma"])) if bound != "lemma" else Decimal(0)
        beta = Decimal(float(instance["beta"]))
        threshold = (1 - gamma) * (1 - Decimal(TIE)) if gamma else Decimal(1)
        left = right = Decimal(0)
        for weight, row in zip(instance["mu"], instance["pi"], strict=True):
            p = [Decimal(float(v)) for v in row if v > 0]
            p = [v / sum(p) for v in p]
            total = lambda terms: sum(terms, Decimal(0))
            partition = total(v ** (1 + 1 / beta) for v in p)
            moment = total(v ** (1 + 2 / beta) for v in p) / partition**2
            near = total(v for v in p if v >= threshold * max(p))
            weight = Decimal(float(weight))
            loss = partition**beta * len(p)
            left += weight * (loss if bound == "loss" else moment)
            right += weight * (Decimal(len(row)) if bound == "loss" else 1 / near)
        exponent = {"printed": Decimal(1), "repaired": 1 / beta}.get(bound, Decimal(0))
        return left, right * (1 - gamma) ** -exponent


def _exact(bound: str):
    return lambda instance: exact_sides(instance, bound=bound)


def _claim(id: str, statement: str, pair, bound: str, *twins: Twin, **rest) -> Claim:
    sides = vectorised(pair)
    designed = [_many_responses()] if bound in ("printed", "repaired") else []
    return Claim(
        id,
        statement,
        "exact",
        _attack_on(pair, *designed),
        sides,
        twins,
        exact=_exact(bound),
        **rest,
    )


CLAIMS = (
    _claim(
        "Lem 4.1",
        "C_{pi*_beta} <= C_cov",
        lemma_41,
        "lemma",
        Twin("0.9 C_cov", scaled(vectorised(lemma_41), 0.9)),
    ),
    _claim(
        "Lem 4.1 (loss)",
        "C_{pi_base/pi*_beta;beta} <= |Y|",
        lemma_41_loss,
        "loss",
        Twin("0.9 |Y|", scaled(vectorised(lemma_41_loss), 0.9)),
    ),
    _claim(
        "Lem 4.1'",
        "C_{pi*_beta} <= (1-g)^-1 C_cov,g",
        lemma_41_prime,
        "printed",
        Twin("exponent 1/beta", vectorised(lemma_41_prime_repaired), "holds"),
        expected="fails",
    ),
    _claim(
        "Lem 4.1' (repaired)",
        "C_{pi*_beta} <= (1-g)^(-1/beta) C_cov,g",
        lemma_41_prime_repaired,
        "repaired",
        Twin("0.9 C_cov,g", scaled(vectorised(lemma_41_prime_repaired), 0.9)),
        Twin("exponent 1, as printed", vectorised(lemma_41_prime)),
        Twin(
            "exponent 1/(2 beta)",
            vectorised(partial(lemma_41_prime_repaired, share=0.5)),
        ),
        repairs="Lem 4.1'",
    ),
)
