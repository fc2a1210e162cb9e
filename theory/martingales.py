"""Martingale bounds, exactly: Freedman's inequality Lem F.3, and Cor F.1.

With R = 1 (divide Z_t and 1/eta by R) each says that a walk that starts at a distance c
from its goal and moves towards it by gain_t, a function of Z_t and its conditional law,
is beyond the goal after T steps with probability at most delta:

    Lem F.3   gain = Z - eta E[Z^2|F],  c = log(1/delta)/eta,  |Z| <= 1, E[Z|F] = 0
    Cor F.1   gain = E[Z|F] - 2 Z,      c = 4 log(1/delta),    0 <= Z <= 1

The adversary knows the past, so its best play is a function of distance and time. Over
two-point laws that move between points of a lattice it is found by backward induction:
`left` is the exact probability of one martingale. The event is strict, hence the goal
is put a factor 1 + 1e-9 beyond c.

How tight they are. As delta -> 1 both sides tend to 1, and so does their ratio, which
says nothing of the constants. For small delta the left sides are delta^k up to
constants: exp(theta sum gain) is a supermartingale as long as

    Lem F.3   (e^theta - 1 - theta)/theta <= eta:  k = theta/eta, from 2 (eta -> 0) to
              1.2564 (eta -> 1); and e-2 times E[Z^2] would do, no less at eta -> 1
    Cor F.1   theta <= 1 - e^(-2 theta):  k = 4 theta = 3.187; and 1.2551 for 4 would do
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from theory.claim import (
    Batch,
    Claim,
    Effort,
    Instance,
    Twin,
    one_by_one,
    scaled,
)
from theory.families import generator


class Steps(NamedTuple):
    """Two-point laws of Z, as moves on a lattice of distances to the goal.

    Z = rise with probability `chance`, which brings the goal nearer by `up` points;
    else Z = fall, and it is `down` points farther.
    """

    up: Int[np.ndarray, " A"]
    down: Int[np.ndarray, " A"]
    chance: Float[np.ndarray, " A"]
    rise: Float[np.ndarray, " A"]
    fall: Float[np.ndarray, " A"]


def _moves(h: float, reach: int, far: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (up, down); down = far + 1, off the lattice, is tried at every size."""
    up = np.arange(1, min(reach, int(1 / h)) + 1)
    down = np.arange(1, min(far, int(2 / h)) + 1)
    up, down = np.meshgrid(up, down, indexing="ij")
    return up.ravel(), down.ravel()


def freedman_steps(*, h: float, start: int, far: int, price: float) -> Steps:
    """Mean-zero Z on {a, -b}: a - price a b = up h, b + price a b = down h (Lem F.3).

    The variance is a b; of the two roots the smaller b is the one below 1/price. The
    last laws have b = 1: all is staked, and what is left if it is lost is not used.
    """
    up, down = _moves(h, start, far)
    u, w = up * h, down * h
    s = 1 + price * (u + w)
    b = (s - np.sqrt(s * s - 4 * price * w)) / (2 * price)
    last = np.arange(1, start + 1)
    up, down = np.append(up, last), np.append(down, np.full(start, far + 1))
    b = np.append(b, np.ones(start))
    a = up * h / (1 - price * b)
    ok = (a <= 1) & (b <= 1)
    return Steps(up[ok], down[ok], (b / (a + b))[ok], a[ok], -b[ok])


def corollary_steps(*, h: float, start: int, far: int) -> Steps:
    """Z on {0, z}, E[Z] = up h, 2 z - E[Z] = down h, z <= 1 (Cor F.1).

    The goal comes nearer when Z = 0. Of all two-point laws that make these moves this
    one has the largest chance: (down h - E[Z])/(up h + down h), E[Z] >= up h.
    """
    up, down = _moves(h, start, far)
    last = np.arange(1, start + 1)
    z = np.append((up + down) * h / 2, np.ones(start))
    up, down = np.append(up, last), np.append(down, np.full(start, far + 1))
    ok = (z <= 1) & (up * h <= z)
    zero = np.zeros(ok.sum())
    return Steps(up[ok], down[ok], (1 - up * h / z)[ok], zero, z[ok])


class Strategy(NamedTuple):
    """The best play: its probability, and the step at [t, distance]; -1 is Z = 0."""

    value: float
    choice: Int[np.ndarray, "T L"]


def best_strategy(steps: Steps, *, start: int, far: int, horizon: int) -> Strategy:
    """The largest probability of getting from `start` to 0 or beyond in T steps.

    Backward induction W_t(i) = max( W_{t+1}(i), max over steps of E[W_{t+1}(i')] ),
    W = 1 at i <= 0 and, as a lower bound, W = 0 beyond `far`.
    """
    place = np.arange(1, far + 1)[:, None]
    above = np.maximum(place - steps.up, 0)
    below = np.minimum(place + steps.down, far + 1)
    value, choices = np.append(1.0, np.zeros(far + 1)), []
    for _ in range(horizon):
        mixed = steps.chance * value[above] + (1 - steps.chance) * value[below]
        best = mixed.argmax(-1)
        gain = mixed[np.arange(far), best]
        better = gain > value[1:-1]
        choices.append(np.append(-1, np.where(better, best, -1)))
        value = value.copy()
        value[1:-1] = np.where(better, gain, value[1:-1])
    return Strategy(float(value[start]), np.array(choices[::-1]))


class Game(NamedTuple):
    """A claim as a walk: the steps, where it starts, and the lattice's spacing."""

    steps: Steps
    start: int
    far: int
    h: float


def freedman_game(i: Instance, *, variance: float = 1.0, log: float = 1.0) -> Game:
    """Lem F.3 with `variance` eta for eta, `log` log(1/delta) for log(1/delta)."""
    start, h = _lattice(i, log * -np.log(float(i["delta"])) / float(i["eta"]))
    price = variance * float(i["eta"])
    steps = freedman_steps(h=h, start=start, far=2 * start, price=price)
    return Game(steps, start, 2 * start, h)


def corollary_game(i: Instance, *, constant: float = 4.0) -> Game:
    """Cor F.1 with `constant` for 4."""
    start, h = _lattice(i, constant * -np.log(float(i["delta"])))
    steps = corollary_steps(h=h, start=start, far=2 * start)
    return Game(steps, start, 2 * start, h)


def _lattice(i: Instance, c: float) -> tuple[int, float]:
    """At least `points` steps to the goal, none longer than 2.4/points."""
    goal = c * (1 + 1e-9)
    start = max(int(i["points"]), int(np.ceil(goal * int(i["points"]) / 2.4)))
    return start, goal / start


def _wins(i: Instance, *, game=freedman_game, **planted) -> tuple[float, float]:
    """P[the best adversary passes the goal] <= delta."""
    g = game(i, **planted)
    found = best_strategy(g.steps, start=g.start, far=g.far, horizon=int(i["steps"]))
    return found.value, float(i["delta"])


def _attack_games(key, effort: Effort) -> list[Batch]:
    """delta from 1e-4 to nearly 1, eta from 0.1 (0.003 where delta > 0.99) to nearly 1,
    T of 1, 10 and more."""
    rng = generator(key)
    drawn = effort.instances // 4
    delta = np.array([0.999, 0.99, 0.9, 0.5, 0.1, 0.01, 1e-4])
    grid = np.meshgrid(delta, [0.3, 0.999], [1, 10, effort.starts * 3])
    delta, eta, steps = (a.ravel() for a in grid)
    uniform = rng.uniform(1e-3, 1, size=(2, drawn))
    steps = np.append(steps, np.resize([3, 10, 50], drawn)).astype(int)
    points = np.full(len(steps), 16 if effort.starts < 100 else 32)
    delta, eta = np.append(delta, uniform[0]), np.append(eta, 0.1 + 0.9 * uniform[1])
    eta = np.where(delta > 0.99, eta * rng.choice([1.0, 0.1, 0.01], len(eta)), eta)
    return [{"delta": delta, "eta": eta, "steps": steps, "points": points}]


# ---- the same bounds for long runs of independent draws


def freedman_iid(i: Instance, *, variance: float = 1.0) -> tuple[float, float]:
    """P[ sum Z > eta T a b + log(1/delta)/eta ] <= delta, Z on {a, -b} (Lem F.3)."""
    a, b, eta, steps = (float(i[name]) for name in ("a", "b", "eta", "steps"))
    delta = float(i["delta"])
    level = variance * eta * steps * a * b - np.log(delta) / eta
    return _more_than((level + b * steps) / (a + b), steps, b / (a + b)), delta


def corollary_iid(i: Instance, *, constant: float = 4.0) -> tuple[float, float]:
    """P[ T q > 2 sum Z + 4 log(1/delta) ] <= delta, Z Bernoulli of mean q (Cor F.1)."""
    steps, q, delta = (float(i[name]) for name in ("steps", "q", "delta"))
    most = (steps * q + constant * np.log(delta)) / 2
    return _more_than(steps - most, steps, 1 - q), delta


def _more_than(level: float, steps: float, chance: float) -> float:
    """P[Bin(T, p) > level]; a level just short of an integer counts as reached."""
    return float(scipy.stats.binom.sf(np.floor(level * (1 + 1e-12)), steps, chance))


def _attack_freedman_iid(key, effort: Effort) -> list[Batch]:
    """Z on {a, -b}: the number of steps T near c/(eta a b), up to 10^7, and T = 1."""
    del key, effort
    delta = [0.999, 0.9, 0.5, 0.1, 0.01, 1e-4, 1e-8]
    axes = [delta, [0.01, 0.3, 0.999], [0.01, 1.0], [0.01, 0.1, 1.0], [0.3, 1, 3]]
    delta, eta, a, b, scale = (x.ravel() for x in np.meshgrid(*axes))
    steps = np.ceil(scale * -np.log(delta) / (eta**2 * a * b))
    found = {
        "delta": delta,
        "eta": eta,
        "a": a,
        "b": b,
        "steps": np.minimum(steps, 1e7),
    }
    once = {"delta": [0.99, 0.999], "eta": [0.5, 0.5], "a": [0.021, 0.0021]}
    once |= {"b": [1.0, 1.0], "steps": [1.0, 1.0]}
    return [{n: np.append(found[n], once[n]) for n in found}]


def _attack_corollary_iid(key, effort: Effort) -> list[Batch]:
    """Bernoulli q, T q from 0.4 to 10 times 4 log(1/delta): up to T = 10^8."""
    del key, effort
    delta = [0.999, 0.99, 0.9, 0.5, 0.1, 0.01, 1e-4, 1e-8]
    axes = [delta, [1e-6, 1e-3, 0.1, 0.5, 1.0], [0.42, 1.001, 1.1, 2, 3, 10]]
    delta, q, scale = (x.ravel() for x in np.meshgrid(*axes))
    steps = np.ceil(scale * -4 * np.log(delta) / q)
    return [{"delta": delta, "q": q, "steps": steps}]


_corollary = partial(_wins, game=corollary_game)
_freedman_sides, _corollary_sides = one_by_one(_wins), one_by_one(_corollary)
_freedman_iid, _corollary_iid = one_by_one(freedman_iid), one_by_one(corollary_iid)

CLAIMS = (
    Claim(
        "Lem F.3",
        "w.p. >= 1-delta: sum Z_t <= eta sum E[Z_t^2|F_{t-1}] + log(1/delta)/eta "
        "(e-2 for the 1 before eta would do)",
        "exact",
        _attack_games,
        _freedman_sides,
        (
            Twin("0.9 delta", scaled(_freedman_sides, 0.9)),
            Twin("0.6 eta", one_by_one(partial(_wins, variance=0.6))),
            Twin("0.7 log(1/delta)", one_by_one(partial(_wins, log=0.7))),
        ),
    ),
    Claim(
        "Lem F.3 (i.i.d.)",
        "the same for up to 10^7 independent draws, whose law is binomial",
        "exact",
        _attack_freedman_iid,
        _freedman_iid,
        (
            Twin("0.9 delta", scaled(_freedman_iid, 0.9)),
            Twin("0.3 eta", one_by_one(partial(freedman_iid, variance=0.3))),
        ),
    ),
    Claim(
        "Cor F.1",
        "w.p. >= 1-delta: sum E[Z_t|F_{t-1}] <= 2 sum Z_t + 4R log(1/delta) "
        "(1.2551 for 4 would do)",
        "exact",
        _attack_games,
        _corollary_sides,
        (
            Twin("0.9 delta", scaled(_corollary_sides, 0.9)),
            Twin("R for 4R", one_by_one(partial(_corollary, constant=1.0))),
        ),
    ),
    Claim(
        "Cor F.1 (i.i.d.)",
        "the same for up to 10^8 independent draws, whose law is binomial",
        "exact",
        _attack_corollary_iid,
        _corollary_iid,
        (
            Twin("0.9 delta", scaled(_corollary_iid, 0.9)),
            Twin("R for 4R", one_by_one(partial(corollary_iid, constant=1.0))),
        ),
    ),
)
