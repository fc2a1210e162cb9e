"""Instances: the families that attack the claims, and the paper's own constructions.

Rows are distributions over `size` responses; the most likely ones come first unless a
row is shuffled. Ties are exact: equal probabilities are equal float64 numbers.
"""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float, Int, Key

from theory.claim import Batch

Row = Float[np.ndarray, " Y"]


def two_level(size: int, *, best: int, ratio: float) -> Row:
    """`best` responses share the maximum P*, every other has ratio * P*.

    ratio = 1-g is a near tie at margin g, 1 the uniform law, 0 an exact tie with no
    rival, and a ratio near 0 with best = 1 is nearly a point mass.
    """
    weights = np.where(np.arange(size) < best, 1.0, ratio)
    return weights / weights.sum()


def zipf(size: int, *, exponent: float) -> Row:
    """P(y_k) proportional to k^-exponent: a heavy tail for exponents near 1."""
    weights = np.arange(1.0, size + 1) ** -exponent
    return weights / weights.sum()


def heavy_tail(size: int, *, power: float = 2.0) -> Row:
    """P(y_k) proportional to 1/(k log(k+1)^power), heavier than every summable Zipf.

    At power in (1, 2] the sum converges while the entropy grows without bound in |Y|.
    """
    k = np.arange(1.0, size + 1)
    weights = 1 / (k * np.log(k + 1) ** power)
    return weights / weights.sum()


def geometric(size: int, *, decay: float) -> Row:
    """P(y_k) proportional to decay^k."""
    weights = decay ** np.arange(float(size))
    return weights / weights.sum()


def generator(key: Key[Array, ""]) -> np.random.Generator:
    """A NumPy generator seeded by a JAX key, for draws that stay on the host."""
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32)))


class MultiLayer(NamedTuple):
    """An autoregressive linear softmax of one prompt, in the layout of
    `jsharp.tabular.autoregressive_softmax`: features[h] [1 V^h V d], theta [H d]."""

    features: tuple[np.ndarray, ...]
    theta: Float[np.ndarray, "H d"]


def multi_layer(
    rng: np.random.Generator, *, vocab: int, horizon: int, dim: int, norm: float
) -> MultiLayer:
    """Features on the unit sphere of R^d after every prefix, theta_h of norm `norm`.

    pi(y_h|y_<h) ~ exp <phi_h(y_<=h), theta_h>: the class of Lem J.4 at each layer.
    """
    unit = lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True)
    layers = [rng.normal(size=(1, vocab**h, vocab, dim)) for h in range(horizon)]
    theta = norm * unit(rng.normal(size=(horizon, dim)))
    return MultiLayer(tuple(map(unit, layers)), theta)


def multi_layer_row(policy: MultiLayer) -> Row:
    """pi(y) over the V^H responses, in the order of `jsharp.tabular.all_responses`."""
    row = np.ones(1)
    for phi, theta in zip(policy.features, policy.theta, strict=True):
        row = (row[:, None] * scipy.special.softmax(phi[0] @ theta, axis=-1)).ravel()
    return row


def _random_layers(rng: np.random.Generator, size: int) -> Row:
    """A random multi-layer softmax over the most layers with V^H = size, V >= 2."""
    shapes = [(v, h) for v in range(2, size + 1) for h in range(1, 31) if v**h == size]
    vocab, horizon = shapes[0] if shapes else (size, 1)
    norm = rng.choice([0.5, 2.0, 8.0])
    policy = multi_layer(rng, vocab=vocab, horizon=horizon, dim=3, norm=norm)
    return multi_layer_row(policy)


def _random_row(rng: np.random.Generator, size: int) -> Row:
    best = int(rng.integers(1, size + 1))
    menu = [
        lambda: rng.dirichlet(np.full(size, rng.choice([0.1, 1.0, 10.0]))),
        lambda: zipf(size, exponent=rng.choice([0.5, 1.0, 2.0])),
        lambda: geometric(size, decay=rng.choice([0.1, 0.5, 0.9])),
        lambda: two_level(size, best=1, ratio=10.0 ** -rng.integers(3, 13)),
        lambda: two_level(size, best=best, ratio=1 - 10.0 ** -rng.integers(1, 10)),
        lambda: two_level(size, best=best, ratio=0.0),
        lambda: two_level(size, best=1, ratio=rng.uniform()),
        lambda: heavy_tail(size, power=rng.choice([1.0, 2.0])),
        lambda: _random_layers(rng, size),
    ]
    row = menu[rng.integers(len(menu))]()
    return rng.permutation(row)


def zoo(key: Key[Array, ""], *, count: int, prompts: int, responses: int) -> Batch:
    """`count` instances pi [K X Y], mu [K X], each row from a random family.

    Dirichlet, Zipf, heavier tails, geometric, nearly a point mass, near ties, exact
    ties, multi-layer softmax; one mu in four ignores a prompt.
    """
    rng = generator(key)
    pi = [[_random_row(rng, responses) for _ in range(prompts)] for _ in range(count)]
    mu = rng.dirichlet(np.ones(prompts), size=count)
    if prompts > 1:
        mu[::4, 0] = 0.0
        mu /= mu.sum(-1, keepdims=True)
    return {"pi": np.array(pi), "mu": mu}


def compositions(total: int, cells: int) -> Int[np.ndarray, "T C"]:
    """Every way to put `total` draws into `cells` cells, binom(total+cells-1, total).

    As counts, the support of a multinomial; divided by `total`, all distributions
    with that denominator.
    """
    bars = list(itertools.combinations(range(total + cells - 1), cells - 1))
    edges = np.array(bars, np.int64).reshape(len(bars), cells - 1)
    ends = np.full((len(edges), 1), total + cells - 1)
    return np.diff(np.hstack([np.full_like(ends, -1), edges, ends])) - 1


class HardFamily(NamedTuple):
    """One member pi^I of the hard family of Thm 3.1', in exact rationals."""

    pi: list[list[Fraction]]  # [d+1, M+1]
    mu: list[Fraction]  # [d+1]


def hard_row(j: int, *, size: int, gamma: Fraction) -> list[Fraction]:
    """P_j over y_0..y_M: a point mass for j = 0, else 1/((1-g)M) on y_j and
    (1/M)(1 - g/((M-1)(1-g))) on every other y_k, k in [M] (family of Thm 3.1').

    Raises ValueError unless M >= 2 and 0 <= g <= 1 - 1/M: beyond, P_j is negative.
    """
    if size < 2 or not 0 <= gamma <= 1 - Fraction(1, size):
        raise ValueError(f"expected M >= 2, 0 <= g <= 1-1/M; found M={size}, g={gamma}")
    if j == 0:
        return [Fraction(int(k == 0)) for k in range(size + 1)]
    top = 1 / ((1 - gamma) * size)
    rest = Fraction(1, size) * (1 - gamma / ((size - 1) * (1 - gamma)))
    return [Fraction(0)] + [top if k == j else rest for k in range(1, size + 1)]


def hard_family(
    index: Sequence[int], *, size: int, gamma: Fraction, weight: Fraction
) -> HardFamily:
    """pi^I for I in [M]^d: pi^I(x_i) = P_{j_i}, pi^I(x_0) = P_0 (Thm 3.1').

    `weight` is the paper's Delta: mu puts 1-Delta on x_0 and Delta/d on each x_i.
    """
    rows = [hard_row(j, size=size, gamma=gamma) for j in (0, *index)]
    share = weight / len(index)
    return HardFamily(rows, [1 - weight] + [share] * len(index))


def as_float(rows: Sequence) -> np.ndarray:
    """Rationals to the nearest float64 numbers."""
    return np.array([[float(p) for p in row] for row in rows])


def prop_e2_features(size: int) -> tuple[np.ndarray, np.ndarray]:
    """phi_1 [1 1 V d], phi_2 [1 V V d] of Prop E.2, V = [size], d = 2; token i at i-1.

    phi_1(1) = phi_1(2) = e_1, phi_1(i>=3) = e_2; phi_2(2,1) = e_1, phi_2(2,j!=1) = e_2,
    phi_2(i!=2,.) = 0. The layout is that of `jsharp.tabular.autoregressive_softmax`.
    """
    first = np.zeros((1, 1, size, 2))
    first[..., :2, 0] = 1.0
    first[..., 2:, 1] = 1.0
    second = np.zeros((1, size, size, 2))
    second[:, 1, 0, 0] = 1.0
    second[:, 1, 1:, 1] = 1.0
    return first, second


def two_step_table(
    features: tuple[np.ndarray, np.ndarray], theta: Float[Array, "2 d"]
) -> Float[Array, "V V"]:
    """pi(y_1, y_2) of a one-prompt autoregressive softmax of horizon 2, in float64."""
    first = jax.nn.log_softmax(jnp.asarray(features[0])[0, 0] @ theta[0])
    second = jax.nn.log_softmax(jnp.asarray(features[1])[0] @ theta[1], axis=-1)
    return jnp.exp(first[:, None] + second)


def labelled_graphs(vertices: int, *, parity: int) -> Bool[np.ndarray, "K E"]:
    """Every labelled graph whose number of edges is odd (parity 1) or even (0).

    Column e says whether the e-th pair of `itertools.combinations(range(vertices), 2)`
    is an edge; E = n(n-1)/2 and, from n = 2 on, K = 2^(E-1) (Prop E.1).

    Raises ValueError below two vertices and above six, where K passes a million.
    """
    if not 2 <= vertices <= 6:
        raise ValueError(f"expected 2 to 6 vertices, found {vertices}")
    pairs = vertices * (vertices - 1) // 2
    graphs = np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1 == 1
    return graphs[graphs.sum(-1) % 2 == parity]
