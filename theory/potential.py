"""The potential lemma behind the SEC of linear classes, Lem F.2.

With x_t = Tr(G_{t-1}^-1 A_t) in [0, K/lambda], concavity of the logarithm gives
x_t <= (K/lambda) log(1+x_t)/log(1+K/lambda), and det(I+M) >= 1 + Tr M for PSD M makes
the sum of log(1+x_t) telescope to log det(G_T/lambda) <= d log(1 + TK/(d lambda)). The
paper has log((T+1)K/lambda) for that logarithm: larger for K >= lambda, but too small
for small K, and even negative. What the proof gives is an equality at T = d,
A_t = K e_t e_t^T, whatever d, K and lambda.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory.claim import (
    Batch,
    Claim,
    Effort,
    Instance,
    Number,
    Twin,
    join,
    scaled,
    stack,
    vectorised,
)
from theory.search import JaxInstance, attack, between

# Instances have A [16 4 4], zero beyond T and d, and K, lam, T, d as numbers.
STEPS, DIMENSIONS = 16, 4


def potential(i: JaxInstance) -> Float[Array, ""]:
    """sum_t Tr(G_{t-1}^-1 A_t), G_t = lambda I + sum_{i<=t} A_i (Lem F.2, left)."""

    def step(g, a):
        return g + a, jnp.trace(jnp.linalg.solve(g, a))

    start = i["lam"] * jnp.eye(i["A"].shape[-1])
    return jnp.sum(jax.lax.scan(step, start, i["A"])[1])


def lemma_f2(i: JaxInstance) -> tuple[Array, Array]:
    """... <= d K log((T+1) K/lambda)/(lambda log(1+K/lambda)) (Lem F.2, as printed)."""
    x = i["K"] / i["lam"]
    return potential(i), i["d"] * x * jnp.log((i["T"] + 1) * x) / jnp.log1p(x)


def lemma_f2_repaired(
    i: JaxInstance, *, with_dimension: bool = True
) -> tuple[Array, Array]:
    """... <= d K log(1 + TK/(d lambda))/(lambda log(1+K/lambda)) (Lem F.2, its proof).

    Without the factors d it is the planted bug of a dimension-free bound.
    """
    x, d = i["K"] / i["lam"], i["d"] if with_dimension else 1.0
    return potential(i), d * x * jnp.log1p(i["T"] * x / d) / jnp.log1p(x)


def _large_k(i: JaxInstance) -> tuple[Array, Array]:
    """The control: as printed, for K >= lambda only."""
    left, right = lemma_f2(i)
    return left, jnp.where(i["K"] >= i["lam"], right, jnp.inf)


def exact_f2(instance: Instance, *, printed: bool = True) -> tuple[Number, Number]:
    """Both sides of Lem F.2: the left in rationals, the logarithms to 50 digits."""
    d, steps = int(instance["d"]), int(instance["T"])
    rows = [[[Fraction(float(v)) for v in r[:d]] for r in a[:d]] for a in instance["A"]]
    lam = Fraction(float(instance["lam"]))
    g = [[lam * (r == c) for c in range(d)] for r in range(d)]
    left = Fraction(0)
    for a in rows[:steps]:
        left += _trace_of_quotient(g, a)
        g = [
            [p + q for p, q in zip(r, s, strict=True)]
            for r, s in zip(g, a, strict=True)
        ]
    with localcontext(prec=50):
        x = Decimal(float(instance["K"])) / Decimal(float(instance["lam"]))
        inside = (steps + 1) * x if printed else 1 + steps * x / d
        return left, d * x * inside.ln() / (1 + x).ln()


def _trace_of_quotient(g: list[list[Fraction]], a: list[list[Fraction]]) -> Fraction:
    """Tr(G^-1 A) by Gauss-Jordan elimination; no pivot of a positive G is zero."""
    size = len(g)
    rows = [left + right for left, right in zip(g, a, strict=True)]
    for k in range(size):
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for r in range(size):
            if r != k:
                rows[r] = [
                    v - rows[r][k] * p for v, p in zip(rows[r], rows[k], strict=True)
                ]
    return sum((rows[k][size + k] for k in range(size)), Fraction(0))


def _f2_instance(
    kind: str, *, d: int, steps: int, k: float, lam: float = 1.0
) -> Instance:
    """A_t = K e_t e_t^T in turn ("axes"), K e_1 e_1^T ("line") or K I/d ("ball")."""
    a = np.zeros((STEPS, DIMENSIONS, DIMENSIONS))
    for t in range(steps):
        axis = t % d if kind == "axes" else 0
        a[t, axis, axis] = k
        if kind == "ball":
            a[t, :d, :d] = k * np.eye(d) / d
    numbers = {"K": k, "lam": lam, "T": float(steps), "d": float(d)}
    return {"A": a} | {name: np.asarray(v) for name, v in numbers.items()}


def _structured_f2(key, effort: Effort) -> list[Batch]:
    """By hand d = T = 1, K = lambda/2; then d <= 4, T <= 16, K/lambda from 1e-6 on."""
    del key, effort
    found = [_f2_instance("axes", d=1, steps=1, k=0.5)]
    for x in (1e-6, 1e-2, 0.3, 1.0, 8.0, 1e3):
        for d in range(1, DIMENSIONS + 1):
            for steps in sorted({1, d, 2 * d, STEPS}):
                for kind in ("axes", "line", "ball"):
                    found.append(_f2_instance(kind, d=d, steps=steps, k=3 * x, lam=3.0))
    return [stack(found)]


def _decode_f2(raw: dict[str, Array]) -> JaxInstance:
    """A_t = K s_t B_t B_t^T/Tr(B_t B_t^T), s_t in (0,1), cut to T steps and d axes."""
    d = jnp.floor(between(raw["d"], 1.0, DIMENSIONS + 1.0))
    steps = jnp.floor(between(raw["T"], 1.0, STEPS + 1.0))
    inside = (jnp.arange(float(DIMENSIONS)) < d).astype(float)
    b = raw["B"] * inside[None, :, None]
    square = jnp.einsum("tij,tkj->tik", b, b)
    trace = jnp.trace(square, axis1=1, axis2=2)
    k, lam = between(raw["K"], 1e-3, 1e3), between(raw["lam"], 0.1, 10.0)
    size = jnp.where(
        jnp.arange(float(STEPS)) < steps, k * jax.nn.sigmoid(raw["s"]), 0.0
    )
    a = square * (size / trace)[:, None, None]
    return {"A": a, "K": k, "lam": lam, "T": steps, "d": d}


def _attack_f2(key, effort: Effort) -> list[Batch]:
    """The structured instances, and search over every A_t, K, lambda, T and d."""
    shapes = {"B": (STEPS, DIMENSIONS, DIMENSIONS), "s": (STEPS,)}
    shapes |= dict.fromkeys(("d", "T", "K", "lam"), ())
    found = attack(key, lemma_f2_repaired, shapes, _decode_f2, effort=effort)
    return [join(*_structured_f2(key, effort), found)]


_printed = vectorised(lemma_f2)
_repaired = vectorised(lemma_f2_repaired)

CLAIMS = (
    Claim(
        "Lem F.2",
        "sum_t Tr(G_{t-1}^-1 A_t) <= d K log((T+1)K/lambda)/(lambda log(1+K/lambda))",
        "exact",
        _structured_f2,
        _printed,
        (
            Twin("log(1 + TK/(d lambda))", _repaired, "holds"),
            Twin("K >= lambda", vectorised(_large_k), "holds"),
        ),
        expected="fails",
        exact=exact_f2,
    ),
    Claim(
        "Lem F.2 (repaired)",
        "sum_t Tr(G_{t-1}^-1 A_t) "
        "<= d K log(1 + TK/(d lambda))/(lambda log(1+K/lambda))",
        "exact",
        _attack_f2,
        _repaired,
        (
            Twin("0.9 x", scaled(_repaired, 0.9)),
            Twin(
                "without d",
                vectorised(partial(lemma_f2_repaired, with_dimension=False)),
            ),
            Twin("as printed", _printed),
        ),
        exact=partial(exact_f2, printed=False),
        repairs="Lem F.2",
    ),
)
