"""Maximum likelihood over a finite class is near the truth, in Hellinger: Lem F.1.

A statement "with probability at least 1-rho, loss <= bound(rho)" is checked at every
rho at once: with F = P[loss(pihat) >= l] from the exact law of pihat (`mle`), it says
l <= bound(F) for each value l that the loss can take. Left is l and right is bound(F),
at the member where left/right is largest. Larger classes are sampled, at one rho.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from jsharp.stats import clopper_pearson
from theory.claim import (
    LEVEL,
    Batch,
    Claim,
    Effort,
    Instance,
    Sides,
    Twin,
    compiled,
    one_by_one,
    ratio,
    scaled,
    unstack,
)
from theory.families import generator
from theory.mle import cells, log_exceedance, replicate
from theory.quantities import expectation, hellinger_squared


@compiled
def _mean_hellinger(
    members: Float[Array, "K X Y"], truth: Float[Array, "X Y"], mu: Float[Array, " X"]
) -> Float[Array, " K"]:
    one = lambda member: expectation(mu, hellinger_squared(member, truth))
    return jax.vmap(one)(members)


def _loss_f1(i: Instance) -> Float[np.ndarray, " K"]:
    """E_mu D_H^2(pi_k, pi*), pi* being member 0."""
    members, mu = jnp.asarray(i["members"]), jnp.asarray(i["mu"])
    return np.asarray(_mean_hellinger(members, members[0], mu))


def tightest(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Both sides at the member where left/right is largest (right inf: never pihat)."""
    worst = np.argmax(ratio(left, right))
    return float(left[worst]), float(right[worst])


def lemma_f1(i: Instance, *, constant: float = 2.0) -> tuple[float, float]:
    """E_mu D_H^2(pihat, pi*) <= 2 log(|Pi|/rho)/n at every rho (Lem F.1)."""
    loss = _loss_f1(i)
    found = cells(i["members"][0], i["mu"], i["members"])
    log_f = log_exceedance(loss, loss, found, n=int(i["n"]))
    size = len(np.unique(i["members"], axis=0))  # a class is a set
    return tightest(loss, constant * (np.log(size) - log_f) / int(i["n"]))


def lemma_f1_sampled(batch: Batch, *, constant: float = 2.0) -> Sides:
    """P[ E_mu D_H^2(pihat, pi*) > 2 log(|Pi|/rho)/n ] <= rho, by replication."""
    intervals = []
    for i in unstack(batch):
        loss, n, trials = _loss_f1(i), int(i["n"]), int(i["replications"])
        found = cells(i["members"][0], i["mu"], i["members"])
        rng = np.random.default_rng(int(i["seed"]))
        drawn = replicate(rng, loss, found, n=n, replications=trials)
        over = drawn > constant * np.log(len(loss) / i["rho"]) / n
        intervals.append(clopper_pearson(int(over.sum()), trials, level=LEVEL))
    left, low, high = np.array(intervals).T
    queries = int(np.sum(batch["replications"] * batch["n"]))
    return Sides(left, batch["rho"], low, high, LEVEL, queries)


def _class(
    rng: np.random.Generator, *, k: int, x: int, y: int, scales: list[float]
) -> Float[np.ndarray, "K X Y"]:
    """A Dirichlet truth and k-1 members whose logits are moved by random scales."""
    logits = np.log(rng.dirichlet(np.full(y, 3.0), size=x))
    scale = np.concatenate([[0.0], rng.choice(scales, size=k - 1)])
    moved = logits + scale[:, None, None] * rng.normal(size=(k, x, y))
    return scipy.special.softmax(moved, axis=-1)


def _two_points(p: np.ndarray, q: np.ndarray, n: np.ndarray) -> Batch:
    """One prompt, two responses: truth (p, 1-p), the other member (q, 1-q)."""
    members = np.stack([np.stack([p, 1 - p], -1), np.stack([q, 1 - q], -1)], 1)
    return {"members": members[:, :, None], "mu": np.ones((len(p), 1)), "n": n}


def _attack_f1(key, effort: Effort) -> list[Batch]:
    """A grid of Bernoulli pairs, near pairs at large n, random classes at small n."""
    rng = generator(key)
    probabilities = np.array([0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.99, 1.0])
    grid = np.meshgrid(probabilities, probabilities, [1, 12, 400])
    p, q, n = (a.ravel() for a in grid)
    apart = p != q
    d = np.sqrt(np.array([5.0, 20.0, 80.0]) / 40_000)  # n D_H^2/2 of about 5, 20, 80
    near = _two_points(0.5 + d, 0.5 - d, np.full(3, 20_000))
    batches = [_two_points(p[apart], q[apart], n[apart].astype(int)), near]
    size = effort.instances // 4
    for x, y, k, draws in ((1, 3, 6, 12), (2, 2, 4, 12), (2, 3, 4, 8)):
        make = partial(_class, rng, k=k, x=x, y=y, scales=[0.1, 0.5, 2.0])
        members = np.stack([make() for _ in range(size)])
        mu = rng.dirichlet(np.ones(x), size=size)
        batches.append({"members": members, "mu": mu, "n": np.full(size, draws)})
    return batches


def _attack_f1_sampled(key, effort: Effort) -> list[Batch]:
    """32 members about as far from the truth as 300 prompts can tell, rho = 0.1."""
    rng, size = generator(key), 4
    make = partial(_class, rng, k=32, x=4, y=6, scales=[0.35])
    members = np.stack([make() for _ in range(size)])
    mu = rng.dirichlet(np.full(4, 10.0), size=size)
    seed = rng.integers(2**32, size=size)
    sampled = {"members": members, "mu": mu, "seed": seed}
    same = {"n": 300, "rho": 0.1, "replications": effort.replications}
    return [sampled | {name: np.full(size, value) for name, value in same.items()}]


_exact = one_by_one(lemma_f1)

CLAIMS = (
    Claim(
        "Lem F.1",
        "w.p. >= 1-rho: E_mu D_H^2(pihat, pi*) <= 2 log(|Pi|/rho)/n",
        "exact",
        _attack_f1,
        _exact,
        (Twin("0.9 x", scaled(_exact, 0.9)),),
    ),
    Claim(
        "Lem F.1 (32 members)",
        "the same for 32 members on 4 x 6 cells, n = 300, rho = 0.1 "
        "(the instances can rule out the constant 0.7, not 1)",
        "monte carlo",
        _attack_f1_sampled,
        lemma_f1_sampled,
        (Twin("0.7 for 2", partial(lemma_f1_sampled, constant=0.7)),),
    ),
)
