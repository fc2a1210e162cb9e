"""Lem F.2: floats against rationals, the counterexample, where it is an equality."""

import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import QUICK, compiled, stack, unstack, vectorised
from theory.potential import (
    CLAIMS,
    DIMENSIONS,
    STEPS,
    exact_f2,
    lemma_f2,
    lemma_f2_repaired,
    potential,
)


def instance(matrices, *, k, lam):
    """Pad A_1..A_T of dimension d to the shape of the claim's instances."""
    matrices = np.asarray(matrices, float)
    steps, d = matrices.shape[:2]
    a = np.zeros((STEPS, DIMENSIONS, DIMENSIONS))
    a[:steps, :d, :d] = matrices
    numbers = {"K": k, "lam": lam, "T": steps, "d": d}
    return {"A": a} | {n: np.asarray(float(v)) for n, v in numbers.items()}


def drawn(rng, *, d, steps, k):
    b = rng.normal(size=(steps, d, d))
    a = b @ b.transpose(0, 2, 1)
    return a * (k / np.trace(a, axis1=1, axis2=2))[:, None, None]


def by_inverse(matrices, lam):
    """The left side with every G_{t-1} inverted."""
    g, total = lam * np.eye(len(matrices[0])), 0.0
    for a in matrices:
        total += np.trace(np.linalg.inv(g) @ a)
        g = g + a
    return total


def test_both_sides_in_floats_rationals_and_by_inverses():
    rng = np.random.default_rng(3)
    cases = [(d, t, k) for d in (1, 2, 4) for t in (1, 5) for k in (0.2, 7.0)]
    matrices = [drawn(rng, d=d, steps=t, k=k) for d, t, k in cases]
    found = [
        instance(a, k=k, lam=1.5) for a, (_, _, k) in zip(matrices, cases, strict=True)
    ]
    for pair, printed in ((lemma_f2, True), (lemma_f2_repaired, False)):
        sides = vectorised(pair)(stack(found))
        exact = [exact_f2(i, printed=printed) for i in found]
        left, right = np.array(exact, float).T
        np.testing.assert_allclose(sides.left, left, rtol=1e-11)
        np.testing.assert_allclose(sides.right, right, rtol=1e-11)
    np.testing.assert_allclose(left, [by_inverse(a, 1.5) for a in matrices], rtol=1e-11)
    x, (d, t, _) = 7.0 / 1.5, cases[-1]
    assert right[-1] == pytest.approx(
        d * x * math.log(1 + t * x / d) / math.log(1 + x), rel=1e-12
    )


def test_the_counterexample_at_half_of_lambda():
    """d = T = 1, A_1 = K = lambda/2: 1/2 against log 1 = 0, as in errata.md."""
    i = instance([[[0.5]]], k=0.5, lam=1.0)
    left, right = exact_f2(i)
    assert left == Fraction(1, 2) and right == 0
    left, right = exact_f2(i, printed=False)
    assert float(left) == pytest.approx(float(right), rel=1e-40)


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_the_printed_bound_is_not_positive_up_to_lambda_over_k_steps(steps):
    k = 1 / (steps + 1)
    left, right = exact_f2(instance(np.full((steps, 1, 1), k), k=k, lam=1.0))
    assert left > Fraction(1, 3) and right <= Fraction(1, 10**15)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("x", [1e-3, 1.0, 50.0])
def test_the_repaired_bound_is_attained_in_every_dimension(d, x):
    """A_t = K e_t e_t^T for t = 1..d: d K/lambda on both sides."""
    axes = [np.diag(np.eye(d)[t] * 2 * x) for t in range(d)]
    left, right = exact_f2(instance(axes, k=2 * x, lam=2.0), printed=False)
    assert float(left) == pytest.approx(d * x, rel=1e-14)
    assert float(right) == pytest.approx(d * x, rel=1e-14)


@pytest.mark.parametrize("x", [1.0, 1.5, 300.0])
def test_from_k_equal_to_lambda_on_the_printed_bound_is_the_weaker(x):
    for d in (1, 3, 50):
        for steps in (1, 2, 99):
            assert math.log((steps + 1) * x) >= math.log1p(steps * x / d) - 1e-12


def test_the_search_keeps_to_the_lemmas_assumptions(key):
    """PSD, Tr A_t <= K, nothing beyond T and d: checked by eigenvalues."""
    claim = next(c for c in CLAIMS if c.repairs)
    (batch,) = claim.attack(key, QUICK._replace(starts=8, steps=30))
    for i in unstack(batch):
        d, steps = int(i["d"]), int(i["T"])
        assert np.linalg.eigvalsh(i["A"]).min() >= -1e-12 * i["K"]
        traces = np.trace(i["A"], axis1=1, axis2=2)
        assert traces.max() <= i["K"] * (1 + 1e-12)
        assert not i["A"][steps:].any() and not i["A"][:, d:].any()
        assert 1 <= d <= DIMENSIONS and 1 <= steps <= STEPS


def test_the_order_of_the_matrices_matters_and_G_is_the_one_before():
    """A_1 = diag(1,0), A_2 = I/2, lambda = 1: 1 + (1/2)/2 + 1/2 = 7/4."""
    i = instance([np.diag([1.0, 0.0]), np.eye(2) / 2], k=1.0, lam=1.0)
    found = compiled(potential)({n: jnp.asarray(a) for n, a in i.items()})
    assert float(found) == pytest.approx(1.75, rel=1e-15)
