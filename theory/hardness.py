"""Hardness: the hard family of Thm 3.1' (Lem H.1) and the class of Prop E.2.

Lem H.1 is decided in exact rationals: at its boundaries, where a probability equals
(1-g) times the largest one, float64 would decide by rounding.
"""

import functools
from collections.abc import Callable
from fractions import Fraction

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
    one_by_one,
    scaled,
    vectorised,
)
from theory.families import hard_family, prop_e2_features, two_step_table
from theory.search import JaxInstance, attack

# ---- Lem H.1


def _fraction(instance: Instance) -> Fraction:
    return Fraction(
        int(instance["gamma_numerator"]), int(instance["gamma_denominator"])
    )


def lemma_h1(instance: Instance) -> tuple[float, float]:
    """max_i |Y_g^I(x_i) union {y_{j_i}}| <= 1, with j_0 = 0: Y_g^I(x_i) = {y_{j_i}}."""
    return _largest_set(instance, 1 - _fraction(instance))


def _largest_set(instance: Instance, threshold: Fraction) -> tuple[float, float]:
    index = [int(j) for j in instance["index"]]
    size, gamma = int(instance["size"]), _fraction(instance)
    family = hard_family(index, size=size, gamma=gamma, weight=Fraction(1, 2))
    members = [
        {k for k, p in enumerate(row) if p >= threshold * max(row)} | {j}
        for row, j in zip(family.pi, [0, *index], strict=True)
    ]
    return float(max(map(len, members))), 1.0


def _exact_h1(instance: Instance) -> tuple[Number, Number]:
    """`lemma_h1` counts, in rationals already."""
    left, right = lemma_h1(instance)
    return Fraction(left), Fraction(right)


def _lower_threshold(instance: Instance) -> tuple[float, float]:
    """The planted bug: Y_g taken at 0.9 (1-g) max."""
    return _largest_set(instance, Fraction(9, 10) * (1 - _fraction(instance)))


def _positive_gamma(instance: Instance) -> tuple[float, float]:
    """The control: nothing is claimed at g = 0."""
    left, right = lemma_h1(instance)
    return (left if _fraction(instance) > 0 else 0.0), right


def _hard_instances(gammas: list[Fraction]) -> Batch:
    """Every M from 2 to 24 that allows each g, d = 2, two different indices."""
    cases = [(g, m) for g in gammas for m in range(2, 25) if g <= 1 - Fraction(1, m)]
    return {
        "size": np.array([m for _, m in cases]),
        "index": np.array([(1, m) for _, m in cases]),
        "gamma_numerator": np.array([g.numerator for g, _ in cases]),
        "gamma_denominator": np.array([g.denominator for g, _ in cases]),
    }


def _hard_grid(key, effort: Effort, *, least: int) -> list[Batch]:
    """g = k/20 for k >= least, tiny g, and g = 1 - 1/M where P_i is a point mass."""
    del key, effort
    grid = [Fraction(k, 20) for k in range(least, 20)]
    edges = [Fraction(1, 10**12)] + [1 - Fraction(1, m) for m in (3, 7, 24)]
    return [_hard_instances(grid + edges)]


# ---- Prop E.2

SIZES = (2, 5, 30)


def _e2_table(i: JaxInstance, *, size: int) -> Float[Array, "V V"]:
    """pi_theta over pairs of tokens, from the features of Prop E.2."""
    return two_step_table(prop_e2_features(size), i["theta"])


def prop_e2(i: JaxInstance, *, size: int) -> tuple[Array, Array]:
    """pi_theta(2,1) <= 1/2 for every theta in R^{2 x 2}."""
    return _e2_table(i, size=size)[1, 0], jnp.asarray(0.5)


def prop_e2_base(i: JaxInstance, *, size: int) -> tuple[Array, Array]:
    """(2,1) is the only argmax of pi_base, with mass Omega(1): at least 1/6.

    max( (1+1e-6) pi_base(y) for y != (2,1), 1/6 ) <= pi_base(2,1): the factor refuses
    ties, and costs nothing where the runner-up has at most 3/4 of the mode. 1/6 is the
    limit of n^2/((3n-2)(2n-1)), the mass at B = log n.
    """
    table = _e2_table(i, size=size)
    others = jnp.max(table.at[1, 0].set(0.0))
    return jnp.maximum((1 + 1e-6) * others, 1 / 6), table[1, 0]


def first_token(instance: Instance) -> Fraction:
    """pi(y_1 = 2) = w_1/(2 w_1 + n-2) at theta_1 = log(w_1) e_1, in rationals."""
    first = Fraction(float(instance["weight"][0]))
    return first / (2 * first + int(instance["size"]) - 2)


def mass_e2(instance: Instance) -> Fraction:
    """pi(2,1) = w_1/(2 w_1 + n-2) * w_2/(w_2 + n-1), in rationals."""
    second = Fraction(float(instance["weight"][1]))
    return first_token(instance) * second / (second + int(instance["size"]) - 1)


def _sharpened(mass: Fraction, threshold: Fraction) -> tuple[Number, Number]:
    """1 when mass >= threshold, else 0, against 1/2: no mass may reach it, not even
    with equality."""
    return Fraction(int(mass >= threshold)), Fraction(1, 2)


def _delta(instance: Instance) -> Fraction:
    return Fraction(float(instance["delta"]))


def exact_e2_text(instance: Instance) -> tuple[Number, Number]:
    """[ pi(2,1) >= 1-delta ] <= 1/2: pi is not (eps,delta)-sharpened (Prop E.2)."""
    return _sharpened(mass_e2(instance), 1 - _delta(instance))


def _attained(instance: Instance) -> tuple[Number, Number]:
    """The planted bug: y_2 = 1 is certain after y_1 = 2, so n = 2 attains 1/2."""
    return _sharpened(first_token(instance), 1 - _delta(instance))


def _short_of(instance: Instance) -> tuple[Number, Number]:
    """The planted bug: 0.9 (1-delta) is enough."""
    return _sharpened(mass_e2(instance), Fraction(9, 10) * (1 - _delta(instance)))


def _exchanged(instance: Instance) -> tuple[Number, Number]:
    """The control: delta where the text has 1-delta."""
    return _sharpened(mass_e2(instance), _delta(instance))


def _decided(pair: Callable[[Instance], tuple[Number, Number]]):
    """Sides decided in rationals, for a strict inequality that floats would round."""

    def rounded(instance: Instance) -> tuple[float, float]:
        left, right = pair(instance)
        return float(left), float(right)

    return one_by_one(rounded)


def _per_size(pair):
    """Sides of batches that carry n as `size`, the same for the whole batch."""
    lifted = {n: vectorised(functools.partial(pair, size=n)) for n in SIZES}
    return lambda batch: lifted[int(batch["size"][0])](
        {name: a for name, a in batch.items() if name != "size"}
    )


def _with_size(batch: Batch, size: int) -> Batch:
    count = len(next(iter(batch.values())))
    return {**batch, "size": np.full(count, size)}


def _along_e1(strength: np.ndarray) -> Batch:
    """theta_1 = theta_2 = B' e_1 for each B'."""
    return {"theta": strength[:, None, None] * np.array([[1.0, 0.0], [1.0, 0.0]])}


def _search_theta(key, effort: Effort) -> list[Batch]:
    """Search over theta at n = 5, and B' e_1 for B' up to 1000 at every n."""
    pair = functools.partial(prop_e2, size=5)
    found = attack(key, pair, {"theta": (2, 2)}, lambda raw: raw, effort=effort)
    grid = _along_e1(np.logspace(-2, 3, effort.starts))
    return [_with_size(b, n) for b, n in [(found, 5)] + [(grid, n) for n in SIZES]]


def _base_policies(key, effort: Effort) -> list[Batch]:
    """B from log n, where the mass is least, to log n + 30."""
    del key, effort
    strengths = {n: np.log(n) + np.linspace(0, 30, 31) for n in SIZES}
    return [_with_size(_along_e1(b), n) for n, b in strengths.items()]


def _sharpened_at(*deltas: float):
    """Every delta against w_1 = w_2 = w for w = exp(B') up to 10^9, at every n."""

    def instances(key, effort: Effort) -> list[Batch]:
        del key, effort
        weights = np.array([1.0, 2.0, 11.0, 1e3, 1e6, 1e9])
        w, d = (a.ravel() for a in np.meshgrid(weights, np.array(deltas)))
        batch = {"weight": np.stack([w, w], -1), "delta": d}
        return [_with_size(batch, n) for n in SIZES]

    return instances


_lemma_h1 = one_by_one(lemma_h1)
_prop_e2 = _per_size(prop_e2)
_prop_e2_base = _per_size(prop_e2_base)
_text = _decided(exact_e2_text)


CLAIMS = (
    Claim(
        "Lem H.1",
        "Y_g^I(x_i) = {y_{j_i}} for g in [0,1), wherever P_i is a distribution",
        "exact",
        functools.partial(_hard_grid, least=0),
        _lemma_h1,
        (Twin("g > 0", one_by_one(_positive_gamma), "holds"),),
        expected="fails",
        exact=_exact_h1,
    ),
    Claim(
        "Lem H.1 (repaired)",
        "Y_g^I(x_i) = {y_{j_i}} for 0 < g <= 1 - 1/M",
        "exact",
        functools.partial(_hard_grid, least=1),
        _lemma_h1,
        (Twin("threshold 0.9 (1-g) max", one_by_one(_lower_threshold)),),
        repairs="Lem H.1",
    ),
    Claim(
        "Prop E.2",
        "pi(2,1) <= 1/2 for every pi in the class and every B'",
        "exact",
        _search_theta,
        _prop_e2,
        (Twin("0.9 x 1/2", scaled(_prop_e2, 0.9)),),
    ),
    Claim(
        "Prop E.2 (base)",
        "(2,1) is the only argmax of pi_base, with mass >= 1/6, for B >= log n",
        "exact",
        _base_policies,
        _prop_e2_base,
        (Twin("0.9 pi_base(2,1)", scaled(_prop_e2_base, 0.9)),),
    ),
    Claim(
        "Prop E.2 (text)",
        "no pi in the class is (eps,delta)-sharpened, for any delta > 1/2",
        "exact",
        _sharpened_at(0.51, 0.6, 0.9),
        _text,
        (Twin("1-delta for delta", _decided(_exchanged), "holds"),),
        expected="fails",
        exact=exact_e2_text,
    ),
    Claim(
        "Prop E.2 (text, repaired)",
        "no pi in the class is (eps,delta)-sharpened, for any delta <= 1/2",
        "exact",
        _sharpened_at(0.01, 0.25, 0.5),
        _text,
        (
            Twin("0.9 (1-delta)", _decided(_short_of)),
            Twin("y_2 = 1 certain", _decided(_attained)),
        ),
        exact=exact_e2_text,
        repairs="Prop E.2 (text)",
    ),
)
