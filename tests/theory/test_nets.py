"""Nets of linear softmax classes: minimal at d = 1, coverings at d = 2, the volumes."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.special

from theory.nets import hexagonal_net, least_net, net_bounds


def gap(phi, theta, other):
    """max_y |log pi_theta(y)/pi_theta'(y)| for every pair [n d], [m d] -> [n m]."""
    log_pi = lambda t: scipy.special.log_softmax(t @ phi.T, axis=-1)
    apart = log_pi(theta)[:, None] - log_pi(other)[None]
    return np.abs(apart).max(-1)


@pytest.mark.parametrize("norm", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("eps", [0.31, 0.77, 1.3, 2.9])
def test_the_least_net_of_the_interval_by_brute_force(norm, eps):
    """A greedy cover of 2001 policies by members among them: the same size, or one
    more or less where the grid cuts a ball short."""
    phi, grid = np.array([[1.0], [-1.0]]), np.linspace(-norm, norm, 2001)[:, None]
    near = gap(phi, grid, grid) <= eps
    uncovered, covers = np.ones(len(grid), bool), 0
    while uncovered.any():
        first = np.flatnonzero(uncovered)[0]
        centre = np.flatnonzero(near[first])[-1]  # the farthest that serves it
        uncovered &= ~near[centre]
        covers += 1
    assert abs(least_net(norm, eps) - covers) <= (covers > 3)


def test_the_least_net_where_it_can_be_counted_by_hand():
    """One member down to the gap between 0 and B, log((1 + e^(2B))/2); then two."""
    for norm in (0.5, 2.0, 30.0):
        gap_to_centre = math.log((1 + math.exp(2 * norm)) / 2)
        assert least_net(norm, gap_to_centre * (1 + 1e-9)) == 1
        assert least_net(norm, gap_to_centre * (1 - 1e-9)) == 2
    assert least_net(1e4, 1e4) == 2  # slope 2 at both ends: about 2B/eps members
    assert least_net(1e4, 100.0) == pytest.approx(200, abs=1)


@pytest.mark.parametrize("radius", [0.05, 0.3, 0.6, 0.99])
def test_the_hexagonal_net_covers_the_disc_and_stays_in_it(radius):
    net = hexagonal_net(1.0, radius)
    assert np.linalg.norm(net, axis=-1).max() <= 1 + 1e-12
    angle, size = np.meshgrid(np.linspace(0, 6.3, 151), np.linspace(0, 1, 40))
    disc = np.stack([size * np.cos(angle), size * np.sin(angle)], -1).reshape(-1, 2)
    apart = np.linalg.norm(disc[:, None] - net[None], axis=-1).min(-1)
    assert apart.max() <= radius * (1 + 1e-12)
    assert len(net) <= (3 / radius) ** 2  # (6B/eps)^2 at eps = 2 radius


def test_a_net_of_half_the_radius_serves_every_class():
    """|log pi_theta/pi_theta'| <= 2 ||theta - theta'||, here for random features."""
    rng = np.random.default_rng(5)
    for norm, eps in ((1.0, 0.5), (5.0, 2.0)):
        net = hexagonal_net(norm, eps / 2)
        theta = rng.normal(size=(400, 2))
        theta *= norm / np.linalg.norm(theta, axis=-1, keepdims=True)
        theta[::2] *= rng.uniform(size=(200, 1))
        phi = rng.normal(size=(6, 2))
        phi /= np.linalg.norm(phi, axis=-1, keepdims=True)
        apart = gap(phi, theta, net).min(-1)
        assert 0.3 * eps < apart.max() <= eps


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_centre_alone_serves_from_twice_the_norm_on(d):
    rng = np.random.default_rng(d)
    phi, theta = rng.normal(size=(2, 50, d))
    phi /= np.linalg.norm(phi, axis=-1, keepdims=True)
    theta *= 3.0 / np.linalg.norm(theta, axis=-1, keepdims=True)
    assert gap(phi, theta, np.zeros((1, d))).max() <= 6.0
    assert net_bounds(3.0, 6.0, d) == (1.0, 1.0)


@pytest.mark.parametrize("d", [1, 2, 3, 12])
def test_the_upper_bounds_are_within_the_printed_size(d):
    """(1 + 2x)^d <= (3x)^d in rationals for x = 2B/eps >= 1; net_bounds below it."""
    for x in (Fraction(1), Fraction(1001, 1000), Fraction(7, 2), Fraction(90)):
        assert (1 + 2 * x) ** d <= (3 * x) ** d
        low, high = net_bounds(1.0, float(2 / x), d)
        assert 1 <= low <= high <= float((3 * x) ** d) * (1 + 1e-9)
        if d == 1:
            assert high <= math.floor(x) + 1
