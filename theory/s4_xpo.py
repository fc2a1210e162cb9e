"""Claims about XPO with rewards over a finite class (Thm J.1), at its exact law.

The bound with its constants; R = R_max, V = V_max, L = log(2 |Pi| T/rho). With
f = beta log pi/pi_base - r the gap of pi^t is beta W_t + E^t[d_t], where
W_t = E_base[log pi^t - log pi*_beta]. Let Q_t = sum_{i<t} residual_i(pi^t)^2 and
S_t = sum_{i<t} E^i[d_t^2]. With probability 1-rho, for all t >= 2,
beta W_t <= 2 V sqrt(2L/(t-1)) - beta Q_t/(alpha(t-1)) by optimality and Hoeffding, and
S_t <= 2 Q_t + 16 (R+V)^2 L by Cor F.1. For any eta,
E^t[d_t] <= (E^t[d_t])^2/(2 eta M_t) + eta M_t/2 with M_t = max(lambda, S_t); while
eta <= beta/(alpha(T-1)) the Q_t cancel, and the mean over t = 2..T is at most
4 sqrt2 V sqrt(L/(T-1)) + SEC/(2 eta (T-1)) + eta (8 (R+V)^2 L + lambda/2). The best eta
is allowed for alpha <= 4 beta (R+V) sqrt(L/(SEC T)). No log T is lost.
"""

from decimal import Decimal, localcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.special

from jsharp.stats import clopper_pearson
from theory.claim import (
    LEVEL,
    Batch,
    Claim,
    Effort,
    Instance,
    Number,
    Sides,
    Twin,
    one_by_one,
    scaled,
    unstack,
)
from theory.families import generator
from theory.s4_mle import tightest
from theory.s4_sampling import NO_CONSTANT
from theory.xpo_law import (
    Problem,
    answer_law,
    answers,
    extrapolation,
    extrapolation_bound,
    problem,
)


def log_term(i: Instance) -> float:
    """L = log(2 |Pi| T/rho)."""
    return float(np.log(2 * len(i["members"]) * i["rounds"] / i["rho"]))


def exploration(i: Instance, p: Problem, dimension: float, *, power: int) -> float:
    """alpha = beta (R+V)^power sqrt(L/(SEC T)): power -1 as printed, 1 repaired."""
    root = np.sqrt(log_term(i) / (dimension * float(i["rounds"])))
    return float(i["beta"] * p.scale**power * root)


def certified_gap(i: Instance, p: Problem, alpha: float) -> float:
    """The least gap of an answer while every y' is response 0; 0 if that is too rare.

    Two members, one prompt. With probability base_0^(T-1) > rho all y' are response 0.
    If each such cell counts for member 0 against pi*_beta, then no iterate is pi*_beta.
    """
    losses = p.losses(alpha).reshape(2, *[i["base"].shape[1]] * 2)[..., 0]
    stuck = (losses[0] < losses[1]).all()
    log_chance = (float(i["rounds"]) - 1) * np.log1p(-i["base"][0, 1:].sum())
    certain = stuck and log_chance > np.log(i["rho"])
    return float(min(p.gap[0], p.gap[2])) if certain else 0.0


def printed(i: Instance, *, power: int = -1) -> tuple[float, float]:
    """beta KL <= c (R+V) sqrt(SEC L/T) for c = 1000 (Thm J.1; eps_disc = 0).

    SEC by its upper bound, which favours the claim: alpha is smaller, the right larger.
    """
    p = problem(i)
    found = extrapolation_bound(i, p)
    left = certified_gap(i, p, exploration(i, p, found, power=power))
    root = np.sqrt(found * log_term(i) / float(i["rounds"]))
    return left, NO_CONSTANT * p.scale * float(root)


def with_reach(i: Instance) -> tuple[float, float]:
    """The same data against `bound`, where V_max has a term of its own."""
    left, _ = printed(i)
    p = problem(i)
    return left, bound(i, p, extrapolation_bound(i, p), log_term(i))


class Decimals(NamedTuple):
    """What `printed` computes, in 50-digit decimals."""

    stuck: bool  # the hypotheses of `certified_gap`
    gap: Decimal
    scale: Decimal  # R_max + V_max
    found: Decimal  # the bound of SEC
    log_term: Decimal


def decimals(i: Instance, *, least_reward: Decimal = Decimal(0)) -> Decimals:
    """Two responses, two members; R_max is at least `least_reward`."""
    number = lambda value: Decimal(float(value))
    beta, rho, rounds = (number(i[n]) for n in ("beta", "rho", "rounds"))
    rows = (list(map(number, row)) for row in (i["base"][0], i["members"][0, 0]))
    base, other = ([v / sum(row) for v in row] for row in rows)
    reward = list(map(number, i["reward"][0]))
    star = [p * (r / beta).exp() for p, r in zip(base, reward, strict=True)]
    star = [v / sum(star) for v in star]
    kl = lambda p: sum(v * (v / s).ln() for v, s in zip(p, star, strict=True))
    apart = beta * (other[0] / star[0] * star[1] / other[1]).ln()
    first = ((other[0] - base[0]) * apart) ** 2
    second = (other[0] * base[1] + other[1] * base[0]) * apart**2
    ratios = [m / b for q in (other, star) for m, b in zip(q, base, strict=True)]
    scale = max(*map(abs, reward), least_reward)
    scale += beta * max(abs(ratio.ln()) for ratio in ratios)
    found = first / scale**2 + first / second * (1 + rounds.ln())
    term = (4 * rounds / rho).ln()
    gain = beta / scale * (term / (found * rounds)).sqrt() * (star[0] / other[0]).ln()
    stuck = gain > apart**2 and (rounds - 1) * base[0].ln() > rho.ln()
    gap = Decimal(beta * min(kl(base), kl(other)))
    return Decimals(stuck, gap, scale, found, term)


def exact_printed(i: Instance) -> tuple[Number, Number]:
    """Both sides of `printed` in decimals."""
    with localcontext(prec=50):
        d, rounds = decimals(i), Decimal(float(i["rounds"]))
        root = (d.found * d.log_term / rounds).sqrt()
        return d.gap if d.stuck else Decimal(0), Decimal(NO_CONSTANT) * d.scale * root


def bound(i: Instance, p: Problem, found: float, term: float) -> float:
    """(4 sqrt2 V + sqrt(17 SEC) (R+V)) sqrt(L/(T-1)): Thm J.1 with its constants.

    lambda = (R+V)^2 is at most (R+V)^2 L; T >= 2.
    """
    constant = 4 * np.sqrt(2) * p.ratio_max + np.sqrt(17 * found) * p.scale
    return float(constant * np.sqrt(term / (float(i["rounds"]) - 1)))


def theorem_j1(i: Instance, *, reach: float = 1.0) -> tuple[float, float]:
    """beta KL(pihat||pi*_beta) <= `bound` at every rho at once (Thm J.1, repaired).

    alpha = share beta (R+V) sqrt(L/(SEC T)) with L at rho = 1 is allowed at every rho
    for share <= 4. With F = P[gap >= g] from the exact law, the claim says
    g <= bound(F) for each gap g of an iterate; the tightest is returned. `reach` < 1
    plants a V_max that is too small.
    """
    p, at_one = problem(i), i | {"rho": np.array(1.0)}
    found = extrapolation(i, p)
    alpha = float(i["share"]) * exploration(at_one, p, found, power=1)
    law = answer_law(p, alpha=alpha, rounds=int(i["rounds"]))
    order = np.argsort(-p.gap)
    gap, tail = p.gap[order], np.cumsum(law[order])
    shrunk = p._replace(ratio_max=reach * p.ratio_max)
    with np.errstate(divide="ignore"):
        terms = log_term(at_one) - np.log(tail)
    return tightest(gap, np.array([bound(i, shrunk, found, t) for t in terms]))


def theorem_j1_sampled(batch: Batch, *, power: int | None = 1) -> Sides:
    """P[gap > `bound`] <= rho at alpha = beta (R+V) sqrt(L/(max(SEC,1) T)).

    `power` -1 is the printed alpha, None is alpha = 0.
    """
    intervals = []
    for i in unstack(batch):
        p = problem(i)
        found = extrapolation(i, p)
        none = power is None
        found_at = answers(
            np.random.default_rng(int(i["seed"])),
            p,
            alpha=0.0 if none else exploration(i, p, max(found, 1.0), power=power),
            rounds=int(i["rounds"]),
            replications=int(i["replications"]),
        )
        over = int((p.gap[found_at] > bound(i, p, found, log_term(i))).sum())
        intervals.append(clopper_pearson(over, len(found_at), level=LEVEL))
    left, low, high = np.array(intervals).T
    queries = int(np.sum(2 * batch["replications"] * batch["rounds"]))
    return Sides(left, batch["rho"], low, high, LEVEL, queries)


def _batch(
    base: np.ndarray, other: np.ndarray, reward: np.ndarray, **scalars: np.ndarray
) -> Batch:
    """One prompt, the class {other, pi*_beta}; rows [B Y], scalars [B]."""
    tilted = np.log(base) + reward / scalars["beta"][:, None]
    members = np.stack([other, scipy.special.softmax(tilted, axis=-1)], 1)
    tables = {"members": members[:, :, None], "base": base[:, None]}
    tables |= {"reward": reward[:, None], "mu": np.ones((len(base), 1))}
    return tables | scalars


def _small_scale(key, effort: Effort) -> list[Batch]:
    """base = (1-q, q), pi*_beta = (1, 1)/2, other = (1, 3)/4, r = (0, c).

    q = 1/(2T), c = T^(-1/2), T = 2^4 .. 2^60, rho = 0.1.
    """
    del key, effort
    rounds = 2.0 ** np.arange(4, 61, 4)
    q, c = 0.5 / rounds, rounds**-0.5
    zero, same = np.zeros_like(q), np.ones_like(q)
    return [
        _batch(
            np.stack([1 - q, q], -1),
            np.stack([same / 4, 3 * same / 4], -1),
            np.stack([zero, c], -1),
            beta=c / (np.log1p(-q) - np.log(q)),
            rounds=rounds,
            rho=0.1 * same,
        )
    ]


def small_sec(effort: Effort) -> Batch:
    """base = (2, 1)/3, r = log base, beta = 1/6, other = base + (h, -h), T = 2.

    pi*_beta = (128, 1)/129; h = 2^-3 .. 2^-17, rho = 0.1.
    """
    del effort
    h = 2.0 ** -np.arange(3, 18)
    base = np.broadcast_to(np.array([2.0, 1.0]) / 3, (len(h), 2))
    scalars = {"beta": 1 / 6, "rounds": 2.0, "rho": 0.1}
    scalars = {name: np.full(len(h), value) for name, value in scalars.items()}
    return _batch(base, base + np.stack([h, -h], -1), np.log(base), **scalars)


def _small_secs(key, effort: Effort) -> list[Batch]:
    del key
    return [small_sec(effort)]


def _near_base(rounds: int) -> Batch:
    """Log-odds z of pi_base, z + far of pi*_beta, z + near of the other member."""
    z, far, near = (
        a.ravel() for a in np.meshgrid([0.0, -1.0, -2.0], [2.0, 4.0, 8.0], [1e-2, 1e-4])
    )
    reward = np.stack([far, -far], -1) / 2  # beta = 1
    scalars = {"beta": 1.0, "rounds": rounds, "share": 1.0}
    scalars = {name: np.full(len(z), value) for name, value in scalars.items()}
    pair = lambda odds: scipy.special.expit(np.stack([odds, -odds], -1))
    return _batch(pair(z), pair(z + near), reward, **scalars)


def _random_classes(
    rng: np.random.Generator, *, size: int, k: int, x: int, y: int, rounds: int
) -> Batch:
    """Dirichlet bases, normal rewards; members between pi_base and far from both."""
    base = rng.dirichlet(np.full(y, 2.0), size=(size, x))
    beta, reward = rng.choice([0.1, 0.5, 2.0], size), rng.normal(size=(size, x, y))
    tilt = np.concatenate([rng.normal(size=(size, k - 1)), np.ones((size, 1))], 1)
    noise = rng.normal(size=(size, k, x, y)) * rng.choice([0, 0.3, 2], (size, k, 1, 1))
    noise[:, -1] = 0.0
    logits = np.log(base)[:, None] + noise
    logits += (tilt / beta[:, None])[:, :, None, None] * reward[:, None]
    return {
        "members": scipy.special.softmax(logits, axis=-1),
        "base": base,
        "reward": reward,
        "mu": rng.dirichlet(np.ones(x), size=size),
        "beta": beta,
        "rounds": np.full(size, rounds),
    }


def _attack_exact(key, effort: Effort) -> list[Batch]:
    """Members near pi_base at T = 8 and 48; random classes with share up to 4."""
    rng, size = generator(key), effort.instances
    batches = [_near_base(8), _near_base(48)]
    for k, x, y, rounds in ((4, 1, 2, 12), (3, 1, 3, 5), (3, 2, 2, 5)):
        found = _random_classes(rng, size=size // 4, k=k, x=x, y=y, rounds=rounds)
        batches.append(found | {"share": rng.choice([0.01, 0.3, 1.0, 4.0], size // 4)})
    return batches


def _attack_sampled(key, effort: Effort) -> list[Batch]:
    """Where exploration is needed; where the printed alpha explores too much; random.

    Only the first two can fail: random classes have no gap above `bound` at T = 256.
    With q = 1e-5: base = (1-2q, q, q), pi*_beta near (q, 1-2q, q). The other member is
    near pi_base at T = 2048, or (q/10, q, 1-1.1q) at T = 32768 and rewards of 1e-4.
    """
    rng, q = generator(key), 1e-5
    base = np.array([1 - 2 * q, q, q])
    near, far = np.array([1 - 2.2 * q, 1.1 * q, 1.1 * q]), np.array([q / 10, q, 1])
    rows = np.stack([near, far / far.sum()])
    scale = np.array([1.0, 1e-4])
    reward = scale[:, None] * np.array([[-0.5, 0.5, 0.0]])
    beta = -scale / (2 * np.log(q))
    hard = _batch(
        np.stack([base] * 2), rows, reward, beta=beta, rounds=np.array([2048, 32768])
    )
    random = _random_classes(rng, size=4, k=2, x=1, y=3, rounds=256)
    batches = []
    for batch in (hard, random):
        size = len(batch["beta"])
        seeds = {"seed": rng.integers(2**32, size=size), "rho": np.full(size, 0.1)}
        runs = np.full(size, effort.replications // 10)
        batches.append(batch | seeds | {"replications": runs})
    return batches


_printed = one_by_one(printed)
_exact = one_by_one(theorem_j1)

CLAIMS = (
    Claim(
        "Thm J.1",
        "alpha = (beta/(R+V)) sqrt(L/(SEC T)), L = log(2 |Pi| T/rho): w.p. >= 1-rho, "
        "beta KL(pihat||pi*_beta) <~ (R+V) sqrt(SEC L/T)",
        "exact",
        _small_scale,
        _printed,
        (
            Twin(
                "beta (R+V) for beta/(R+V)",
                one_by_one(partial(printed, power=1)),
                "holds",
            ),
        ),
        expected="fails",
        exact=exact_printed,
    ),
    Claim(
        "Thm J.1 (repaired)",
        "alpha = beta (R+V) sqrt(L/(max(SEC,1) T)), T in the thousands: w.p. >= 1-rho, "
        "beta KL <= (4 sqrt2 V + sqrt(17 SEC) (R+V)) sqrt(L/(T-1))",
        "monte carlo",
        _attack_sampled,
        theorem_j1_sampled,
        (
            Twin("alpha as printed", partial(theorem_j1_sampled, power=-1)),
            Twin("alpha = 0", partial(theorem_j1_sampled, power=None)),
        ),
        repairs="Thm J.1",
    ),
    Claim(
        "Thm J.1 (SEC < 1)",
        "the same with R+V >= 1 and SEC < 1",
        "exact",
        _small_secs,
        _printed,
        (Twin("4 sqrt2 V sqrt(L/(T-1)) added", one_by_one(with_reach), "holds"),),
        expected="fails",
        exact=exact_printed,
    ),
    Claim(
        "Thm J.1 (SEC < 1, repaired)",
        "alpha <= 4 beta (R+V) sqrt(L/(SEC T)), T <= 48, every rho: w.p. >= 1-rho, "
        "beta KL <= (4 sqrt2 V + sqrt(17 SEC) (R+V)) sqrt(L/(T-1)) "
        "(the instances can rule out 0.15 of it, not more)",
        "exact",
        _attack_exact,
        _exact,
        (
            Twin("0.15 x", scaled(_exact, 0.15)),
            Twin("0.1 V for V", one_by_one(partial(theorem_j1, reach=0.1))),
        ),
        repairs="Thm J.1 (SEC < 1)",
    ),
)
