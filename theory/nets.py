"""Nets of linear softmax classes in the sup-norm of log-ratios (Def J.2), for Lem J.4.

pi_theta(y|x) ~ exp <phi(x,y), theta>, ||phi|| <= 1, ||theta|| <= B. As
|log pi_theta/pi_theta'| <= 2 ||theta - theta'||, an eps/2-net of the ball is an eps-net
of the class, whatever phi; a maximal set of points at distances above eps/2 is one, and
has at most (1 + 4B/eps)^d points by volume. Against the centre, whose policy is
uniform, the bound is 2B: from eps = 2B on one member is enough.
"""

import numpy as np
from jaxtyping import Float


def least_net(norm: float, eps: float) -> int:
    """The least size of an eps-net for d = 1, two responses, phi = 1 and -1, exactly.

    For a < b the log-ratio is max( s(2b) - s(2a), s(-2a) - s(-2b) ), s = softplus: it
    grows as the interval does, so covering [-B, B] from the left, each time as far as
    eps allows, is optimal.
    """
    end, size = -norm, 0
    while True:
        size += 1
        end = _farthest(_farthest(end, eps), eps)
        if end >= norm:
            return size


def _farthest(a: float, eps: float) -> float:
    """The largest b with |log pi_b/pi_a| <= eps for both responses."""
    above, below = np.logaddexp(0, 2 * a) + eps, np.logaddexp(0, -2 * a) - eps
    inverse = lambda s: s + np.log(-np.expm1(-s))  # of softplus
    return min(inverse(above), -inverse(below) if below > 0 else np.inf) / 2


def hexagonal_net(norm: float, radius: float) -> Float[np.ndarray, "N 2"]:
    """Points of the disc ||theta|| <= B within `radius` of every point of it.

    A triangular lattice of side sqrt(3) r covers the plane by discs of radius r. Those
    that meet the disc have their centre within B + r; projecting a centre onto the
    (convex) disc brings it no farther from any point of the disc.
    """
    side, reach = np.sqrt(3) * radius, norm + radius
    count = int(2 * reach / side) + 2
    i, j = (a.ravel() for a in np.meshgrid(*[np.arange(-count, count + 1)] * 2))
    points = side * np.stack([i + j / 2, np.sqrt(3) / 2 * j], -1)
    size = np.linalg.norm(points, axis=-1)
    points, size = points[size <= reach], size[size <= reach]
    return points * np.minimum(1, norm / np.maximum(size, norm))[:, None]


def net_bounds(norm: float, eps: float, d: int) -> tuple[float, float]:
    """Bounds on the least net that serves every phi: one that some phi needs, and one
    that suffices. Where a net is cut off, eps is moved by 1e-12 against us."""
    low = float(least_net(norm, eps * (1 + 1e-12)))
    if eps >= 2 * norm:
        return low, 1.0
    eps = eps * (1 - 1e-12)
    if d == 1:
        return low, np.ceil(2 * norm / eps)
    if d == 2:
        return low, float(len(hexagonal_net(norm, eps / 2)))
    return low, np.floor((1 + 4 * norm / eps) ** d)
