"""SEC against Def J.1 with its three expectations written as loops."""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import sec
from theory.claim import compiled

BETA, LAM = 0.3, 0.5
sec_of_sequence = compiled(sec.sec_of_sequence)


@cache
def program(horizon):
    return compiled(partial(sec.sec, horizon=horizon))


def sec_of_class(*tables, horizon, beta, lam):
    return program(horizon)(*tables, beta=beta, lam=lam)


@pytest.fixture
def instance():
    """Three policies over two prompts, the base of full support, any reward."""
    rng = np.random.default_rng(6)
    policies = rng.dirichlet(np.ones(3), size=(3, 2))
    pi_base = rng.dirichlet(np.ones(3), size=2)
    reward, mu = rng.normal(size=(2, 3)), np.array([0.25, 0.75])
    return tuple(map(jnp.array, (policies, pi_base, reward, mu)))


def literal_sum(sequence, pi_base, reward, mu):
    """Def J.1 to the letter, with the draw (x, y, y') enumerated."""
    pi_base, reward = np.asarray(pi_base), np.asarray(reward)
    sequence, mu = np.asarray(sequence), np.asarray(mu)

    def d(t, x, y, other):
        gain = lambda z: BETA * math.log(sequence[t, x, z] / pi_base[x, z])
        return gain(y) - reward[x, y] - gain(other) + reward[x, other]

    def mean(i, value):
        draws = itertools.product(range(len(mu)), *[range(pi_base.shape[1])] * 2)
        return sum(
            mu[x] * sequence[i, x, y] * pi_base[x, other] * value(x, y, other)
            for x, y, other in draws
        )

    def term(t):
        seen = sum(mean(i, lambda *draw: d(t, *draw) ** 2) for i in range(t))
        return mean(t, lambda *draw: d(t, *draw)) ** 2 / max(LAM, seen)

    return sum(term(t) for t in range(len(sequence)))


@pytest.mark.parametrize("order", [(0,), (2, 2, 0), (1, 0, 2, 1)])
def test_sum_of_a_sequence(instance, order):
    policies, *rest = instance
    sequence = policies[jnp.array(order)]
    found = sec_of_sequence(sequence, *rest, beta=BETA, lam=LAM)
    assert float(found) == pytest.approx(literal_sum(sequence, *rest), rel=1e-12)


def test_sec_is_the_largest_sum(instance):
    policies, *rest = instance
    orders = itertools.product(range(3), repeat=3)
    largest = max(literal_sum(policies[jnp.array(order)], *rest) for order in orders)
    found = sec_of_class(policies, *rest, horizon=3, beta=BETA, lam=LAM)
    assert float(found) == pytest.approx(largest, rel=1e-12)


def by_enumeration(policies, rest, *, horizon, lam):
    """All K^T sequences at once, from the moments alone."""
    pi_base, reward, mu = rest
    moments = sec._moments(policies, pi_base, reward, mu, BETA)
    first, second = map(np.asarray, moments)
    sequences = np.array(list(itertools.product(range(len(first)), repeat=horizon)))
    total = np.zeros(len(sequences))
    for t in range(horizon):
        now = sequences[:, t]
        seen = second[sequences[:, :t], now[:, None]].sum(1)
        total += first[now] ** 2 / np.maximum(lam, seen)
    return total.max()


@pytest.mark.parametrize(("members", "horizon"), [(1, 5), (2, 9), (4, 6), (6, 3)])
def test_sec_is_the_maximum_of_an_enumeration(members, horizon):
    """4^6 and 6^3 sequences, K below and above T; a small lam makes order matter."""
    rng = np.random.default_rng(members)
    policies = jnp.array(rng.dirichlet(np.full(3, 0.4), size=(members, 2)) + 1e-3)
    policies /= policies.sum(-1, keepdims=True)
    rest = (rng.dirichlet(np.ones(3), size=2), rng.normal(size=(2, 3)), [0.4, 0.6])
    rest = tuple(map(jnp.array, rest))
    for lam in (1e-3, 0.5):
        found = sec_of_class(policies, *rest, horizon=horizon, beta=BETA, lam=lam)
        largest = by_enumeration(policies, rest, horizon=horizon, lam=lam)
        assert float(found) == pytest.approx(largest, rel=1e-12)


def test_sec_of_one_member_over_a_long_horizon(instance):
    """A constant sequence: a^2 sum_n 1/max(lam, n b), harmonic from lam/b on."""
    policies, *rest = instance
    pi_base, reward, mu = rest
    first, second = sec._moments(policies[:1], pi_base, reward, mu, BETA)
    a, b = float(first[0]), float(second[0, 0])
    expected = sum(a * a / max(0.01, n * b) for n in range(400))
    found = sec_of_class(policies[:1], *rest, horizon=400, beta=BETA, lam=0.01)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_members_without_a_first_moment_add_nothing(instance):
    """pi_base has E^t[d_t] = 0: SEC is that of the others, to all T."""
    policies, *rest = instance
    more = jnp.concatenate([policies[:2], rest[0][None]])
    with_base = sec_of_class(more, *rest, horizon=40, beta=BETA, lam=0.01)
    without = sec_of_class(policies[:2], *rest, horizon=40, beta=BETA, lam=0.01)
    assert float(with_base) == pytest.approx(float(without), rel=1e-12)


def test_the_bound_is_above_the_exact_sec(instance):
    policies, *rest = instance
    for horizon in (1, 40):
        exact = sec_of_class(policies, *rest, horizon=horizon, beta=BETA, lam=0.01)
        above = sec.sec_bound(policies, *rest, horizon=horizon, beta=BETA, lam=0.01)
        assert float(exact) <= float(above) <= 4 * float(exact)


def test_the_bound_of_one_member_is_nearly_reached(instance):
    """a^2/lam + (a^2/b) H_{T-1} for lam < b, against 1 + log T for the harmonic sum."""
    policies, *rest = instance
    exact = sec_of_class(policies[:1], *rest, horizon=400, beta=BETA, lam=1e-3)
    above = sec.sec_bound(policies[:1], *rest, horizon=400, beta=BETA, lam=1e-3)
    assert 0.9 * float(above) < float(exact) <= float(above)


def test_sec_refuses_what_would_take_too_long(instance):
    with pytest.raises(ValueError, match=r"found \d+ for K = 3, T = 3000"):
        sec.sec(*instance, horizon=3000, beta=BETA, lam=LAM)
    with pytest.raises(ValueError, match="expected horizon >= 1, found 0"):
        sec.sec(*instance, horizon=0, beta=BETA, lam=LAM)


def test_sec_is_infinite_where_a_log_ratio_is(instance):
    policies, pi_base, reward, mu = instance
    gap = policies.at[1, 0].set(jnp.array([0.0, 0.5, 0.5]))
    found = sec_of_class(gap, pi_base, reward, mu, horizon=2, beta=BETA, lam=LAM)
    assert float(found) == math.inf
    elsewhere = jnp.array([0.0, 1.0])  # off supp(mu) the gap is never drawn
    found = sec_of_class(gap, pi_base, reward, elsewhere, horizon=2, beta=BETA, lam=LAM)
    assert math.isfinite(float(found))


def test_gradient_is_finite(instance):
    policies, *rest = instance
    value = lambda p: sec.sec(p, *rest, horizon=2, beta=BETA, lam=LAM)
    assert np.isfinite(compiled(jax.grad(value))(policies)).all()
