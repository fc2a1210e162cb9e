"""The hard family of Thm 3.1' at g = 1/2: the exact optimum, and what SFT pays there.

At each of d prompts of weight Delta/d a hidden j* has 2/M, every other index of [M]
q = (M-2)/(M(M-1)); the likelihood is revealed. After k draws the Bayes learner knows j*
if it showed up, else it guesses uniformly among the r = M - D_k indices not drawn, D_k
being the number of distinct ones. By symmetry in I its average risk is its worst: it is
minimax. One more draw at r >= 2 lowers its error, given that j* has not shown up, by

    g(r) = (2 - 1/r - 2/M)/(M-1),   g(1) = 0,

and r never rises. Two consequences:

* Non-adaptive: the mean gain of the k-th draw falls with k, so err(k) is convex. N
  comonotone copies of Bin(n, p) exceed N independent ones, Bin(nN, p), in convex order,
  so that E[err(N K)] at m = nN is least for N = 1.
* Adaptive: at a price per draw the gain only falls, so looking one step ahead is
  optimal (the monotone case): stop once j* shows up or D reaches a threshold t. The
  thresholds t = 0..M-1, and mixtures of neighbours, are the whole efficient frontier.

Queries cost 1; a prompt that gets no query is free, so an adaptive learner waits for
each x_i at no cost. x_0 is known and costs SFT-Sharpening queries all the same.
"""

import functools
import heapq
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Complex, Float, Int

from theory.laws import two_level_draws
from theory.precision import TIE

FACTOR = 16.0  # Delta = 16 eps; also c_1 of the adaptive part, which needs more than 3
LEAST_SIZE = 8  # Lem H.3 asks for M >= 8, Lem H.4 for M >= 6
COUNTS = 80  # visits of one prompt that are told apart
LONGEST = 20  # draws at one prompt that a stopping rule sees


class Hard(NamedTuple):
    """The hard family: M responses, d prompts that share the weight Delta of mu."""

    size: int
    d: int
    weight: float

    @property
    def share(self) -> float:
        """mu(x_i) = Delta/d, i >= 1."""
        return self.weight / self.d

    @property
    def log_class(self) -> float:
        """log|Pi| = d log M."""
        return self.d * math.log(self.size)


class Cost(NamedTuple):
    """n prompts, N responses for each (a mean if adaptive), m = n N queries."""

    n: int
    N: float
    m: float


def hard(*, eps: float, c_cov: float, d: int, p: float = 1.0) -> Hard:
    """M = least integer >= max(8, 1 + C eps^(-1/p)) and Delta = 16 eps (Thm 3.1').

    Raises ValueError outside 0 < eps <= 1/16, C >= 1, d >= 1, p >= 1.
    """
    if not (0 < eps <= 1 / FACTOR and c_cov >= 1 and d >= 1 and p >= 1):
        expected = "0 < eps <= 1/16, C >= 1, d >= 1 and p >= 1"
        found = f"eps={eps}, C={c_cov}, d={d}, p={p}"
        raise ValueError(f"expected {expected}; found {found}")
    # The product is rounded: 1/0.1 * 0.1 must not lead to the next integer.
    size = math.ceil((1 + c_cov * eps ** (-1 / p)) * (1 - TIE))
    return Hard(max(LEAST_SIZE, size), d, FACTOR * eps)


def hard_coverage(family: Hard, *, p: float = 1.0) -> float:
    """C_cov,g,p of every member, g = 1/2: (1 - Delta + Delta (M/2)^p)^(1/p)."""
    power = p * math.log(family.size / 2)  # (M/2)^p may overflow
    total = scipy.special.logsumexp([0.0, power], b=[1 - family.weight, family.weight])
    return math.exp(total / p)


# ---- The Bayes learner's error


def collects_all(draws: Int[np.ndarray, " k"], *, size: int) -> Float[np.ndarray, " k"]:
    """P[k uniform draws show all M values] = k!/M^k [z^k] (e^z - 1)^M.

    Cauchy's integral through the saddle point r/(1-e^-r) = k/M: (e^z - 1)^M at |z| = r
    is a sum of M Poisson variables kept positive, of mean k and variance <= k, and the
    trapezoidal rule with 12 sqrt(k) + 40 points only confuses k with values as far off.
    0 and 1 where (1 - (1-1/M)^k)^M and M (1-1/M)^k, bounds of it and of the rest, are
    below 1e-20.
    """
    k = np.asarray(draws, float)
    log_absent = k * np.log1p(-1 / size)  # that one value is
    with np.errstate(divide="ignore"):
        bound = size * np.log1p(-np.exp(log_absent))
    found = (math.log(size) + log_absent < math.log(1e-20)).astype(float)
    near = (k >= size) & (bound > math.log(1e-20)) & (found == 0)
    if near.any():
        found[near] = _saddle(k[near], size)
    return found


def _saddle(k: Float[np.ndarray, " k"], size: int) -> Float[np.ndarray, " k"]:
    mean = k / size
    radius = mean + scipy.special.lambertw(-mean * np.exp(-mean)).real
    radius = np.fmax(radius, 0.01)  # at k = M the saddle is 0, where z^-k is inf
    points = int(12 * math.sqrt(k.max())) + 40
    angle = 2 * np.pi * np.arange(points) / points
    z: Complex[np.ndarray, "k points"] = radius[:, None] * np.exp(1j * angle)[None, :]
    top = np.log(np.expm1(radius))
    phase = size * (np.log(np.expm1(z)) - top[:, None]) - 1j * k[:, None] * angle
    scale = scipy.special.gammaln(k + 1) - k * np.log(size * radius) + size * top
    return np.clip(np.exp(scale) * np.exp(phase).mean(-1).real, 0.0, 1.0)


def bayes_error(draws: Int[np.ndarray, " k"], *, size: int) -> Float[np.ndarray, " k"]:
    """err(k) = (1-2/M)^k E[1 - 1/(M-D_k)], D_k distinct in k draws from M-1 others.

    E[1/(M-D_k)] = (1/M) (M/(M-1))^k (1 - P[k uniform draws show all M]) by
    binom(M-1,e)/(e+1) = binom(M,e+1)/M over the number e of others not drawn, hence
    err(k) = (1-2/M)^k - (1/M) ((M-2)/(M-1))^k (1 - P[...]), to about 1e-15 in all.
    """
    k = np.asarray(draws)
    missed = np.exp(k * math.log1p(-2 / size))
    lucky = np.exp(k * math.log1p(-1 / (size - 1))) / size
    # They meet at k = infinity; below that the error is positive.
    return np.maximum(missed - lucky * (1 - collects_all(k, size=size)), 0.0)


def fixed_error(family: Hard, *, n: int, N: int) -> float:
    """E[err(N K)], K ~ Bin(n, Delta/d): P[jhat_i != j*_i] of the best learner.

    E[s^(NK)] = (1 - (Delta/d)(1 - s^N))^n; only the term with P[all M shown] is summed
    over K. The risk is Delta times this.
    """
    least = _error_without_covering(family, n, N)
    mean = n * family.share
    reach = 10 * math.sqrt(mean) + 40  # K is beyond w.p. 1e-20 (Bernstein)
    low, high = max(0, int(mean - reach)), min(n, math.ceil(mean + reach))
    if not collects_all(np.array([N * high]), size=family.size)[0]:
        return least
    visits = np.arange(low, high + 1)
    covered = collects_all(N * visits, size=family.size)
    lucky = np.exp(N * visits * math.log1p(-1 / (family.size - 1))) / family.size
    weight = scipy.stats.binom.pmf(visits, n, family.share)
    return least + float(np.sum(weight * lucky * covered))


def _error_without_covering(family: Hard, n: int, N: int) -> float:
    """A lower bound, and exact while some index surely has not been shown."""
    mean = lambda log_s: _exp(n, family.share * math.expm1(N * log_s))
    size = family.size
    return mean(math.log1p(-2 / size)) - mean(math.log1p(-1 / (size - 1))) / size


def _exp(n: int, step: float) -> float:
    """(1 + step)^n; 0^0 = 1."""
    return math.exp(n * math.log1p(step)) if step > -1 else float(n == 0)


def _least(enough: Callable[[int], bool], low: int) -> int:
    """Least n >= low with enough(n), which stays true once it is."""
    if enough(low):
        return low
    step = 1
    while not enough(low + step):
        low, step = low + step, 2 * step
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def fixed_optimum(family: Hard, *, eps: float, N: int = 1) -> Cost:
    """Least n, hence m = nN, with which some learner has risk <= eps (Thm 3.1').

    N = 1 is the best of all splits: see above.
    """
    target = _target(family, eps)
    low = _least(lambda n: _error_without_covering(family, n, N) <= target, 0)
    n = _least(lambda n: fixed_error(family, n=n, N=N) <= target, low)
    return Cost(n, N, n * N)


def _target(family: Hard, eps: float) -> float:
    """risk <= eps as mean error <= eps/Delta, up to rounding (Lem H.2)."""
    if not eps > 0:
        raise ValueError(f"expected eps > 0, found {eps}")
    return eps / family.weight * (1 + TIE)


def adaptive_frontier(
    size: int,
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Mean queries at one prompt, and error there, by threshold t = 0..M-1.

    Stop once j* shows up or t distinct others did: the lower convex hull.
    At D distinct others the wait for j* or a new one has probability
    s_D = 2/M + (M-2)(M-1-D)/(M(M-1)) a draw, and j* is missed w.p. 1 - (2/M)/s_D.
    """
    distinct = np.arange(size - 1)
    new = (size - 2) * (size - 1 - distinct) / (size * (size - 1))
    event = 2 / size + new
    alive = np.concatenate([[1.0], np.cumprod(new / event)])
    queries = np.concatenate([[0.0], np.cumsum(alive[:-1] / event)])
    return queries, alive * (1 - 1 / (size - np.arange(size)))


def adaptive_optimum(family: Hard, *, eps: float) -> float:
    """Least E[m] = d E[m_i] of any adaptive learner with risk <= eps (Thm D.2)."""
    queries, error = adaptive_frontier(family.size)
    target = _target(family, eps)
    return family.d * float(np.interp(target, error[::-1], queries[::-1]))


def stopped(
    size: int, stop: Float[np.ndarray, "k D"], number: Callable = float
) -> np.ndarray:
    """Q[m_i = k, D] of the rule that stops at k draws, D distinct, w.p. stop[k, D].

    Under Q the draws are uniform over the M-1 others: the same learner when y_{j*}
    never shows. `number` may be Fraction.
    """
    stop = np.array([[number(rate) for rate in row] for row in stop.tolist()])
    distinct = np.array([number(j) for j in range(LONGEST + 1)])
    alive, law = np.array([number(j == 0) for j in range(LONGEST + 1)]), []
    for rates in stop:
        law.append(alive * rates)
        alive = alive * (1 - rates) / (size - 1)
        new = np.roll(alive * (size - 1 - distinct), 1)
        new[0] *= 0  # more than 20 distinct: nothing stops after 20 draws
        alive = alive * distinct + new
    return np.array(law)


def rule_error(size: int, law: np.ndarray, number: Callable = float):
    """P[jhat_i != j*_i]: a stop at k, D has P = (1-2/M)^k Q, error 1 - 1/(M-D)."""
    places = range(LONGEST + 1)
    wrong = np.array([[1 - number(1) / max(size - j, 1) for j in places]])
    return np.sum(
        law * np.array([[(1 - number(2) / size) ** k] for k in places]) * wrong
    )


def few_draws(size: int, law: np.ndarray, number: Callable = float):
    """P[m_i <= M/3]; m_i > M/3 asks for floor(M/3) draws without y_{j*} or a stop.

    The draws end when y_{j*} shows, and go on after 20 until it does.
    """
    last = size // 3
    return 1 - (1 - number(2) / size) ** last * (1 - np.sum(law[: last + 1]))


# ---- SFT-Sharpening on the same instance


@functools.lru_cache(maxsize=64)
def _wins(size: int) -> Float[np.ndarray, "K c"]:
    """binom(K,c) P[j* is the most frequent | c of K responses], ties shared evenly.

    The K-c others fall uniformly into L = M-1 cells. With t of them at c and the rest
    below, E_{c-1}(z) = sum_{j<c} z^j/j!, the probability is (K-c)!/L^(K-c) times
    sum_t binom(L,t)/(1+t) c!^-t [z^(K-c-ct)] E_{c-1}(z)^(L-t): no term is negative.
    """
    cells = size - 1
    every = np.arange(COUNTS + 1)
    # 1/(j! L^j), the coefficients of e^(z/L), in logs: L^j may overflow.
    terms = np.exp(-scipy.special.gammaln(every + 1) - every * math.log(cells))
    wins = np.zeros((COUNTS + 1, COUNTS + 1))
    wins[0, 0] = 1 / size
    for c in every[1:]:
        left = COUNTS - c
        below = np.where(every < c, terms, 0.0)[: left + 1]
        tied = np.arange(min(left // c, cells))
        choices = np.cumprod(np.append(1.0, (cells - tied) / (tied + 1) * terms[c]))
        power = _power(below, cells - len(tied))
        for t in range(len(tied), -1, -1):
            wins[c + c * t :, c] += choices[t] / (1 + t) * power[: left + 1 - c * t]
            power = np.convolve(power, below)[: left + 1]
    log_factorial = scipy.special.gammaln(every + 1)
    # (K-c)! binom(K,c) = K!/c!
    return wins * np.exp(log_factorial[:, None] - log_factorial[None, :])


def _power(series: Float[np.ndarray, " D"], exponent: int) -> Float[np.ndarray, " D"]:
    """series^exponent, truncated, by squaring."""
    result = np.eye(1, len(series))[0]
    while exponent:
        if exponent % 2:
            result = np.convolve(result, series)[: len(series)]
        series = np.convolve(series, series)[: len(series)]
        exponent //= 2
    return result


def sft_error(top: float, *, size: int) -> Float[np.ndarray, " K"]:
    """P[pihat(y_{j*}|x_i) <= 1/2] of SFT-Sharpening after K = 0..80 visits of x_i.

    Each visit keeps y_{j*} with probability `top`, else a uniform other. The class is
    the laws so selected from the M^d members: maximum likelihood is the most frequent
    response, and pihat has mass `top` on it, so that `top` <= 1/2 always fails.
    """
    if not top > 0.5:
        return np.ones(COUNTS + 1)
    hits, visits = np.ogrid[: COUNTS + 1, : COUNTS + 1]
    law = top**hits * (1 - top) ** np.maximum(visits - hits, 0)
    return np.maximum(1 - np.sum(_wins(size) * law.T, axis=1), 0.0)


def _visits_needed(family: Hard, error: np.ndarray, target: float, low: int) -> int:
    """Least n >= low with E[error(K)] <= target, K ~ Bin(n, Delta/d).

    More than 80 visits count as 80: the error left there must not matter.
    """
    if error[-1] > 1e-6 * target:
        least = f"1e6 x {error[-1]:.1e}, the error after {COUNTS} visits"
        raise ValueError(f"expected eps/Delta above {least}; found {target:.1e}")

    def enough(n: int) -> bool:
        weight = scipy.stats.binom.pmf(np.arange(COUNTS + 1), n, family.share)
        return float(weight @ error + max(1 - weight.sum(), 0.0) * error[-1]) <= target

    return _least(enough, low)


def best_of_n_mass(family: Hard, N: int) -> float:
    """pi^BoN_N(y_{j*}|x_i) = 1 - (1-2/M)^N."""
    return -math.expm1(N * math.log1p(-2 / family.size))


def _cheapest(family: Hard, eps: float, price: Callable[[int], float]) -> Cost:
    """Least n(N) price(N) over all N with pi^BoN_N(y_{j*}) > 1/2, by branch and bound.

    n(N) never rises, a response from N being a garbling of one from more; price never
    falls. Between two values of N the product is at least price(low) n(high).
    """
    target = _target(family, eps)
    if 1 - 1 / family.size <= target:
        return Cost(0, 0, 0)
    top = functools.partial(best_of_n_mass, family)
    error = functools.partial(sft_error, size=family.size)
    visits = lambda N, low: _visits_needed(family, error(top(N)), target, low)
    fewest = _visits_needed(family, error(1.0), target, 1)
    low = _least(lambda N: top(N) > 0.5, 1)
    needed = {low: visits(low, fewest)}
    best = (needed[low] * price(low), low)
    high = _least(lambda N: price(N) * fewest >= best[0], low)
    needed[high] = visits(high, fewest)
    queue = [(0.0, low, high)]
    while queue:
        bound, low, high = heapq.heappop(queue)
        if bound >= best[0]:
            break
        middle = (low + high) // 2
        needed[middle] = visits(middle, needed[high])
        best = min(best, (needed[middle] * price(middle), middle))
        for a, b in ((low, middle), (middle, high)):
            if b - a > 1:
                heapq.heappush(queue, (price(a + 1) * needed[b], a, b))
    n = needed[best[1]]
    return Cost(n, price(best[1]), best[0])


def sft_optimum(family: Hard, *, eps: float) -> Cost:
    """Least m = nN over all n and N with which SFT-Sharpening has risk <= eps."""
    return _cheapest(family, eps, lambda N: N)


def adaptive_draws(family: Hard, last: int) -> float:
    """E_mu[N_mu] at the smallest mu with which y_{j*} is waited for `last` draws.

    mu just above q (last-1) accepts another response from draw `last` on, y_{j*} from
    k_1 = ceil(mu M/2) on, y_0 from ceil(mu) on (Eq 10): on x_i the mean is k_1 plus
    the sum of (1-2/M)^k over k_1 <= k < last. E[N_mu] steps at these mu only.
    """
    size = family.size
    first = (last - 1) * (size - 2) // (2 * (size - 1)) + 1
    known = (last - 1) * (size - 2) // (size * (size - 1)) + 1
    return known + family.weight * (two_level_draws(first, last, q=2 / size) - known)


def adaptive_sft_optimum(family: Hard, *, eps: float) -> Cost:
    """Least E[m] = n E_mu[N_mu] over all n and mu of adaptive SFT-Sharpening.

    It returns y_{j*} unless the first `last` draws at x_i miss it, and depends on mu
    through `last` alone.
    """
    return _cheapest(family, eps, functools.partial(adaptive_draws, family))
