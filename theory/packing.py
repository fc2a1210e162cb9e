"""Ex J.1: linear softmax over a 1/4-packing of the sphere, and its hypercube code.

One prompt, phi(y) = y on the unit sphere of R^d, any two responses at least 1/4 apart,
pi_base(y) ~ exp<y, y*>. The code Y = {-1,1}^d / sqrt d has least distance 2/sqrt d, so
it is a 1/4-packing for d <= 64, and every linear softmax over it is a product over the
coordinates: with a = theta/sqrt d and y = s/sqrt d,

    pi(y) = prod_j sigmoid(2 a_j s_j)

and nothing has to be enumerated. By symmetry y* = (1, ..., 1)/sqrt d, a* = 1/d.
"""

from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Bool, Float

LEAST = 0.25  # distance of any two responses
LARGEST_CODE = 64  # dimension up to which 2/sqrt d >= 1/4
# Squared lengths of +-2 vectors projected off others: 0 up to rounding, or far above.
INDEPENDENT = 1e-7

Points = Float[np.ndarray, "Y d"]


def arc() -> float:
    """The angle of two points of the sphere at distance LEAST."""
    return 2 * float(np.arcsin(LEAST / 2))


def circle(shares: Float[np.ndarray, " Y"]) -> Points:
    """A 1/4-packing of the circle: neighbours `arc()` apart, what is left by `shares`.

    y* first. Raises ValueError when the points do not fit on the circle.
    """
    room = 2 * np.pi - len(shares) * arc()
    if room < 0:
        raise ValueError(f"expected at most 25 points on a circle, found {len(shares)}")
    gaps = arc() + room * np.asarray(shares) / np.sum(shares)
    angles = np.cumsum(gaps) - gaps[0]
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def greedy(rng: np.random.Generator, *, dim: int, size: int) -> Points:
    """Random unit vectors, each kept if it is at least 1/4 from all kept before.

    Raises ValueError when 1000 * size draws did not yield `size` of them.
    """
    drawn = rng.normal(size=(1000 * size, dim))
    kept: list[np.ndarray] = []
    for point in drawn / np.linalg.norm(drawn, axis=-1, keepdims=True):
        if all(np.linalg.norm(point - other) >= LEAST for other in kept):
            kept.append(point)
        if len(kept) == size:
            return np.array(kept)
    raise ValueError(f"expected a packing of {size} in R^{dim}, found {len(kept)}")


def hypercube(dim: int) -> Points:
    """The code {-1,1}^d / sqrt d written out, y* first: for small d."""
    signs = 1.0 - 2.0 * np.array(list(np.ndindex((2,) * dim)))
    return signs / np.sqrt(dim)


def least_distance(points: Points) -> float:
    """The least distance of two different points."""
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return float(np.min(gaps[~np.eye(len(points), dtype=bool)]))


def base_policy(points: Points) -> Float[np.ndarray, " Y"]:
    """pi_base(y) ~ exp<y, y*> with y* = points[0]."""
    return scipy.special.softmax(points @ points[0])


@dataclass(frozen=True)
class Code:
    """Ex J.1 on the code {-1,1}^d / sqrt d, exactly, in any dimension 1 <= d <= 64.

    Raises ValueError outside: beyond 64 it is no 1/4-packing.
    """

    dim: int

    def __post_init__(self):
        if not 1 <= self.dim <= LARGEST_CODE:
            raise ValueError(f"expected 1 <= d <= {LARGEST_CODE}, found {self.dim}")

    @property
    def log_size(self) -> float:
        """log |Y| = d log 2."""
        return self.dim * float(np.log(2))

    @property
    def coverage(self) -> float:
        """C_cov = 1/pi_base(y*) = (1 + e^(-2/d))^d."""
        return float((1 + np.exp(-2 / self.dim)) ** self.dim)

    @property
    def margin(self) -> float:
        """g_m = e^(2/d) - 1: the nearest rivals differ from y* in one sign."""
        return float(np.expm1(2 / self.dim))

    @property
    def reward_range(self) -> float:
        """R_max = 1 + max_y log 1/pi_base(y), at -y*: 3 + log C_cov (Thm J.2)."""
        return 3 + float(np.log(self.coverage))

    def beta(self, delta: float) -> float:
        """beta = g_m/(2 log(2|Y|/delta)) (Thm J.3)."""
        return self.margin / (2 * (self.log_size + np.log(2 / delta)))

    def radius(self, delta: float) -> float:
        """B = 3 log(2|Y|/delta)/g_m, the least with ||theta*|| = 1 (Thm J.3)."""
        return 3 * (self.log_size + np.log(2 / delta)) / self.margin

    def tilted(self, beta: float) -> float:
        """a_j of pi*_beta, each j: theta*(1 + 1/beta)/sqrt d."""
        return (1 + 1 / beta) / self.dim

    def log_survival(self) -> Float[np.ndarray, " l"]:
        """log P[y ~ pi_base has at least l wrong signs], l = 0..d+1 (binomial)."""
        wrong = scipy.special.expit(-2 / self.dim)
        law = scipy.stats.binom.pmf(np.arange(self.dim + 1), self.dim, wrong)
        below, above = np.cumsum(law), np.cumsum(law[::-1])[::-1]
        tail = np.log(above[1:])
        near = np.log1p(-np.minimum(below[:-1], 0.5))
        rest = np.where(below[:-1] < 0.5, near, tail)  # keeps 1 - pi_base(y*) exact
        return np.concatenate([[0.0], rest, [-np.inf]])

    def log_mode(self, a: Float[np.ndarray, "R d"]) -> Float[np.ndarray, " R"]:
        """log pi_a(y*) = sum_j log sigmoid(2 a_j)."""
        return scipy.special.log_expit(2 * a).sum(-1)

    def objective(
        self, a: Float[np.ndarray, "R d"], *, beta: float
    ) -> Float[np.ndarray, " R"]:
        """J_beta(pi_a) + log Z = sum_j of E[s_j]/d - beta KL_j(pi_a || pi_base)."""
        mean, base = np.tanh(a), 1 / self.dim
        partition = np.logaddexp(a, -a) - np.logaddexp(base, -base)
        return (mean * base - beta * (mean * (a - base) - partition)).sum(-1)


def least_sft(code: Code, *, rho: float) -> float:
    """Least m of SFT-Sharpening over all splits m = n N: P[y* among m] >= 1-rho.

    Any label but y* leaves pihat(y*) <= 1/e (`s4_packing` for other packings), and one
    label, y*, is enough: n = 1, N = ceil( log rho / log(1 - 1/C_cov) ).
    """
    return float(np.ceil(np.log(rho) / code.log_survival()[1]))


def sft_draws(
    rng: np.random.Generator, code: Code, *, labels: int, delta: float, runs: int
) -> Float[np.ndarray, " R"]:
    """Least m = n N of each run at which SFT-Sharpening with n labels is sharpened.

    The best of N has at least l wrong signs iff log u <= N log P[at least l], u
    uniform: one u for each label serves every N, and a run sharpened at N is at N+1.
    Which signs are wrong is a uniform choice. MLE: pihat(s_j = 1) = (1 + mean_j)/2, so
    pihat(y*) = prod_j (1 - wrong_j/n), with no bound on ||theta||.
    """
    log_u = -rng.exponential(size=(runs, labels))
    rank = np.argsort(rng.random((runs, labels, code.dim)), axis=-1)
    survival = code.log_survival()[1:-1]

    def sharpened(n: Float[np.ndarray, " R"]) -> Bool[np.ndarray, " R"]:
        level = (log_u[..., None] <= n[:, None, None] * survival).sum(-1)
        wrong = (rank < level[..., None]).sum(1) / labels
        inside = np.where(wrong < 1, wrong, 0.0)
        log_mode = np.where(wrong < 1, np.log1p(-inside), -np.inf).sum(-1)
        return log_mode >= np.log1p(-delta)

    low, high = np.zeros(runs), np.ones(runs)
    while not (done := sharpened(high)).all():
        low, high = np.where(done, low, high), np.where(done, high, 2 * high)
    while (high - low > np.maximum(1.0, high * 2.0**-50)).any():
        middle = np.floor((low + high) / 2)
        done = sharpened(middle)
        low, high = np.where(done, low, middle), np.where(done, middle, high)
    return labels * high


def _signs(rng: np.random.Generator, a: Float[np.ndarray, "R d"]) -> np.ndarray:
    """s ~ pi_a, one for each run."""
    return np.where(rng.random(a.shape) < scipy.special.expit(2 * a), 1.0, -1.0)


def _forget(null: np.ndarray, gap: Float[np.ndarray, "R d"]) -> np.ndarray:
    """The projector onto what is orthogonal to one more pair's difference."""
    new = np.einsum("rij,rj->ri", null, gap)
    square = (new**2).sum(-1)
    scale = np.where(square > INDEPENDENT, 1 / np.maximum(square, INDEPENDENT), 0.0)
    return null - scale[:, None, None] * new[:, :, None] * new[:, None, :]


def offline_draws(
    rng: np.random.Generator, code: Code, *, runs: int
) -> Float[np.ndarray, " R"]:
    """Least m = 2n of each run at which every minimiser of Eq 8 is pi*_beta.

    The residual is beta <theta - theta*, y - y'> - <theta*, y - y'>, without noise: the
    minimiser is unique, theta*(1 + 1/beta), once the differences span R^d.
    """
    base = np.full((runs, code.dim), 1 / code.dim)
    null = np.tile(np.eye(code.dim), (runs, 1, 1))
    draws = np.zeros(runs)
    while (open_ := np.trace(null, axis1=1, axis2=2) > 0.5).any():
        null = _forget(null, _signs(rng, base) - _signs(rng, base))
        draws += 2 * open_
    return draws


def _explore(
    a: np.ndarray, fit: np.ndarray, null: np.ndarray, push: np.ndarray, radius: float
) -> np.ndarray:
    """Among the exact fits in the ball, a stationary point of sum log pi(y').

    The term is concave: its tangent is least at the ball's boundary, against the
    projected gradient sum (s' - E_a[s]); four steps (`push` holds sum s' and t).
    """
    total, count = push
    room = np.sqrt(np.maximum(radius**2 - (fit**2).sum(-1, keepdims=True), 0.0))
    for _ in range(4):
        slope = np.einsum("rij,rj->ri", null, total - count * np.tanh(a))
        length = np.linalg.norm(slope, axis=-1, keepdims=True)
        unit = np.where(length > INDEPENDENT, slope / np.maximum(length, 1e-300), 0.0)
        a = fit - room * unit
    return a


def xpo_sharpened(
    rng: np.random.Generator,
    code: Code,
    *,
    delta: float,
    rounds: int,
    runs: int,
    sign: int = 1,
) -> Bool[np.ndarray, "T R"]:
    """Whether XPO's answer is sharpened if it stops after T = 1..rounds (Alg 1).

    beta and B of Thm J.3, alpha -> 0+: the squared residual first, then the exploration
    term among its minimisers. The answer is the iterate of largest J_beta, exactly.
    sign = -1 is the printed algorithm, which maximises the squared residual.
    """
    beta, radius = code.beta(delta), code.radius(delta) / np.sqrt(code.dim)
    base = np.full((runs, code.dim), 1 / code.dim)
    target = np.full_like(base, code.tilted(beta))
    a, best = base, np.full(runs, -np.inf)
    sharp, found = np.zeros(runs, bool), []
    null = np.tile(np.eye(code.dim), (runs, 1, 1))
    gram, total = np.zeros_like(null), np.zeros_like(base)
    for count in range(1, rounds + 1):
        value = code.objective(a, beta=beta)
        now = code.log_mode(a) >= np.log1p(-delta)
        sharp = np.where(value > best, now, sharp)
        best = np.maximum(value, best)
        found.append(sharp)
        other = _signs(rng, base)
        gap = _signs(rng, a) - other
        total = total + other
        if sign > 0:
            null = _forget(null, gap)
            fit = target - np.einsum("rij,rj->ri", null, target)
            a = _explore(a, fit, null, np.array([total, total * 0 + count]), radius)
        else:
            gram = gram + gap[:, :, None] * gap[:, None, :]
            slope = np.einsum("rij,rj->ri", gram, a - target)
            length = np.linalg.norm(slope, axis=-1, keepdims=True)
            a = np.where(length > 0, radius * slope / np.maximum(length, 1e-300), a)
    return np.array(found)


def xpo_draws(sharpened: Bool[np.ndarray, "T R"]) -> Float[np.ndarray, " R"]:
    """Least m = 2T of each run from which on it stays sharpened; inf if it does not."""
    never = ~sharpened[::-1]
    last_bad = np.where(never.any(0), len(never) - np.argmax(never, axis=0), 0)
    return np.where(last_bad == len(never), np.inf, 2.0 * (last_bad + 1))
