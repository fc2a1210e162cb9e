"""Queries m of SFT-Sharpening, fixed and adaptive, from the exact laws (Sec 4, D).

Guarantee: with probability 1-rho the maximum-likelihood fit to the selected responses
is (eps, delta)-sharpened. The proofs split the failures as

    P_mu[pihat(Y*) <= 1-delta] <= P_mu[pi^BoN(Y*) < 1-delta/2]
                                  + 2 log(|Pi|/rho) / ((1 - 1/sqrt 2)^2 delta n).

Fixed N (Thm 4.1') pays eps/2 for either term; adaptive with mu = ln(2/delta)
(Thm D.1) has a first term of zero. On instances of constant coverage whose hard
prompts weigh about eps, m is of order eps^-2 and eps^-1.

Need: beside the guarantee, the least n at which the exact law of the maximum-likelihood
fit does its duty on one such instance with one class of rivals (`confusion`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int

from theory.claim import compiled
from theory.laws import adaptive_law, least_n, prompts_needed
from theory.precision import TIE, Scalar, needs_float64
from theory.quantities import Table, coverage, expectation

FIXED_SLOPE = -2.0  # d log m / d log eps, Thm 4.1
ADAPTIVE_SLOPE = -1.0  # Thm D.1


class Cost(NamedTuple):
    """What a guarantee costs: n prompts, N responses for each, m = n N queries."""

    n: Float[Array, ""]
    N: Float[Array, ""]  # its exact mean E_mu[N_mu] when adaptive
    m: Float[Array, ""]  # its exact mean when adaptive


class Curve(NamedTuple):
    """Cost at each eps of a grid, with the instance's coverage beside it."""

    eps: Float[Array, " E"]
    coverage: Float[Array, " E"]
    fixed: Cost  # each field [E]
    adaptive: Cost  # each field [E]
    adaptive_miss: Float[Array, " E"]  # pi^AdaBoN mass off Y* on the hard prompt


@needs_float64
def fixed_cost(
    pi: Table,
    mu: Float[Array, " X"],
    *,
    eps: Scalar,
    delta: Scalar,
    class_size: Scalar,
    rho: Scalar,
    gamma: Scalar = 0.0,
) -> Cost:
    """Least N by its exact law, and n of the proof, each given eps/2 (Thm 4.1')."""
    draws = least_n(pi, mu, eps=eps / 2, delta=delta / 2, gamma=gamma)
    prompts = prompts_needed(class_size=class_size, rho=rho, delta=delta, eps=eps / 2)
    return Cost(prompts, draws, prompts * draws)


@needs_float64
def adaptive_cost(
    pi: Table,
    mu: Float[Array, " X"],
    *,
    eps: Scalar,
    delta: Scalar,
    class_size: Scalar,
    rho: Scalar,
) -> Cost:
    """E_mu[N_mu] at mu = ln(2/delta), exact, and n of the proof (Thm D.1)."""
    law = adaptive_law(pi, mu_threshold=jnp.log(2.0 / delta))
    draws = expectation(mu, law.mean_draws)
    prompts = prompts_needed(class_size=class_size, rho=rho, delta=delta, eps=eps)
    return Cost(prompts, draws, prompts * draws)


@needs_float64
def hard_instance(
    eps: Scalar, *, c_cov: Scalar, responses: int, ties: int = 1
) -> tuple[Table, Float[Array, " X"]]:
    """Two prompts with C_cov as asked, at which Markov's inequality is nearly tight.

    An easy prompt answers y_0..y_{ties-1} evenly, all of them right. A hard one of
    weight h = 2 eps has q = pi(Y*) = h/(C - 1 + h) on y_0 and spreads the rest evenly
    over ceil(2/q) - 1 others, each about q/2, as the hard family of Thm 3.1' does at
    g = 1/2. The table is padded with zeros to `responses` >= ceil(2/q).
    """
    hard = 2.0 * eps
    top = hard / (c_cov - 1.0 + hard)
    others = jnp.ceil(2.0 / top) - 1.0
    place = jnp.arange(responses, dtype=float)
    rest = jnp.where((place > 0) & (place <= others), (1.0 - top) / others, 0.0)
    first = jnp.where(place == 0, 1.0, 0.0)
    easy = jnp.where(place < ties, 1.0 / ties, 0.0)
    return jnp.stack([easy, first * top + rest]), jnp.stack([1.0 - hard, hard])


class Goals(NamedTuple):
    """What is asked of the algorithm at each of E points."""

    eps: Float[Array, " E"]
    c_cov: Float[Array, " E"]
    delta: Float[Array, " E"]
    class_size: Float[Array, " E"]


def queries(goals: Goals, *, rho: float, ties: int = 1) -> Curve:
    """The guaranteed cost on `hard_instance` at each goal, both algorithms.

    Raises ValueError unless every eps is in (0, 1/2) and c_cov > 1.
    """
    smallest, largest = float(jnp.min(goals.eps)), float(jnp.max(goals.eps))
    covers = float(jnp.min(goals.c_cov))
    if not 0.0 < smallest <= largest < 0.5 or not covers > 1.0:
        raise ValueError(
            "expected eps in (0, 1/2) and c_cov > 1, found eps from "
            f"{smallest} to {largest} and c_cov = {covers}"
        )
    responses = int(float(jnp.max((goals.c_cov - 1.0) / goals.eps))) + 3 + ties

    def cost(goal: Goals) -> Curve:
        eps, c_cov, delta, size = goal
        pi, mu = hard_instance(eps, c_cov=c_cov, responses=responses, ties=ties)
        asked = {"eps": eps, "delta": delta, "class_size": size, "rho": rho}
        law = adaptive_law(pi, mu_threshold=jnp.log(2.0 / delta)).response
        return Curve(
            eps,
            coverage(pi, mu),
            fixed_cost(pi, mu, **asked),
            adaptive_cost(pi, mu, **asked),
            jnp.sum(law[1, 1:]),
        )

    return compiled(lambda asked: jax.lax.map(cost, asked))(goals)


def queries_against_eps(
    eps: Float[Array, " E"],
    *,
    c_cov: float,
    delta: float,
    class_size: float,
    rho: float,
) -> Curve:
    """m against eps on `hard_instance` at constant coverage, both algorithms.

    Raises ValueError unless every eps is in (0, 1/2) and c_cov > 1.
    """
    same = [jnp.full_like(eps, value) for value in (c_cov, delta, class_size)]
    return queries(Goals(eps, *same), rho=rho)


# ---- What is needed, on one class, in place of what is guaranteed


class Rivals(NamedTuple):
    """The truth and 2^d + 1 rivals on `hard_instance`, none of them sharpened.

    On the hard prompt (weight h) the truth misses Y* with some mass t, and every rival
    with mass delta, spread alike; a hair more would not be sharpened. The easy prompt's
    2^d answers {-1,1}^d are all right, as likely as each other under the truth and one
    rival. Rival s in {-1,1}^d leans: it gives y there prod_i (1/2 + a s_i y_i). The
    first is the likelier one while t is about delta/2; as t -> 0 only luck with the
    coins of the easy prompt can hide what the hard prompt shows.
    """

    coins: int  # d >= 1
    hard: float  # h
    delta: float

    @property
    def class_size(self) -> int:
        return 2**self.coins + 2

    @property
    def lean(self) -> float:
        """a with d (1-h) KL(1/2||1/2+a) = -h log(1-delta).

        For small h delta 2 d a^2 = h delta: so much luck with the coins is needed to
        hide what the hard prompt shows that every other a needs more of it.
        """
        power = 2 * self.hard / ((1 - self.hard) * self.coins)
        return 0.5 * float(np.sqrt(-np.expm1(power * np.log1p(-self.delta))))


def _window(n: Int[np.ndarray, " T"] | int, p: float) -> Int[np.ndarray, " W"]:
    """The values of Bin(n, p), for any of these n, but for 1e-13 at either end."""
    low, high = scipy.stats.binom.isf([1 - 1e-13, 1e-13], [np.min(n), np.max(n)], p)
    return np.arange(max(int(low), 0), int(high) + 1)


def majorities(
    least: Int[np.ndarray, " T"], draws: Int[np.ndarray, " T"], *, coins: int
) -> Float[np.ndarray, " T"]:
    """P[ W >= least ] for W = sum_{i<=d} max(heads_i, draws - heads_i), d fair coins.

    One coin: 2 P[heads >= least] beyond draws/2. More: for each number of draws the
    d-fold convolution by FFT, exact to about 1e-13, each coin cut where 1e-13 is left.
    """
    if coins == 1:
        tail = 2 * scipy.stats.binom.sf(least - 1, draws, 0.5)
        return np.where(2 * least > draws, tail, 1.0)
    found = np.zeros(len(least))
    for n in np.unique(draws).tolist():
        side = np.arange((n + 1) // 2, int(_window(n, 0.5)[-1]) + 1)
        one = np.where(2 * side == n, 1, 2) * scipy.stats.binom.pmf(side, n, 0.5)
        length = coins * (len(side) - 1) + 1
        size = 1 << (length - 1).bit_length()
        law = np.fft.irfft(np.fft.rfft(one, size) ** coins, size)[:length]
        tail = np.append(np.cumsum(law[::-1])[::-1], 0.0)
        at = draws == n
        found[at] = tail[np.clip(least[at] - coins * side[0], 0, length)]
    return found


# Two likelihoods that are equal on paper differ by rounding: a count that is short of
# the threshold by less is a tie.
HAIR = 1e-10
NOTHING = 1e-17  # 1e5 such weights are left out


def _weights(miss: float, delta: float) -> tuple[float, float]:
    """log((1-t)/(1-delta)) and log(delta/t): what one right or wrong answer shows."""
    wrong = float(np.log(delta / miss)) if miss > 0 else 0.0
    return float(np.log1p(-miss) - np.log1p(-delta)), wrong


def private_confusion(
    n: int, *, miss: float, hard: float, delta: float, count: int
) -> float:
    """P[ some rival is as likely as the truth ], each wrong on a prompt of its own.

    `count` = K hard prompts of weight h each, K h <= 1: on all of them the truth misses
    with mass t, and rival k with mass delta on the k-th, as the truth on the others.
    All rivals are at the same distance from the truth. The hard counts H_k are
    independent Poisson variables of mean n h given their sum with the rest, so that

        P[no rival] = [z^n] ( sum_H e^-nh (nh z)^H/H! P[evidence > 0 | H] )^K
                      e^{(1-Kh) n (z-1)} / ( e^-n n^n/n! ),

    a Fourier inversion on the unit circle, cut where 2e-13 is left.

    Raises ValueError when the hard prompts weigh more than one.
    """
    if not 0 < count * hard <= 1 + TIE:
        raise ValueError(f"expected 0 < K h <= 1, found K = {count} and h = {hard}")
    if miss >= delta:
        return 1.0
    size = 1 << int(n + 12 * np.sqrt(n) + 64).bit_length()
    rate = n * hard
    drawn = np.arange(int(scipy.stats.poisson.isf(1e-13, rate)) + 20)
    right, wrong = _weights(miss, delta)
    # The rival wins from H right/(right + wrong) misses on, less a hair for rounding.
    most = np.ceil(drawn * right / (right + wrong) - HAIR * (drawn + 1)) - 1
    keeps = scipy.stats.binom.cdf(most, drawn, miss)
    one = np.fft.rfft(scipy.stats.poisson.pmf(drawn, rate) * keeps, size)
    circle = np.exp(np.arange(len(one)) * (-2j * np.pi / size))
    rest = np.exp((1 - count * hard) * n * (circle - 1))
    none = float(np.fft.irfft(one**count * rest, size)[n])
    return min(max(1 - none / float(scipy.stats.poisson.pmf(n, n)), 0.0), 1.0)


def confusion(n: int, *, miss: float, rivals: Rivals) -> float:
    """P[ pihat is not (eps,delta)-sharpened ]: some rival is as likely as the truth.

    n prompts, the truth being pi^BoN_N or its adaptive twin with mass t = `miss` off Y*
    on the hard prompt, h = 2 eps. Of n prompts H are hard, of which T miss; with W from
    `majorities` of n-H draws, the likeliest rival is as likely as the truth when

        max( 0, W log(1+2a) + (d(n-H)-W) log(1-2a) )
            >= (H-T) log((1-t)/(1-delta)) - T log(delta/t).

    The sum over H and T of binomial weights, each cut where 2e-13 is left; ties go
    against the truth. 1 when the truth itself misses delta or more.
    """
    if miss >= rivals.delta:
        return 1.0
    drawn = _window(n, rivals.hard)
    hard, off = (a.ravel() for a in np.meshgrid(drawn, _window(drawn, miss)))
    binomial = scipy.stats.binom
    weight = binomial.pmf(hard, n, rivals.hard) * binomial.pmf(off, hard, miss)
    hard, off, weight = (a[weight > NOTHING] for a in (hard, off, weight))
    right, wrong = _weights(miss, rivals.delta)
    shown = (hard - off) * right - off * wrong
    up, down = np.log1p(2 * rivals.lean), -np.log1p(-2 * rivals.lean)
    least = (shown + rivals.coins * (n - hard) * down) / (up + down)
    least = np.ceil(least - HAIR * (1 + np.abs(least))).astype(int)
    hidden = shown <= HAIR * (hard + 1)  # by the rival that does not lean
    reached = np.where(hidden, 1.0, 0.0)
    reached[~hidden] = majorities(least[~hidden], n - hard[~hidden], coins=rivals.coins)
    return float(weight @ reached)


def least_prompts(failure: Callable[[int], float], *, rho: float) -> int:
    """n with failure(n) <= rho < failure(n-1), by bisection from powers of two.

    `failure` falls but for the steps of a lattice, so that n is its first crossing up
    to those steps. Raises ValueError where none is found up to 2^40.
    """
    high = 1
    while failure(high) > rho:
        high *= 2
        if high > 2**40:
            raise ValueError(f"expected failure(n) <= {rho} for some n, found none")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if failure(middle) > rho else (low, middle)
    return high
