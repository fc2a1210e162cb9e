"""Ex J.1: the code against enumeration, fits against SciPy, ranks against integers."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from levels import LEVEL

from theory import packing, quantities
from theory.claim import unstack
from theory.families import compositions
from theory.packing import Code, base_policy, circle, greedy, hypercube
from theory.s4_packing import CLAIMS, LABELS_SEEN, sharpest_fit

rng_of = np.random.default_rng


def enumerated(dim, a):
    """pi_a on the code, written out: exp<theta, y>, theta = sqrt(d) a, normalised."""
    return scipy.special.softmax(np.sqrt(dim) * hypercube(dim) @ a)


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_the_code_against_enumeration(dim):
    code, points = Code(dim), hypercube(dim)
    base = base_policy(points)
    table, mu = jnp.asarray(base)[None], jnp.ones(1)
    assert np.argmax(base) == 0
    assert code.coverage == pytest.approx(float(quantities.coverage(table, mu)))
    assert code.margin == pytest.approx(float(quantities.margin(table, mu)))
    assert code.reward_range == pytest.approx(1 + np.max(-np.log(base)))
    assert packing.least_distance(points) == pytest.approx(2 / np.sqrt(dim))
    wrong = (points < 0).sum(-1)
    tail = [base[wrong >= level].sum() for level in range(dim + 1)]
    np.testing.assert_allclose(np.exp(code.log_survival()[:-1]), tail, rtol=1e-12)
    assert code.log_survival()[-1] == -np.inf


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_policies_on_the_code_factorise(dim):
    """pi_a(y*), and J_beta up to the constant log Z that the code leaves out."""
    code, a = Code(dim), rng_of(0).normal(size=(4, dim))
    base = jnp.asarray(base_policy(hypercube(dim)))[None]
    reward, mu = jnp.log(base), jnp.ones(1)
    for row in a:
        pi = enumerated(dim, row)
        assert code.log_mode(row[None])[0] == pytest.approx(np.log(pi[0]))
        value = quantities.objective(jnp.asarray(pi)[None], base, reward, mu, beta=0.3)
        log_z = dim * np.log(2 * np.cosh(1 / dim))
        found = code.objective(row[None], beta=0.3)[0] - log_z
        assert found == pytest.approx(float(value), rel=1e-12)


def test_the_survival_keeps_its_digits_at_sixty():
    """P[no wrong sign] = 1/C_cov = 2e-18: 1 minus it is 1 in float64, not its log."""
    code = Code(60)
    assert code.log_survival()[1] == pytest.approx(-1 / code.coverage, rel=1e-12)
    least = packing.least_sft(code, rho=0.1)
    assert least == pytest.approx(np.log(10) * code.coverage, rel=1e-9)


@pytest.mark.parametrize("dim", [1, 5])
def test_the_least_split_is_least(dim):
    code, least = Code(dim), packing.least_sft(Code(dim), rho=0.1)
    miss = 1 - 1 / code.coverage
    assert miss**least <= 0.1 < miss ** (least - 1)


def test_packings_are_packings():
    shares = rng_of(1).dirichlet(np.ones(25))
    for points in (circle(shares), greedy(rng_of(2), dim=5, size=30), hypercube(4)):
        assert packing.least_distance(points) >= 0.25 * (1 - 1e-12)
        np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1)
    assert packing.least_distance(circle(shares)) < 0.252  # 25 hardly fit
    assert 2 / np.sqrt(packing.LARGEST_CODE) == 0.25


def test_bad_instances_are_refused():
    for dim in (0, 65):
        with pytest.raises(ValueError, match=f"1 <= d <= 64, found {dim}"):
            Code(dim)
    with pytest.raises(ValueError, match="at most 25 points on a circle, found 26"):
        circle(np.ones(26))
    with pytest.raises(ValueError, match="expected a packing of 9 in R\\^1, found 2"):
        greedy(rng_of(0), dim=1, size=9)


def best_in_ball(points, mean, radius):
    """The MLE in ||theta|| <= B by SLSQP, pihat(y*) of it."""
    loss = lambda t: scipy.special.logsumexp(points @ t) - t @ mean
    slope = lambda t: scipy.special.softmax(points @ t) @ points - mean
    ball = {
        "type": "ineq",
        "fun": lambda t: radius**2 - t @ t,
        "jac": lambda t: -2 * t,
    }
    found = scipy.optimize.minimize(
        loss,
        np.full(points.shape[1], 1e-3),
        jac=slope,
        constraints=[ball],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return scipy.special.softmax(points @ found.x)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_sharpest_fit_over_all_balls(seed):
    """Largest pihat(y*) over a grid of B, by SLSQP in each ball."""
    rng = rng_of(seed)
    points = greedy(rng, dim=3, size=6)
    mean = rng.dirichlet([2.0, 1, 1, 1, 1, 1]) @ points
    found = sharpest_fit(points[None], mean[None, None])[0, 0]
    grid = [best_in_ball(points, mean, b) for b in np.geomspace(0.05, 50, 40)]
    assert max(grid) <= found + 1e-6
    assert max(grid) >= found - 0.02


def test_labels_without_the_mode_never_sharpen():
    """The lemma behind m >= (1-rho) C_cov: pihat(y*) <= 1 - 1/128, for all n, B."""
    rng = rng_of(3)
    points = np.stack([circle(rng.dirichlet(np.full(5, 0.3))) for _ in range(20)])
    counts = compositions(4, 5)
    fitted = sharpest_fit(points, (counts / 4) @ points)
    unseen = counts[:, 0] == 0
    assert fitted[:, unseen].max() < 1 - LABELS_SEEN
    # It is the mode that was not seen, not the data that are weak.
    assert fitted[:, counts[:, 0] == 4].min() > 1 - LABELS_SEEN


@pytest.mark.statistical
def test_sft_draws_follow_the_exact_law():
    """P[sharpened at N] on the code of R^2 by enumerating labels and fitting each."""
    code, n, draws, delta, runs = Code(2), 3, 5, 0.3, 4000
    points = hypercube(2)
    base = base_policy(points)
    wrong = (points < 0).sum(-1)
    tail = np.exp(code.log_survival()) ** draws  # P[best of N has >= l wrong]
    level = (tail[:-1] - tail[1:])[wrong]
    law = level * base / [base[wrong == w].sum() for w in wrong]
    exact = 0.0
    for labels in itertools.product(range(4), repeat=n):
        mean = points[list(labels)].mean(0)[None, None]
        sharp = sharpest_fit(points[None], mean)[0, 0] >= 1 - delta
        exact += np.prod(law[list(labels)]) * sharp
    m = packing.sft_draws(rng_of(0), code, labels=n, delta=delta, runs=runs)
    done = int((m <= n * draws).sum())
    p = scipy.stats.binomtest(done, runs, exact).pvalue
    assert p > LEVEL
    # Planted bug: N draws in all instead of N for each label.
    late = int((m <= draws).sum())
    assert scipy.stats.binomtest(late, runs, exact).pvalue < LEVEL


@pytest.mark.parametrize("dim", [3, 8])
def test_the_projector_counts_independent_differences(dim):
    rng, null = rng_of(dim), np.tile(np.eye(dim), (5, 1, 1))
    gaps = rng.choice([-2.0, 0.0, 2.0], p=[0.2, 0.6, 0.2], size=(2 * dim, 5, dim))
    for count in range(1, 2 * dim + 1):
        null = packing._forget(null, gaps[count - 1])
        for r in range(5):
            rank = np.linalg.matrix_rank(gaps[:count, r])
            assert np.trace(null[r]) == pytest.approx(dim - rank, abs=1e-9)


def test_an_exploring_fit_is_exact_on_the_data_and_explores():
    """Residuals 0, on the ball's boundary, sum log pi(y') below that of pi*_beta."""
    rng, code, runs = rng_of(5), Code(6), 50
    beta, radius = code.beta(0.1), code.radius(0.1) / np.sqrt(6)
    base = np.full((runs, 6), 1 / 6)
    target = np.full_like(base, code.tilted(beta))
    null, total, gaps = np.tile(np.eye(6), (runs, 1, 1)), np.zeros((runs, 6)), []
    for _ in range(3):
        other = packing._signs(rng, base)
        gaps.append(packing._signs(rng, base) - other)
        total += other
        null = packing._forget(null, gaps[-1])
    fit = target - np.einsum("rij,rj->ri", null, target)
    push = np.array([total, np.full_like(total, 3.0)])
    a = packing._explore(base, fit, null, push, radius)
    for gap in gaps:
        np.testing.assert_allclose(((a - target) * gap).sum(-1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), radius)
    term = lambda b: (total * b - 3 * np.logaddexp(b, -b)).sum(-1)
    assert (term(a) <= term(target) + 1e-9).all()


def test_a_determined_fit_is_the_tilted_policy():
    """After many rounds XPO's last iterate has pi*_beta's mass on y*."""
    code, delta = Code(4), 0.1
    beta = code.beta(delta)
    base = jnp.asarray(base_policy(hypercube(4)))[None]
    tilted = float(quantities.pi_star_beta(base, beta=beta)[0, 0])
    a = np.full((1, 4), code.tilted(beta))
    assert code.log_mode(a)[0] == pytest.approx(np.log(tilted), rel=1e-9)
    assert tilted >= 1 - delta / 2  # first exact step of Thm 4.3
    run = {"delta": delta, "rounds": 40, "runs": 50}
    assert packing.xpo_sharpened(rng_of(0), code, **run)[-1].all()
    assert not packing.xpo_sharpened(rng_of(0), code, sign=-1, **run)[-1].any()


def test_the_answer_is_the_iterate_of_largest_objective():
    """At delta = 0.95 pi_base is sharpened; what explores instead has a smaller J."""
    run = {"delta": 0.95, "rounds": 6, "runs": 200}
    assert packing.xpo_sharpened(rng_of(0), Code(2), **run).all()


def test_the_least_queries_of_a_run():
    table = np.array([[0, 1, 0], [1, 0, 0], [1, 1, 0]], bool)  # [T R]
    np.testing.assert_array_equal(packing.xpo_draws(table), [4, 6, np.inf])


def test_replayed_instances_give_the_same_sides():
    """A witness of the Monte Carlo claim carries its seed."""
    claim = next(c for c in CLAIMS if c.id == "Ex J.1 (XPO)")
    batch = {
        "dim": np.array([3, 5]),
        "seed": np.array([1, 2]),
        "replications": np.array([40, 40]),
        "delta": np.full(2, 0.1),
        "rho": np.full(2, 0.1),
    }
    together = claim.sides(batch)
    for k, instance in enumerate(unstack(batch)):
        alone = claim.sides({name: v[None] for name, v in instance.items()})
        assert alone.left[0] == together.left[k]
