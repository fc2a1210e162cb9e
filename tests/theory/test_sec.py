"""SEC against Def J.1 with its three expectations written as loops."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import sec

BETA, LAM = 0.3, 0.5
sec_of_sequence = jax.jit(sec.sec_of_sequence)
sec_of_class = jax.jit(sec.sec, static_argnames="horizon")


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


def test_sec_refuses_to_sample_sequences(instance):
    with pytest.raises(ValueError, match=r"at most 262144 sequences, found .* 3\^12"):
        sec.sec(*instance, horizon=12, beta=BETA, lam=LAM)


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
    assert np.isfinite(jax.jit(jax.grad(value))(policies)).all()
