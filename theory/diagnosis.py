"""Coverage and margins of a real model, from a pilot of draws.

For each prompt x the likeliest known response has mass b <= max_y pi(y|x), always. What
the draws did not show is bounded twice: by what is left, 1 - sum of the known masses,
for sure; and, as a response of mass p is missed by N draws with probability (1-p)^N, by

    u = 1 - a^(1/N),    P[ a given response of mass above u was not drawn ] <= a.

So max pi is in [b, max(b, min(u, left))], and is b for sure where b > left. Three such
bounds are used for each of B prompts, with a = level/(3 B): all of them hold at once
with probability at least 1 - level. Nothing is assumed of the model or the prompts.

Bounds over the population of prompts assume that the B prompts are independent draws
from mu. They are the DKW band, P[ sup |F_B - F| > e ] <= 2 exp(-2 B e^2), and what
follows from it. The mean of 1/pi is a mean of an unbounded quantity: no finite sample
of prompts bounds it from above. It is given for these prompts, and truncated for mu.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from theory.pilot import Known
from theory.precision import TIE

STATEMENTS = 3  # bounds by what was not drawn: likeliest, second, Y*_g
TIED = 1e-5  # nats that are not told apart, as in jsharp/lm/mode.py

Masses = Float[np.ndarray, " B"]


class Bounds(NamedTuple):
    """Bounds by prompt; where `exact` they hold for sure and are equal but for ties."""

    low: Masses
    high: Masses
    exact: Bool[np.ndarray, " B"]


def missed(draws: int, *, prompts: int, level: float) -> float:
    """u = 1 - a^(1/N), a = level/(3 B): no response above it is missed, w.p. 1-a."""
    return -math.expm1(math.log(level / (STATEMENTS * prompts)) / draws)


def _elsewhere(known: Known, level: float) -> Masses:
    """Bound on the mass of one response that is not known."""
    prompts, draws = known.place.shape
    unseen = missed(draws, prompts=prompts, level=level)
    return np.minimum(np.minimum(unseen, known.unseen), known.ceiling)


def certified(known: Known) -> Bool[np.ndarray, " B"]:
    """Where the likeliest known response is a maximiser for sure.

    By the search, or since it outweighs everything that was not drawn.
    """
    return known.searched | (known.mass[:, 0] > known.unseen)


def likeliest(known: Known, *, level: float) -> Bounds:
    """Bounds on max_y pi(y|x)."""
    best, exact = known.mass[:, 0], certified(known)
    high = np.maximum(best, _elsewhere(known, level))
    return Bounds(best, np.where(exact, best, high), exact)


def maximisers(known: Known, *, level: float) -> Bounds:
    """Bounds on pi(Y*(x)|x), which its inverse, the coverage, needs.

    Where exact, from one maximiser to all that are tied. Elsewhere of max_y pi(y|x),
    which is pi(Y*(x)|x) if the maximiser is unique (as in jsharp/lm/mode.py).
    """
    top = likeliest(known, level=level)
    ties = np.where(_tied(known), known.mass, 0.0).sum(1)
    whole = np.minimum(np.maximum(ties, known.tied), 1.0)
    return top._replace(high=np.where(top.exact, whole, top.high))


def _tied(known: Known) -> Bool[np.ndarray, "B K"]:
    return known.mass >= known.mass[:, :1] * math.exp(-TIED)


def ties(known: Known) -> Int[np.ndarray, " B"]:
    """How many known responses are as likely as the likeliest, itself included."""
    return _tied(known).sum(1)


def unique(known: Known) -> Bool[np.ndarray, " B"]:
    """Where y* is certain, and nothing is tied with it."""
    alone = known.tied <= known.mass[:, 0] * math.exp(TIED)  # 0 without a search
    return certified(known) & (ties(known) == 1) & alone


def near_maximisers(known: Known, *, gamma: float, level: float) -> Bounds:
    """Bounds on pi(Y*_g(x)|x), for C_cov,g; nothing is assumed unique.

    Known responses of at least (1-g) of the bound on max pi are members, those below
    (1-g) b are not. From above also the Clopper-Pearson bound by how many draws were
    at or above (1-g) b. At g = 0 these are bounds on pi(Y*|x) whatever the ties.
    """
    prompts, draws = known.place.shape
    top = likeliest(known, level=level)
    slack = 1 - math.exp(-TIED) + TIE
    reach = lambda mass: known.mass >= ((1 - gamma) * mass * (1 - slack))[:, None]
    surely = np.where(reach(top.high), known.mass, 0.0).sum(1)
    maybe = reach(top.low)
    # What was not drawn is no member where all of it is less than a member's mass.
    closed = known.unseen < (1 - gamma) * top.low * (1 - slack)
    left = np.where(maybe, known.mass, 0.0).sum(1) + np.where(closed, 0, known.unseen)
    count = np.take_along_axis(maybe, known.place, 1).sum(1)
    miss = level / (STATEMENTS * prompts)
    drawn = scipy.stats.beta.ppf(1 - miss, count + 1, np.maximum(draws - count, 1e-9))
    drawn = np.where(closed | (count == draws), 1.0, drawn)
    low = np.minimum(np.maximum(top.low, surely), 1.0)
    high = np.maximum(low, np.minimum(np.minimum(left, drawn), 1.0))
    return Bounds(low, high, closed)


def margins(known: Known, *, level: float) -> Bounds:
    """Bounds on log pi(y_1|x) - log pi(y_2|x), the two likeliest; 0 where they tie.

    log(1 + g_m) of Asm 4.2 is the least over x where nothing ties. Infinite where one
    response is all that is known.
    """
    top, second = likeliest(known, level=level), np.full(len(known.mass), -np.inf)
    if known.log_mass.shape[1] > 1:
        second = known.log_mass[:, 1]
    above = np.maximum(np.exp(second), _elsewhere(known, level))
    low = np.log(np.maximum(top.low / above, 1.0))
    high = np.maximum(low, np.log(top.high) - second)
    # Sure is only what needs no draw: any response left over may be the second.
    sure = np.maximum(np.exp(second), np.minimum(known.unseen, known.ceiling))
    least = np.log(np.maximum(top.low / sure, 1.0))
    settled = np.isclose(least, high, rtol=0, atol=TIED)
    return Bounds(low, high, top.exact & settled)


# ---- Over the prompts


def inverse(mass: Masses) -> Masses:
    """1/mass; a mass below the smallest float has none that is finite."""
    with np.errstate(divide="ignore", over="ignore"):
        return 1.0 / mass


class Profile(NamedTuple):
    """P_x[1/pi(Y*|x) >= M] at each M: of these prompts, and of mu within a band."""

    threshold: Float[np.ndarray, " M"]
    low: Float[np.ndarray, " M"]
    high: Float[np.ndarray, " M"]
    band_low: Float[np.ndarray, " M"]
    band_high: Float[np.ndarray, " M"]


def band(prompts: int, *, level: float) -> float:
    """e with P[ sup |F_B - F| > e ] <= 2 exp(-2 B e^2) = level (DKW; Massart)."""
    return math.sqrt(math.log(2 / level) / (2 * prompts))


def profile(
    mass: Bounds, threshold: Float[np.ndarray, " M"], *, level: float
) -> Profile:
    """The coverage profile; the band adds a level of its own to that of `mass`."""
    at = lambda value: (inverse(value)[:, None] >= threshold[None]).mean(0)
    low, high = at(mass.high), at(mass.low)
    width = band(len(mass.low), level=level)
    wide = np.maximum(low - width, 0.0), np.minimum(high + width, 1.0)
    return Profile(threshold, low, high, *wide)


def coverage(mass: Bounds) -> tuple[float, float]:
    """Bounds on the mean of 1/pi over these prompts (Eq 6 with mu uniform on them)."""
    return float(inverse(mass.high).mean()), float(inverse(mass.low).mean())


def truncated_coverage(
    mass: Bounds, *, most: float, level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """E[min(1/pi(Y*|x), M)]: bounds for these prompts, and for mu from the DKW band.

    The second are the means of the laws at the edge of the band (Anderson 1969): a
    share e of the prompts moves from the least to M, or from the largest to 1.
    """
    rows = np.sort(np.minimum([inverse(mass.high), inverse(mass.low)], most), axis=1)
    width, size = band(rows.shape[1], level=level), rows.shape[1]
    passed = np.arange(1, size + 1) / size
    above = np.clip(passed - width, 0.0, 1 / size)  # weights, the least values moved
    most_mean = rows[1] @ above + (1 - above.sum()) * most
    below = above[::-1]
    least_mean = rows[0] @ below + (1 - below.sum())
    mean = rows.mean(1)
    return (float(mean[0]), float(mean[1])), (float(least_mean), float(most_mean))
