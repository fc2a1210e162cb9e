"""XPO with rewards over a finite class (Alg 1): its exact law, its runs, its SEC.

    pi^1 = pi_base;  x ~ mu, y ~ pi^t, y' ~ pi_base
    pi^{t+1} = argmin_pi  alpha sum log pi(y'|x) + sum residual(pi; x, y, y')^2

The answer is the iterate of largest J_beta among pi^1..pi^T, that is, of least gap
beta KL(pi||pi*_beta), computed and not estimated. The objective depends on the data
only through how often each (x, y, y') came: for small T the counts are enumerated, for
larger T the runs are replicated.
"""

from functools import cache, partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from theory import sec
from theory.claim import Instance, compiled
from theory.quantities import log_tilt


class Problem(NamedTuple):
    """What XPO is run on; iterate K, behind the K members, is pi_base.

    There are I = K+1 iterates and C cells, the triples (x, y, y') that pi_base allows.
    """

    gap: Float[np.ndarray, " I"]  # beta KL(pi||pi*_beta), mean over mu
    draw: Float[np.ndarray, "I C"]  # probability of a cell while pi^t is this one
    residual: Float[np.ndarray, "K C"]
    log_prob: Float[np.ndarray, "K C"]  # of y'
    reward_max: float  # R_max
    ratio_max: float  # V_max, of beta log pi/pi_base

    @property
    def scale(self) -> float:
        return self.reward_max + self.ratio_max

    def losses(self, alpha: float) -> Float[np.ndarray, "K C"]:
        """alpha log pi(y'|x) + residual^2 of each cell (Alg 1, sign +)."""
        return alpha * self.log_prob + self.residual**2


def problem(i: Instance) -> Problem:
    """The cells of members [K X Y], base [X Y], reward [X Y], mu [X] and beta.

    Raises ValueError unless every policy has the support of the base.
    """
    members, base, beta = i["members"], i["base"], float(i["beta"])
    if not ((members > 0) == (base > 0)).all():
        raise ValueError("expected members with the support of the base")
    inside = base > 0
    log = lambda p: np.log(np.where(p > 0, p, 1.0))
    every = np.concatenate([members, base[None]])
    shift = beta * (log(every) - log(base)) - np.where(inside, i["reward"], 0.0)
    star = np.asarray(log_tilt(jnp.asarray(base), jnp.asarray(i["reward"]), beta=beta))
    to_star = np.where(inside, log(every) - np.where(inside, star, 0.0), 0.0)
    cells = inside[:, :, None] & inside[:, None, :]
    pair = i["mu"][:, None] * base
    return Problem(
        gap=beta * np.maximum((every * to_star).sum(-1) @ i["mu"], 0.0),
        draw=(every[..., None] * pair[:, None])[:, cells],
        residual=(shift[:-1, ..., None] - shift[:-1, :, None])[:, cells],
        log_prob=np.broadcast_to(
            log(members)[:, :, None], (len(members), *cells.shape)
        )[:, cells],
        reward_max=float(np.abs(np.where(inside, i["reward"], 0.0)).max()),
        ratio_max=float(np.abs(beta * (log(members) - log(base))).max()),
    )


def answer_law(p: Problem, *, alpha: float, rounds: int) -> Float[np.ndarray, " I"]:
    """P[the answer of XPO is iterate k], over all data of `rounds` rounds, exactly.

    Ties of the objective go to the first member, as in `update.finite_class`. Raises
    ValueError where the counts of the cells have no 62-bit code.
    """
    losses, width = p.losses(alpha), p.draw.shape[1]
    if len(p.gap) * (rounds + 1) ** width >= 2**62:
        raise ValueError(
            "expected len(gap) (rounds+1)^cells < 2^62, found "
            f"{width} cells and {rounds} rounds"
        )
    code = (rounds + 1) ** np.arange(width) * len(p.gap)
    counts, chance = np.zeros((1, width), np.int64), np.ones(1)
    best = np.full(1, len(losses))
    law = np.zeros(len(p.gap))
    for t in range(rounds):
        now = np.argmin(counts @ losses.T, axis=1) if t else best
        best = np.where(p.gap[now] < p.gap[best], now, best)
        done = (p.gap[best] == p.gap.min()) | (t == rounds - 1)
        law += np.bincount(best, np.where(done, chance, 0.0), minlength=len(law))
        going = np.flatnonzero(~done)
        more = counts[going][:, None] + np.eye(width, dtype=int)[None]
        more = more.reshape(-1, width)
        spread = (chance[going][:, None] * p.draw[now[going]]).ravel()
        held = np.repeat(best[going], width)
        _, first, same = np.unique(
            more @ code + held, return_index=True, return_inverse=True
        )
        counts, best = more[first], held[first]
        chance = np.bincount(same, spread, minlength=len(first))
    return law


def answers(
    rng: np.random.Generator,
    p: Problem,
    *,
    alpha: float,
    rounds: int,
    replications: int,
) -> Int[np.ndarray, " R"]:
    """The answer of each of R independent runs of `rounds` rounds.

    A run that has met the least gap is over: its answer cannot change any more.
    """
    losses, cumulative = p.losses(alpha).T, np.cumsum(p.draw, axis=1)[:, :-1]
    answer = np.full(replications, len(p.gap) - 1)
    alive = np.arange(replications)
    total = np.zeros((replications, losses.shape[1]))
    now = answer
    for t in range(rounds):
        now = np.argmin(total, axis=1) if t else now
        better = p.gap[now] < p.gap[answer[alive]]
        answer[alive[better]] = now[better]
        going = p.gap[now] > p.gap.min()
        alive, total, now = alive[going], total[going], now[going]
        cell = (rng.random(len(now))[:, None] > cumulative[now]).sum(1)
        total += losses[cell]
    return answer


@cache
def _sec(horizon: int):
    return compiled(partial(sec.sec, horizon=horizon))


_sec_bound = compiled(sec.sec_bound)


def _tables(i: Instance, p: Problem) -> tuple[tuple, dict]:
    """What SEC depends on: pi*_beta, the last member, has d = 0 and adds nothing.

    lambda = (R_max+V_max)^2. Raises ValueError unless the last member is pi*_beta.
    """
    if p.gap[-2] > 1e-9 * (p.scale + float(i["beta"])):
        raise ValueError(f"expected pi*_beta as the last member, found gaps {p.gap}")
    tables = (i["members"][:-1], i["base"], i["reward"], i["mu"])
    scalars = {"beta": float(i["beta"]), "lam": p.scale**2}
    as_jax = lambda value: jnp.asarray(value, float)
    return tuple(map(as_jax, tables)), {n: as_jax(v) for n, v in scalars.items()}


def extrapolation(i: Instance, p: Problem) -> float:
    """SEC (Def J.1) at T = `rounds` and lambda = (R_max+V_max)^2, exactly."""
    tables, scalars = _tables(i, p)
    return float(_sec(int(i["rounds"]))(*tables, **scalars))


def extrapolation_bound(i: Instance, p: Problem) -> float:
    """`sec.sec_bound` of the same, for T beyond enumeration."""
    tables, scalars = _tables(i, p)
    rounds = jnp.asarray(float(i["rounds"]))
    return float(_sec_bound(*tables, horizon=rounds, **scalars))
