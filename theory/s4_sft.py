"""SFT-Sharpening on best-of-N and adaptive best-of-N data (Thm 4.1', Thm D.1).

The data are i.i.d. from mu x pi^BoN_N (or its adaptive twin), whose law is exact, so
that the law of the maximum-likelihood member of a finite class is exact too, and each
statement is checked at every rho at once, as in `s4_mle`.
"""

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
    Twin,
    compiled,
    one_by_one,
    scaled,
    stack,
)
from theory.families import generator, two_level, zoo
from theory.laws import adaptive_law, best_of_n_law
from theory.mle import cells, log_exceedance
from theory.precision import Scalar
from theory.quantities import coverage, failure_fraction
from theory.s4_mle import tightest

HELLINGER = 2.0 / (1.0 - 1.0 / np.sqrt(2.0)) ** 2  # the proof's constant, 23.31...

SETS = 7  # different sets Y*_g an instance may have


@compiled
def _failures(
    base: Float[Array, "X Y"],
    mu: Float[Array, " X"],
    members: Float[Array, "K X Y"],
    delta: Scalar,
    gammas: Float[Array, " G"],
) -> tuple[Float[Array, "K G"], Float[Array, " G"]]:
    """P_mu[pi_k(Y*_g) <= 1-delta] [K G] and C_cov,g [G]."""
    fails = lambda member, gamma: failure_fraction(
        member, base, mu, delta=delta, gamma=gamma
    )
    each_gamma = jax.vmap(fails, in_axes=(None, 0))
    cover = jax.vmap(lambda gamma: coverage(base, mu, gamma=gamma))
    return jax.vmap(each_gamma, in_axes=(0, None))(members, gammas), cover(gammas)


_best_of_n = compiled(lambda pi, n: best_of_n_law(pi, pi, n=n))
_adaptive = compiled(
    lambda pi, delta: adaptive_law(pi, mu_threshold=jnp.log(2.0 / delta)).response
)


def _gammas(base: np.ndarray) -> np.ndarray:
    """One g for every set that Y*_g runs through as g grows: "for any g" is finite."""
    gaps = 1 - base / base.max(-1, keepdims=True)
    distinct = np.unique(np.round(gaps[gaps < 1], 12))
    if len(distinct) > SETS:
        raise ValueError(f"expected at most {SETS} sets Y*_g, found {len(distinct)}")
    # A hair above the gap, so that rounding does not leave its response out.
    return np.resize(np.minimum(distinct + 2e-12, 1 - 1e-12), SETS)


def _truth(i: Instance) -> np.ndarray:
    """The law of the data: pi^BoN_N, or pi^AdaBoN where there is no N."""
    base = jnp.asarray(i["base"])
    if "draws" in i:
        return np.asarray(_best_of_n(base, float(i["draws"])))
    return np.asarray(_adaptive(base, float(i["delta"])))


def theorem(i: Instance, *, constant: float = HELLINGER) -> tuple[float, float]:
    """P_mu[pihat(Y*_g) <= 1-delta] <= c log(|Pi|/rho)/(delta n) + C_cov,g/N*, all g.

    N* = N/log(2/delta); for adaptive data the last term is absent, and g = 0.
    """
    truth, delta, n = _truth(i), float(i["delta"]), int(i["n"])
    members = np.concatenate([truth[None], i["others"]])[: int(i["members"])]
    adaptive = "draws" not in i
    gammas = np.zeros(SETS) if adaptive else _gammas(i["base"])
    tables = map(jnp.asarray, (i["base"], i["mu"], members))
    fails, cover = map(np.asarray, _failures(*tables, delta, jnp.asarray(gammas)))
    n_star = np.inf if adaptive else float(i["draws"]) / np.log(2 / delta)
    excess = fails - cover / n_star  # [K G]
    found = cells(truth, i["mu"], members)
    log_f = log_exceedance(excess.max(-1), excess.ravel(), found, n=n)
    size = len(np.unique(members, axis=0))  # a class is a set
    statistical = constant * (np.log(size) - log_f) / (delta * n)
    right = statistical.reshape(excess.shape) + cover / n_star
    return tightest(fails.ravel(), right.ravel())


def off_mass(law: np.ndarray, base: np.ndarray, off: float) -> np.ndarray:
    """The law with mass `off` in all off Y*(x), proportions kept on either side."""
    modes = base == base.max(-1, keepdims=True)
    inside, outside = np.where(modes, law, 0.0), np.where(modes, 0.0, law)
    # A law without mass off Y* gets a uniform one there: its data never show it.
    outside = np.where(outside.sum(-1, keepdims=True) > 0, outside, ~modes)
    share = lambda part: part / np.maximum(part.sum(-1, keepdims=True), 1e-300)
    kept = np.where(modes.all(-1, keepdims=True), 1.0, 1.0 - off)
    return kept * share(inside) + off * share(outside)


def _instance(
    base, mu, *, delta: float, n: int, offs, members: int, draws: int | None = None
) -> Instance:
    """One instance: `members` laws, the truth and those with masses `offs` off Y*."""
    i = {"base": base, "mu": mu, "delta": np.array(delta), "n": np.array(n)}
    if draws is not None:
        i["draws"] = np.array(float(draws))
    law = _truth(i)
    i["others"] = np.stack([off_mass(law, base, min(off, 1.0)) for off in offs])
    return i | {"members": np.array(members)}


def _random(key, *, count: int, adaptive: bool) -> list[Batch]:
    """Small tables from every family: two prompts at n = 8, one prompt at n = 150."""
    zoo_key, key = jax.random.split(key)
    rng, pool = generator(key), zoo(zoo_key, count=count, prompts=2, responses=3)
    instances = []
    for k, (base, mu) in enumerate(zip(pool["pi"], pool["mu"], strict=True)):
        delta = rng.choice([0.05, 0.3, 0.6, 0.95])
        instances.append(
            _instance(
                base,
                mu if k % 2 else np.array([1.0, 0.0]),
                delta=delta,
                n=8 if k % 2 else 150,
                offs=delta * np.array([1.0, 1.2, 2.0]),
                members=int(rng.integers(1, 5)),
                draws=None if adaptive else int(rng.choice([1, 2, 5, 30])),
            )
        )
    return [stack(instances)]


WIDE = 200  # responses of the designed instances: Y* must weigh little


def _one_mode(q: float) -> np.ndarray:
    """A mode of mass q, and the rest shared by the other responses."""
    return two_level(WIDE, best=1, ratio=(1 - q) / q / (WIDE - 1))


def _coverage_bound() -> Instance:
    """|Pi| = 1, rho -> 1: only C_cov,g/N* is left. Half the prompts just miss delta."""
    delta, draws = 1e-12, 1000
    missed = _one_mode((1 - delta ** (1 / draws)) * (1 - 1e-9))
    base = np.stack([missed, two_level(WIDE, best=1, ratio=0.0)])
    mu = np.array([0.5, 0.5])
    return _instance(base, mu, delta=delta, n=1, offs=[delta], members=1, draws=draws)


def _statistical_bound() -> Instance:
    """Many prompts, two members, C_cov,g/N* = 0.4: only log|Pi|/(delta n) can hold."""
    base, mu = np.stack([_one_mode(0.05)] * 2), np.array([1.0, 0.0])
    return _instance(
        base, mu, delta=0.025, n=20_000, offs=[0.025], members=2, draws=219
    )


def _adaptive_bound() -> Instance:
    """Near ties: N_mu is constant, and the data miss Y* with mass nearly delta/2."""
    base = np.stack([two_level(WIDE, best=1, ratio=1 - 1e-6)] * 2)
    mu = np.array([1.0, 0.0])
    return _instance(base, mu, delta=0.02, n=250_000, offs=[0.02], members=2)


def _attack_41(key, effort: Effort) -> list[Batch]:
    """Two designed instances and small random tables.

    They have power over C_cov,g/N*, but over the constant 23.3 only down to 0.7: what
    C_cov,g/N* allows hides the rest, and Thm D.1, without it, is where 23.3 is tried.
    """
    designed = stack([_coverage_bound(), _statistical_bound()])
    return [designed, *_random(key, count=effort.instances, adaptive=False)]


def _attack_d1(key, effort: Effort) -> list[Batch]:
    designed = stack([_adaptive_bound()])
    return [designed, *_random(key, count=effort.instances, adaptive=True)]


_theorem = one_by_one(theorem)

CLAIMS = (
    Claim(
        "Thm 4.1'",
        "w.p. >= 1-rho, for all g: P_mu[pihat(Y*_g) <= 1-delta] <= "
        "2 log(|Pi|/rho)/((1-1/sqrt 2)^2 delta n) + C_cov,g/N*",
        "exact",
        _attack_41,
        _theorem,
        (
            Twin("0.9 x, by C_cov,g/N*", scaled(_theorem, 0.9)),
            Twin("0.7 for 23.3", one_by_one(partial(theorem, constant=0.7))),
        ),
    ),
    Claim(
        "Thm D.1",
        "w.p. >= 1-rho: P_mu[pihat(Y*) <= 1-delta] <= "
        "2 log(|Pi|/rho)/((1-1/sqrt 2)^2 delta n)",
        "exact",
        _attack_d1,
        _theorem,
        (Twin("0.9 x 23.3", scaled(_theorem, 0.9)),),
    ),
)
