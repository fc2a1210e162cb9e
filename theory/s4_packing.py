"""Claims of Ex J.1: on a packing of the sphere, exploration beats imitation.

Margin and coverage. Responses at least 1/4 apart have <y, y*> <= 1 - (1/4)^2/2, and
<y, y*> >= -1 always, so that

    g_m >= e^(1/32) - 1,    C_cov = sum_y exp(<y, y*> - 1) >= 1 + (|Y| - 1) e^-2.

SFT-Sharpening. The fit matches means: with mhat the mean of the labels and E that of
pihat, the optimum in ||theta|| <= B has mhat - E = lambda theta with lambda >= 0. If
pihat(y*) >= 1-delta > 1/2, then y* maximises <theta, y>, so <theta, mhat> <=
<theta, y*>, lambda ||theta|| <= ||y* - E|| <= 2 delta and ||mhat - y*|| <= 4 delta. But
labels without y* have ||mhat - y*|| >= 1/32. So for delta < 1/128, whatever n, N and B,
a sharpened pihat has seen y*:

    P[(eps,delta)-sharpened] <= 1 - (1 - 1/C_cov)^(nN),   hence m >= (1-rho) C_cov.

XPO. Rewards are linear and noiseless, so d independent differences determine theta. The
code {-1,1}^d / sqrt d is run to d = 60 with T = d+4 rounds and alpha -> 0+ (`packing`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from jsharp.stats import clopper_pearson, loglog_slope
from theory.claim import (
    LEVEL,
    Batch,
    Claim,
    Effort,
    Exponent,
    Sides,
    Twin,
    compiled,
    exactly,
    join,
    scaled,
    unstack,
    vectorised,
)
from theory.families import compositions, generator
from theory.laws import best_of_n_law
from theory.packing import (
    LARGEST_CODE,
    Code,
    arc,
    base_policy,
    circle,
    greedy,
    least_sft,
    xpo_draws,
    xpo_sharpened,
)
from theory.quantities import coverage, margin
from theory.search import JaxInstance, attack

MARGIN = float(np.expm1(1 / 32))
LABELS_SEEN = 1 / 128  # below this delta, a sharpened pihat has seen y*
DIMS = (4, 8, 12, 16, 20, 30, 45, 60)
DELTA, RHO = 0.1, 0.1
NEAR, TRIPLE = (4, 2), (6, 3)  # responses and dimension of the enumerated packings


def _decode(raw: dict[str, Array]) -> JaxInstance:
    """`packing.circle` for three responses."""
    gaps = arc() + (2 * np.pi - 3 * arc()) * jax.nn.softmax(raw["shares"])
    angles = jnp.cumsum(gaps) - gaps[0]
    return {"points": jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)}


def _policy(points: Float[Array, "Y d"]) -> Float[Array, "1 Y"]:
    return jax.nn.softmax(points @ points[0])[None]


def margin_pair(i: JaxInstance) -> tuple[Array, Array]:
    """e^(1/32) - 1 <= g_m."""
    return jnp.asarray(MARGIN), margin(_policy(i["points"]), jnp.ones(1))


def coverage_pair(i: JaxInstance) -> tuple[Array, Array]:
    """1 + (|Y| - 1) e^-2 <= C_cov."""
    least = 1 + (i["points"].shape[0] - 1) * np.exp(-2)
    return jnp.asarray(least), coverage(_policy(i["points"]), jnp.ones(1))


def _code_margin(code: Code) -> tuple[float, float]:
    return MARGIN, code.margin


def _code_coverage(code: Code) -> tuple[float, float]:
    return 1 + np.expm1(code.log_size) * np.exp(-2), code.coverage


def _sides(pair, on_code: Callable[[Code], tuple[float, float]]):
    """`pair` where the points are written out, the closed form on the codes."""
    written = vectorised(pair)

    def sides(batch: Batch) -> Sides:
        if "dim" not in batch:
            return written(batch)
        found = [on_code(Code(int(dim))) for dim in batch["dim"]]
        left, right = np.array(found).T
        return exactly(left, right)

    return sides


def _attack(pair):
    """Search on circles of three, random packings to d = 8, all codes to d = 64."""

    def instances(key, effort: Effort) -> list[Batch]:
        search_key, draw_key = jax.random.split(key)
        rng = generator(draw_key)
        found = attack(search_key, pair, {"shares": (3,)}, _decode, effort=effort)
        shares = rng.dirichlet(np.full(3, 0.3), size=effort.instances)
        circles = {"points": np.stack([circle(s) for s in shares])}
        random = [
            np.stack([greedy(rng, dim=dim, size=40) for _ in range(8)])
            for dim in (3, 8)
        ]
        full = np.stack([circle(rng.dirichlet(np.ones(25))) for _ in range(8)])
        codes = {"dim": np.arange(1, LARGEST_CODE + 1)}
        written = [{"points": points} for points in (*random, full)]
        return [join(found, circles), *written, codes]

    return instances


def sharpest_fit(
    points: Float[np.ndarray, "I Y d"], mean: Float[np.ndarray, "I C d"]
) -> Float[np.ndarray, "I C"]:
    """The largest pihat(y*) of the MLE on labels of that mean, over a grid of bounds B.

    theta(l) = argmax <theta, mean> - log Z(theta) - l ||theta||^2/2 runs through the
    optima of every ball as l falls; Newton, warm-started, at each halving of l from
    2^6 to 2^-40. Between two of them pihat(y*) may be a little larger.
    """
    theta, best = np.zeros_like(mean), np.zeros(mean.shape[:2])
    for l in 2.0 ** -np.arange(-6.0, 41):
        for _ in range(3):
            pi = scipy.special.softmax(theta @ points.swapaxes(1, 2), axis=-1)
            fitted = pi @ points
            second = np.einsum("icy,iyd,iye->icde", pi, points, points)
            hessian = second - fitted[..., :, None] * fitted[..., None, :]
            hessian = hessian + l * np.eye(points.shape[-1])
            slope = mean - fitted - l * theta
            theta = theta + np.linalg.solve(hessian, slope[..., None])[..., 0]
        pi = scipy.special.softmax(theta @ points.swapaxes(1, 2), axis=-1)
        best = np.maximum(best, pi[..., 0])
    return best


_best_of_n = compiled(lambda row, draws: best_of_n_law(row, row, n=draws))


def sft_sides(
    batch: Batch, *, delta: float | None = None, queries: str = "n N"
) -> Sides:
    """P[some B makes the fit sharpened] <= 1 - (1 - 1/C_cov)^(nN), delta < 1/128.

    Every multiset of n labels with its exact probability under the best-of-N law; the
    fit to each by `sharpest_fit`. `delta` and `queries` plant bugs.
    """
    points, n = batch["points"], int(batch["n"][0])
    counts = compositions(n, points.shape[1])
    fitted = sharpest_fit(points, (counts / n) @ points)
    log_ways = scipy.special.gammaln(n + 1) - scipy.special.gammaln(counts + 1).sum(-1)
    left, right = [], []
    for k, i in enumerate(unstack(batch)):
        base = base_policy(i["points"])
        draws = float(i["N"])
        law = np.asarray(_best_of_n(jnp.asarray(base)[None], draws))[0]
        chance = np.exp(log_ways + scipy.special.xlogy(counts, law).sum(-1))
        bound = 1 - (i["delta"] if delta is None else delta)
        left.append(chance[fitted[k] >= bound].sum())
        total = n * draws if queries == "n N" else n
        right.append(-np.expm1(total * np.log1p(-base[0])))
    return exactly(np.array(left), np.array(right))


def _attack_sft(key, effort: Effort) -> list[Batch]:
    """Circles of 4 and packings of 6 in R^3; n = 1 label, where it is tight, to 3."""
    rng, size = generator(key), max(4, effort.instances // 8)
    near = lambda: circle(rng.dirichlet(np.full(NEAR[0], 0.5)))
    spread = lambda: greedy(rng, dim=TRIPLE[1], size=TRIPLE[0])
    batches = []
    for make, n in ((near, 1), (near, 2), (near, 3), (spread, 1), (spread, 2)):
        batches.append(
            {
                "points": np.stack([make() for _ in range(size)]),
                "n": np.full(size, n),
                "N": rng.choice([1, 2, 5, 20], size=size),
                "delta": LABELS_SEEN * rng.choice([0.999, 0.5, 0.01], size=size),
            }
        )
    return batches


def xpo_sides(batch: Batch, *, late: int = 4, sign: int = 1) -> Sides:
    """P[XPO with T = d + late rounds is not sharpened] <= rho, by replication."""
    found, queries = [], 0
    for i in unstack(batch):
        dim, runs = int(i["dim"]), int(i["replications"])
        rng, rounds = np.random.default_rng(int(i["seed"])), dim + late
        run = partial(xpo_sharpened, delta=float(i["delta"]), sign=sign)
        sharp = run(rng, Code(dim), rounds=rounds, runs=runs)
        failures = int((~sharp[-1]).sum())
        found.append(clopper_pearson(failures, runs, level=LEVEL))
        queries += 2 * rounds * runs
    left, low, high = np.array(found).T
    return Sides(left, batch["rho"], low, high, LEVEL, queries)


def _attack_xpo(key, effort: Effort) -> list[Batch]:
    rng, size = generator(key), len(DIMS)
    runs = min(effort.replications // 16, 1000)
    same = {"delta": DELTA, "rho": RHO, "replications": runs}
    drawn = {"dim": np.array(DIMS), "seed": rng.integers(2**32, size=size)}
    return [drawn | {name: np.full(size, value) for name, value in same.items()}]


def _exponential(of: str, quantity: Callable[[Code], float]):
    """The slope of log quantity in log d, at least 1 for exp(Omega(d)); exact."""

    def exponents(effort: Effort) -> tuple[Exponent, ...]:
        del effort
        dims = np.arange(1, LARGEST_CODE + 1)
        values = np.log([quantity(Code(int(dim))) for dim in dims])
        found = loglog_slope(dims, values, level=0.05)
        return (Exponent(of, 1.0, "at least", found),)

    return exponents


def _polynomial(effort: Effort) -> tuple[Exponent, ...]:
    """Thm 4.3's T = R_max^2 SEC log Net/(delta beta)^2 ~ d^6 up to logs, g_m fixed."""
    rng, runs = np.random.default_rng(0), min(effort.replications // 40, 400)
    dims, found = range(2, 21), []
    for dim in dims:
        run = partial(xpo_sharpened, delta=DELTA, rounds=2 * dim + 20, runs=runs)
        draws = xpo_draws(run(rng, Code(dim)))
        found.append(np.quantile(draws, 1 - RHO, method="inverted_cdf"))
    slope = loglog_slope(np.array(dims), np.array(found), level=0.05)
    return (Exponent("m of XPO against d", 6.0, "at most", slope),)


_margin = _sides(margin_pair, _code_margin)
_coverage = _sides(coverage_pair, _code_coverage)

CLAIMS = (
    Claim(
        "Ex J.1 (margin)",
        "on a 1/4-packing g_m >= e^(1/32) - 1",
        "exact",
        _attack(margin_pair),
        _margin,
        (Twin("e^(1/32) - 1 times 1.1", scaled(_margin, 1 / 1.1)),),
    ),
    Claim(
        "Ex J.1 (coverage)",
        "C_cov >= 1 + (|Y|-1) e^-2, exp(Omega(d)) when |Y| = exp(Theta(d))",
        "exact",
        _attack(coverage_pair),
        _coverage,
        (Twin("0.9 C_cov", scaled(_coverage, 0.9)),),
        exponents=_exponential("log C_cov against d", lambda code: code.coverage),
    ),
    Claim(
        "Ex J.1 (SFT-Sharpening)",
        "P[sharpened] <= 1 - (1 - 1/C_cov)^(nN) for delta < 1/128, all n, N and B: "
        "m >= (1-rho) C_cov",
        "exact",
        _attack_sft,
        sft_sides,
        (
            Twin("0.9 x", scaled(sft_sides, 0.9)),
            Twin("n queries, not n N", partial(sft_sides, queries="n")),
            Twin("delta = 3/4", partial(sft_sides, delta=0.75)),
        ),
        exponents=_exponential(
            "log m of SFT-Sharpening against d", partial(least_sft, rho=RHO)
        ),
    ),
    Claim(
        "Ex J.1 (XPO)",
        "poly(d): m = 2(d+4) on the code, alpha -> 0+, pihat(y*) >= 0.9 w.p. >= 0.9, "
        "at eight d from 4 to 60",
        "monte carlo",
        _attack_xpo,
        xpo_sides,
        (
            Twin("T = d rounds", partial(xpo_sides, late=0)),
            Twin("the printed sign of Alg 1", partial(xpo_sides, sign=-1)),
        ),
        exponents=_polynomial,
    ),
)
