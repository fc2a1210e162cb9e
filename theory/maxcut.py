"""The most likely sequence encodes a max-cut (Prop E.1), over every small graph.

V = {-1, 1}, H = n + 2 for a graph on n vertices. The first n tokens are uniform; with
s = sum_ij J_ij y_i y_j, J = -adjacency, the last two have the logits

    v s, v = y_{H-1};    w (a v + b), w = y_H, a = b = 2.

An unordered sum gives s = cut - uncut, a sum over ordered pairs twice that; the paper
does not say which, so both are checked (`multiplicity` c = 1 or 2). Then

    pi(y, v, w) = 2^-n sigma(2 v s) sigma(2 w (a v + b)),  sigma(2k) = 1/(1 + q^-k)

with q = e^2. For fixed (v, w) it is monotone in the integer s, and between two pairs
(v, w) the exponents decide: q is transcendental, so that two values of
(1 + q^-k)(1 + q^-m) are equal only if their exponents are the same, up to order; if
not, 60 digits tell which is larger. Nothing is compared in floats.

Proof: s = -c (number of edges) at y = (1..1), and the mean of s over y is 0,
so that with an edge max s >= 1. Then y_{H-1} = y_H = 1 reaches sigma(2) sigma(8) = 0.88
of 2^-n, while y_{H-1} = -1 has at most 1/2. This holds whether or not the number of
edges is odd, as the paper assumes; without edges every y is a max-cut.
"""

import functools
import itertools
from decimal import Decimal, localcontext
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from theory.claim import Batch, Claim, Effort, Sides, Twin, exactly
from theory.families import labelled_graphs

LAST = (2, 2)  # theta_H = 2 (e_(H-1,H) + e_H), as printed
CHOICES = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # (y_{H-1}, y_H)


def vertices_of(pairs: int) -> int:
    """n with n(n-1)/2 = pairs; raises ValueError where there is none."""
    n = (1 + round((1 + 8 * pairs) ** 0.5)) // 2
    if n * (n - 1) // 2 != pairs:
        raise ValueError(f"expected n(n-1)/2 pairs of vertices, found {pairs}")
    return n


def sign_vectors(n: int) -> Int[np.ndarray, "S n"]:
    """{-1, 1}^n, the last coordinate running fastest."""
    return np.array(list(itertools.product((-1, 1), repeat=n)))


def agreement(n: int) -> Int[np.ndarray, "S E"]:
    """y_i y_j for every y in {-1, 1}^n and every pair i < j."""
    y = sign_vectors(n)
    i, j = np.array(list(itertools.combinations(range(n), 2))).T
    return y[:, i] * y[:, j]


@functools.cache
def _winners(top: int, bottom: int, last: tuple[int, int]) -> tuple[bool, ...]:
    """Which (v, w) of CHOICES attain the largest probability, s in [bottom, top].

    1/pi is proportional to 1 + q^-k + q^-m + q^-(k+m), k = v s, m = w (a v + b).
    """
    terms = []
    for v, w in CHOICES:
        k, m = max(v * top, v * bottom), w * (last[0] * v + last[1])
        terms.append(tuple(sorted((-k, -m, -k - m))))
    with localcontext(prec=60):
        inverse = {t: sum(Decimal(2 * e).exp() for e in t) for t in terms}
    least = min(terms, key=inverse.__getitem__)
    return tuple(t == least for t in terms)


class Argmax(NamedTuple):
    """For K graphs: s [K S] and which (y, v, w) are most likely [K S 4]."""

    s: Int[np.ndarray, "K S"]
    members: Bool[np.ndarray, "K S 4"]


def most_likely(
    edges: Bool[np.ndarray, "K E"],
    multiplicity: Int[np.ndarray, " K"],
    *,
    sign: int = -1,
    last: tuple[int, int] = LAST,
) -> Argmax:
    """The argmax responses, exactly; `sign` is that of J, (a, b) = `last`."""
    product = agreement(vertices_of(edges.shape[1]))
    s = sign * multiplicity[:, None] * (edges.astype(int) @ product.T)
    top, bottom = s.max(-1), s.min(-1)
    ends = zip(top.tolist(), bottom.tolist(), strict=True)
    winners = np.array([_winners(t, b, last) for t, b in ends])
    extreme = np.stack([s == top[:, None], s == bottom[:, None]], -1)  # v = 1, v = -1
    members = extreme[:, :, [0, 0, 1, 1]] & winners[:, None, :]
    return Argmax(s, members)


def cut_sizes(edges: Bool[np.ndarray, "K E"]) -> Int[np.ndarray, "K S"]:
    """The number of edges between {y = 1} and {y = -1}, for every y in {-1, 1}^n."""
    return edges.astype(int) @ (agreement(vertices_of(edges.shape[1])) < 0).T


def prop_e1(batch: Batch, **planted) -> Sides:
    """max-cut <= the least cut that an argmax response encodes (Prop E.1)."""
    cut = cut_sizes(batch["edges"])
    found = most_likely(batch["edges"], batch["multiplicity"], **planted)
    encodes = found.members.any(-1)
    return exactly(cut.max(-1), np.where(encodes, cut, batch["edges"].shape[1]).min(-1))


def prop_e1_policy(
    edges: Bool[np.ndarray, " E"], *, multiplicity: int = 1
) -> tuple[list[Float[np.ndarray, "1 c 2 d"]], Float[np.ndarray, "H d"]]:
    """Features and theta of Prop E.1 for `jsharp.tabular.autoregressive_softmax`.

    phi_h(y_<=h) holds the monomials of degree 1 to 3 in y_1..y_h, 0 for those that
    reach beyond h, one coordinate for each subset of [H]; token 0 stands for -1.
    """
    n = vertices_of(len(edges))
    horizon = n + 2
    subsets = [s for k in (1, 2, 3) for s in itertools.combinations(range(horizon), k)]
    features = []
    for h in range(1, horizon + 1):
        y = sign_vectors(h)
        columns = [y[:, s].prod(-1) if s[-1] < h else np.zeros(len(y)) for s in subsets]
        features.append(np.stack(columns, -1).reshape(1, -1, 2, len(subsets)) * 1.0)
    theta = np.zeros((horizon, len(subsets)))
    for (i, j), edge in zip(itertools.combinations(range(n), 2), edges, strict=True):
        theta[n, subsets.index((i, j, n))] = -multiplicity * float(edge)
    theta[n + 1, subsets.index((n, n + 1))] = LAST[0]
    theta[n + 1, subsets.index((n + 1,))] = LAST[1]
    return features, theta


def graphs_with_both_sums(vertices: int, *, parity: int) -> Batch:
    """Every labelled graph of that parity, with the sum over unordered pairs (c = 1)
    and over ordered ones (c = 2)."""
    graphs = labelled_graphs(vertices, parity=parity)
    multiplicity = np.repeat([1, 2], len(graphs))
    return {"edges": np.concatenate([graphs, graphs]), "multiplicity": multiplicity}


def _every_graph(key, effort: Effort) -> list[Batch]:
    """All 16933 labelled graphs on 2 to 6 vertices with an odd number of edges."""
    del key, effort
    return [graphs_with_both_sums(n, parity=1) for n in range(2, 7)]


CLAIMS = (
    Claim(
        "Prop E.1",
        "max-cut <= the cut that each argmax response encodes, odd number of edges "
        "(an even number serves as well)",
        "exact",
        _every_graph,
        prop_e1,
        (
            Twin("J = +adjacency", partial(prop_e1, sign=1)),
            Twin("theta_H without e_H", partial(prop_e1, last=(2, 0))),
            Twin("theta_H without e_(H-1,H)", partial(prop_e1, last=(0, 2))),
        ),
    ),
)
