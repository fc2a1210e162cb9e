"""What NumPy does best: the peers that `simulator` is measured against.

Every shortcut of the simulator that NumPy can express is here too, on tables that are
sorted beforehand, without ties; beside it, the honest loop that draws everything.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Tables(NamedTuple):
    """Rows over prompts, places in the order of the score, the best response first."""

    pi: Float[np.ndarray, "X Y"]  # in the order of responses
    response: Int[np.ndarray, "X Y"]  # at each place
    mass: Float[np.ndarray, "X Y"]  # of each place
    reach: Float[np.ndarray, "X Y"]  # mass of this place and better ones
    low: Float[np.ndarray, "X Y"]  # height before the place
    height: Float[np.ndarray, "X Y"]  # -log(mass of worse places)


class Rule(NamedTuple):
    """Eq 10 prepared: from which draw each place is accepted, and its hazards."""

    mu: float
    first: Float[np.ndarray, "X Y"]
    hazard: Float[np.ndarray, "X Y"]
    before: Float[np.ndarray, "X Y"]


def prepare(pi: Float[np.ndarray, "X Y"]) -> Tables:
    """Sort each row by its own probability: ML sharpening."""
    response = np.argsort(-pi, axis=1)
    mass = np.take_along_axis(pi, response, axis=1)
    reach = np.cumsum(mass, axis=1)
    worse = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(divide="ignore"):
        height = -np.log(np.pad(worse[:, 1:], ((0, 0), (0, 1))))
    low = np.pad(height[:, :-1], ((0, 0), (1, 0)))
    return Tables(pi, response, mass, reach, low, height)


def prepare_rule(tables: Tables, mu: float) -> Rule:
    """k_j = max(1, ceil(mu/v_j)), and -log P[N >= k_{j+1}] = (k_{j+1}-1) h_j."""
    first = np.maximum(1.0, np.ceil(mu / tables.mass))
    upcoming = np.pad(first[:, 1:], ((0, 0), (0, 1)), constant_values=np.inf)
    closes = first < upcoming
    group = lambda a: np.maximum.accumulate(np.where(closes, a, 0.0), axis=1)
    held = group(tables.height)[:, :-1]
    hazard = group((upcoming - 1) * tables.height).astype(tables.pi.dtype)
    return Rule(
        mu, first.astype(tables.pi.dtype), hazard, np.pad(held, ((0, 0), (1, 0)))
    )


def draw_loop(rng: np.random.Generator, tables: Tables, n: int, trials: int):
    """All n responses by inverse CDF, their scores, the best: [X R]."""
    cumulative = np.cumsum(tables.pi, axis=1)
    cumulative /= cumulative[:, -1:]
    best = np.empty((len(tables.pi), trials), np.int64)
    for x, row in enumerate(cumulative):
        drawn = np.searchsorted(row, rng.random((trials, n), row.dtype), side="right")
        chosen = tables.pi[x][drawn].argmax(1)
        best[x] = np.take_along_axis(drawn, chosen[:, None], axis=1)[:, 0]
    return best


def least_of_uniforms(rng: np.random.Generator, tables: Tables, n: int, trials: int):
    """n uniforms, the least of them, one search among the sorted responses: [X R]."""
    best = np.empty((len(tables.pi), trials), np.int64)
    for x, row in enumerate(tables.reach):
        least = rng.random((trials, n), row.dtype).min(1)
        place = np.searchsorted(row, least * row[-1], side="right")
        best[x] = tables.response[x][place]
    return best


def order_statistic(rng: np.random.Generator, tables: Tables, n: int, trials: int):
    """One exponential over n, one search among the heights: [X R]."""
    waits = rng.standard_exponential((len(tables.pi), trials), tables.pi.dtype)
    waits /= n
    best = np.empty(waits.shape, np.int64)
    for x, row in enumerate(tables.height):
        best[x] = tables.response[x][np.searchsorted(row, waits[x], side="right")]
    return best


def adaptive_blocks(
    rng: np.random.Generator, tables: Tables, rule: Rule, trials: int, *, block: int
):
    """Eq 10 by drawing: blocks for the trials that go on. Returns yhat, N: [X R]."""
    shape = (len(tables.pi), trials)
    best, time = np.empty(shape, np.int64), np.zeros(shape)
    for x, row in enumerate(tables.reach):
        going, place, seen = np.arange(trials), np.full(trials, len(row)), 0
        while len(going):
            u = rng.random((len(going), block), row.dtype) * row[-1]
            drawn = np.searchsorted(row, u, side="right")
            drawn[:, 0] = np.minimum(drawn[:, 0], place)
            running = np.minimum.accumulate(drawn, axis=1)
            k = seen + np.arange(1, block + 1)
            accepted = rule.first[x][running] <= k
            stops, at = accepted.any(1), accepted.argmax(1)
            where = going[stops]
            best[x, where] = tables.response[x][running[stops, at[stops]]]
            time[x, where] = k[at[stops]]
            going, place = going[~stops], running[~stops, -1]
            seen += block
    return best, time


def adaptive_records(rng: np.random.Generator, tables: Tables, rule: Rule, trials: int):
    """Eq 10 by records only: the next better draw comes after a geometric wait.

    A record at place p at time k is kept if none better comes until max(k, k_p). All
    prompts at once: row x of the cumulative masses is moved to [x, x+1].
    """
    prompts, size = tables.pi.shape
    reach = tables.reach.astype(float)
    reach /= reach[:, -1:]
    moved = (reach + np.arange(prompts)[:, None]).ravel()
    better = np.pad(reach[:, :-1], ((0, 0), (1, 0)))
    best, time = np.empty((prompts, trials), np.int64), np.zeros((prompts, trials))
    x, r = (a.ravel() for a in np.indices((prompts, trials)))
    k, above = np.ones(x.size), np.ones(x.size)
    while x.size:
        u = rng.random(x.size) * above
        place = np.searchsorted(moved, x + u, side="right") - x * size
        place = np.minimum(place, size - 1)
        above = better[x, place]
        stop = np.maximum(k, rule.first[x, place])
        with np.errstate(divide="ignore"):
            wait = np.ceil(rng.standard_exponential(x.size) / -np.log1p(-above))
        kept = k + wait > stop
        best[x[kept], r[kept]] = tables.response[x[kept], place[kept]]
        time[x[kept], r[kept]] = stop[kept]
        k = (k + wait)[~kept]
        x, r, above = x[~kept], r[~kept], above[~kept]
    return best, time


def adaptive_inversion(
    rng: np.random.Generator, tables: Tables, rule: Rule, trials: int
):
    """Eq 10 by two uniforms a trial: see `theory.simulator.adaptive`."""
    shape = (len(tables.pi), trials)
    waits = rng.standard_exponential(shape, tables.pi.dtype)
    uniform = rng.random(shape, tables.pi.dtype)
    best, time = np.empty(shape, np.int64), np.empty(shape, tables.pi.dtype)
    for x in range(len(tables.pi)):
        place = np.searchsorted(rule.hazard[x], waits[x], side="right")
        first, cut = rule.first[x][place], tables.height[x][place]
        n = np.maximum(first, np.floor(waits[x] / cut) + 1)
        held = np.where(n > first, cut, rule.before[x][place])
        limit = held + n * np.where(cut > held, cut - held, 0.0)
        z = -np.log1p(uniform[x] * np.expm1(-limit))
        height = np.minimum(z, held) + np.maximum(z - held, 0.0) / n
        found = np.searchsorted(tables.height[x], height, side="right")
        best[x] = tables.response[x][np.minimum(found, place)]
        time[x] = n
    return best, time


def law(tables: Tables, n: float):
    """pi^BoN_N over places, with relative accuracy: [X Y]."""
    won = np.exp(-n * tables.low)
    lost = tables.low - tables.height
    lost *= n
    won *= np.expm1(lost, out=lost)
    return np.negative(won, out=won)


def multinomial_fit(
    rng: np.random.Generator,
    cells: Float[np.ndarray, " C"],
    log_prob: Float[np.ndarray, "C K"],
    n: int,
    replications: int,
):
    """Counts of n draws from the cells' exact law, and the likeliest member: [R]."""
    counts = rng.multinomial(n, cells, size=replications).astype(log_prob.dtype)
    return (counts @ log_prob).argmax(1)


def xpo_runs(
    rng: np.random.Generator,
    base: Float[np.ndarray, "X Y"],
    members: Float[np.ndarray, "K X Y"],
    x: Int[np.ndarray, " T"],
    *,
    alpha: float,
    beta: float,
    runs: int,
):
    """Alg 1 over a finite class, all runs at once: the members' numbers [R]."""
    size = len(members)
    every = np.concatenate([members, base[None]])
    cumulative, logs = np.cumsum(every, axis=-1), np.log(every)
    by_cell = np.ascontiguousarray(logs[:size].transpose(1, 2, 0))  # [X Y K]
    current = np.full(runs, size)
    total = np.zeros((runs, size), base.dtype)
    answer, best = current, np.full(runs, -np.inf, base.dtype)
    for row in x:
        own = cumulative[current, row]
        u = rng.random((runs, 1), base.dtype) * own[:, -1:]
        y = (own <= u).sum(1)
        u = rng.random(runs, base.dtype) * cumulative[size, row, -1]
        other = np.searchsorted(cumulative[size, row], u, side="right")
        log_base = logs[size, row]
        objective = log_base[y] - beta * (logs[current, row, y] - log_base[y])
        answer = np.where(objective > best, current, answer)
        best = np.maximum(best, objective)
        second = by_cell[row][other]
        residual = by_cell[row][y]
        residual -= second
        residual *= beta
        residual -= ((1 + beta) * (log_base[y] - log_base[other]))[:, None]
        residual *= residual
        second *= alpha
        total += residual
        total += second
        current = total.argmin(1)
    return answer
