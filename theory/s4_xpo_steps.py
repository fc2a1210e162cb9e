"""The exact steps of Thm 4.3/J.2 and of Thm J.3: what pi*_beta and Hellinger give.

With g the margin and L = log(2|Y|/delta), every response off Y* has
pi*_beta(y)/pi*_beta(y*) <= (1+g)^-(1+1/beta), so that pi*_beta(Y*) >= 1-delta/2 once
1+1/beta >= L/log(1+g). As printed, 1/beta >= 2L/g, which is enough only while
2 log(1+g) >= g, that is for g <= 2.51. If pihat(Y*) < 1-delta and
pi*_beta(Y*) >= 1-delta/2, then D_H^2(pihat, pi*_beta) > (1-1/sqrt2)^2 delta, which is
more than delta/12. In a linear softmax, pi*_beta has the parameter (1+1/beta) theta*.
"""

from decimal import Decimal, localcontext
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
    vectorised,
)
from theory.families import two_level
from theory.precision import TIE
from theory.quantities import (
    expectation,
    hellinger_squared,
    log_pi_star_beta,
    margin,
    mass,
    maximisers,
    pi_star_beta,
)
from theory.search import JaxInstance, attack, between

RESPONSES = 8
SMALL = 2.51  # margins up to here obey 2 log(1+g) >= g
DELTAS = (1e-9, 1e-3, 0.1, 0.5, 0.99)
FEWEST = 1e-6  # of 1/beta: where pi_base is sharp enough, any beta will do


def _length(i: JaxInstance, *, copies: float = 2.0) -> Float[Array, ""]:
    """L = log(2|Y|/delta)."""
    return jnp.log(copies * i["pi"].shape[-1] / i["delta"])


def _inverse_beta(i: JaxInstance, *, rule: str) -> Float[Array, ""]:
    """The least 1/beta allowed: 2L/g as printed, L/log(1+g) - 1 repaired."""
    g = margin(i["pi"], jnp.ones(1))
    if rule == "printed":
        return 2.0 * _length(i) / g
    if rule == "half":
        return _length(i) / g
    copies = 1.0 if rule == "one copy" else 2.0
    return jnp.maximum(_length(i, copies=copies) / jnp.log1p(g) - 1.0, FEWEST)


def mass_off(i: JaxInstance, *, rule: str) -> tuple[Array, Array]:
    """pi*_beta(not Y*) <= delta/2 at the largest beta that `rule` allows (Thm 4.3)."""
    log_tilted = log_pi_star_beta(i["pi"], beta=1.0 / _inverse_beta(i, rule=rule))
    off = mass(jnp.exp(log_tilted), ~maximisers(i["pi"]))[0]
    return off, i["delta"] / 2.0


def exact_mass(i: Instance) -> tuple[Number, Number]:
    """Both sides of the printed rule in 50-digit decimals."""
    with localcontext(prec=50):
        row = [Decimal(float(p)) for p in i["pi"][0]]
        delta, top = Decimal(float(i["delta"])), max(row)
        g = min(top / p - 1 for p in row if 0 < p < top)
        power = 1 + 2 * (2 * len(row) / delta).ln() / g
        weights = [(p / top) ** power for p in row if p > 0]
        off = [w for w in weights if w < 1]
        return sum(off, Decimal(0)) / sum(weights), delta / 2


def _decode_mass(raw: dict[str, Array], *, widest: float) -> JaxInstance:
    """One mode, one rival at the margin g, the others at least as far below."""
    g = between(raw["g"], 1e-3, widest)
    below = jax.nn.softplus(raw["rivals"])
    below = jnp.log1p(g) + below - jnp.min(below)
    pi = jax.nn.softmax(jnp.concatenate([jnp.zeros(1), -below]))
    return {"pi": pi[None], "delta": between(raw["delta"], 1e-12, 0.9999)}


def _attack_mass(rule: str, *, widest: float):
    """Search up to the margin `widest`; ties; 2 and 1001 responses of two levels."""
    shapes = {"g": (), "rivals": (RESPONSES - 1,), "delta": ()}
    decode = partial(_decode_mass, widest=widest)

    def instances(key, effort: Effort) -> list[Batch]:
        pair = partial(mass_off, rule=rule)
        found = attack(key, pair, shapes, decode, effort=effort)
        ratios = 1 / (1 + widest * np.array([1.0, 0.4, 0.1, 0.01]))
        family = lambda size, best: {
            "pi": np.repeat(
                [two_level(size, best=best, ratio=r) for r in ratios], 5, 0
            )[:, None],
            "delta": np.tile(DELTAS, len(ratios)),
        }
        ties = [family(RESPONSES, best) for best in (1, 2, 7)]
        return [join(found, *ties), family(2, 1), family(1001, 1)]

    return instances


def sharpened(
    i: JaxInstance, *, constant: float = 12.0, share: float = 0.5
) -> tuple[Array, Array]:
    """P_mu[pihat(Y*) < 1-delta] <= eps for eps = 12 E_mu D_H^2(pihat, pi*_beta)/delta.

    Silent (left = 0) unless pi*_beta(Y*) >= 1 - delta/2 on supp(mu).
    """
    tilted, best = pi_star_beta(i["pi"], beta=i["beta"]), maximisers(i["pi"])
    near = mass(tilted, ~best) <= share * i["delta"] * (1.0 + TIE)
    off = mass(i["pihat"], ~best) > i["delta"] * (1.0 + TIE)
    failing = jnp.sum(jnp.where(off, i["mu"], 0.0))
    distance = expectation(i["mu"], hellinger_squared(i["pihat"], tilted))
    applies = jnp.all(near | (i["mu"] <= 0))
    return jnp.where(applies, failing, 0.0), constant * distance / i["delta"]


def _decode_sharpened(raw: dict[str, Array]) -> JaxInstance:
    """delta = 2 max_x pi*_beta(not Y*|x); pihat is free."""
    pi, beta = jax.nn.softmax(raw["pi"]), between(raw["beta"], 0.05, 5.0)
    off = mass(pi_star_beta(pi, beta=beta), ~maximisers(pi))
    return {
        "pi": pi,
        "mu": jax.nn.softmax(raw["mu"]),
        "beta": beta,
        "delta": jnp.minimum(2.0 * jnp.max(off), 0.9999),
        "pihat": jax.nn.softmax(raw["pihat"]),
    }


def _two_masses(key, effort: Effort) -> Batch:
    """pi*_beta(not Y*) = delta share, pihat(not Y*) = delta (1 + 1e-9) at prompt 0.

    At prompt 1 pihat = pi*_beta. beta = 1, rivals shared among three responses.
    """
    del key, effort
    grid = np.meshgrid([1e-9, 1e-3, 0.1, 0.5, 0.9], [0.5, 0.9], [1e-6, 0.5, 1.0])
    delta, share, weight = (a.ravel() for a in grid)
    spread = lambda off: np.stack([1 - off, off / 3, off / 3, off / 3], -1)
    tilted, pihat = spread(delta * share), spread(delta * (1 + 1e-9))
    base = np.sqrt(tilted)
    base /= base.sum(-1, keepdims=True)
    return {
        "pi": np.stack([base, base], 1),
        "mu": np.stack([weight, 1 - weight], -1),
        "beta": np.ones(len(delta)),
        "delta": delta,
        "pihat": np.stack([pihat, tilted], 1),
    }


def _attack_sharpened(key, effort: Effort) -> list[Batch]:
    """Search over two prompts of four responses, and `_two_masses`."""
    shapes = {"pi": (2, 4), "pihat": (2, 4), "mu": (2,), "beta": ()}
    found = attack(key, sharpened, shapes, _decode_sharpened, effort=effort)
    return [join(found, _two_masses(key, effort))]


def linear_softmax(
    i: JaxInstance, *, norm: str = "repaired", tilt: str = "repaired"
) -> tuple[Array, Array]:
    """theta = (1+1/beta) theta* has norm <= B, pi_theta(not Y*) <= delta/2 (Thm J.3).

    Left is the larger of ||theta||/B and 2 pi_theta(not Y*)/delta, right 1. As printed
    ||theta*|| = gB/(3L) and beta = g/(2L); repaired ||theta*|| = B/(1+1/beta) and
    1+1/beta = max(L/log(1+g), 1 + FEWEST). theta is unique where the differences of the
    features span R^d.
    """
    pi = jax.nn.softmax(i["features"] @ i["theta"])[None]
    power = 1.0 + _inverse_beta({"pi": pi, "delta": i["delta"]}, rule=tilt)
    tilted = jax.nn.softmax(i["features"] @ (power * i["theta"]))
    off = mass(tilted[None], ~maximisers(pi))[0]
    if norm == "repaired":
        share = 1.0 / power
    else:
        share = margin(pi, jnp.ones(1)) / (3.0 * _length({"pi": pi} | i))
    return jnp.maximum(power * share, 2.0 * off / i["delta"]), jnp.ones(())


def exact_linear_softmax(i: Instance) -> tuple[Number, Number]:
    """The printed sides in decimals."""
    with localcontext(prec=50):
        theta = [Decimal(float(v)) for v in i["theta"]]
        scores = [
            sum(
                (Decimal(float(f)) * v for f, v in zip(row, theta, strict=True)),
                Decimal(0),
            )
            for row in i["features"]
        ]
        delta, top = Decimal(float(i["delta"])), max(scores)
        g = min((top - s).exp() - 1 for s in scores if s < top)
        length = (2 * len(scores) / delta).ln()
        power = 1 + 2 * length / g
        weights = [((s - top) * power).exp() for s in scores]
        off = sum((w for w in weights if w < 1), Decimal(0)) / sum(weights)
        return max(power * g / (3 * length), 2 * off / delta), Decimal(1)


def _decode_linear(raw: dict[str, Array]) -> JaxInstance:
    """Features in the unit ball, ||theta*|| up to 5."""
    square = jnp.sum(raw["features"] ** 2, axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.sum(raw["theta"] ** 2))
    return {
        "features": raw["features"] / jnp.sqrt(1.0 + square),
        "theta": between(raw["norm"], 0.01, 5.0) * raw["theta"] / length,
        "delta": between(raw["delta"], 1e-9, 0.9999),
    }


def _attack_linear(norm: str, tilt: str):
    """Search over four responses in R^2; two responses phi = (1, -1) in R^1."""
    shapes = {"features": (4, 2), "theta": (2,), "norm": (), "delta": ()}
    pair = partial(linear_softmax, norm=norm, tilt=tilt)
    odds = np.array([1.01, 2.0, 3.5, 4.0, 11.0, 100.0])

    def instances(key, effort: Effort) -> list[Batch]:
        found = attack(key, pair, shapes, _decode_linear, effort=effort)
        theta, delta = np.meshgrid(np.log(odds) / 2, [1e-3, 0.5, 0.99])
        line = {
            "features": np.tile(np.array([[1.0], [-1.0]]), (theta.size, 1, 1)),
            "theta": theta.reshape(-1, 1),
            "delta": delta.ravel(),
        }
        return [found, line]

    return instances


def _mass(rule: str):
    return vectorised(partial(mass_off, rule=rule))


_sharpened = vectorised(sharpened)
_linear = vectorised(linear_softmax)

CLAIMS = (
    Claim(
        "Thm 4.3 (mass)",
        "1/beta >= (2/g) log(2|Y|/delta): pi*_beta(Y*) >= 1-delta/2",
        "exact",
        _attack_mass("printed", widest=1e3),
        _mass("printed"),
        (Twin("1+1/beta >= log(2|Y|/delta)/log(1+g)", _mass("repaired"), "holds"),),
        expected="fails",
        exact=exact_mass,
    ),
    Claim(
        "Thm 4.3 (mass, repaired)",
        "1+1/beta >= log(2|Y|/delta)/log(1+g): pi*_beta(Y*) >= 1-delta/2",
        "exact",
        _attack_mass("repaired", widest=1e3),
        _mass("repaired"),
        (
            Twin("0.9 delta", scaled(_mass("repaired"), 0.9)),
            Twin("1/beta as printed", _mass("printed")),
            Twin("log(|Y|/delta)", _mass("one copy")),
        ),
        repairs="Thm 4.3 (mass)",
    ),
    Claim(
        "Thm 4.3 (mass, g <= 2.51)",
        "as printed for margins up to 2.51 "
        "(the instances can rule out 0.28 delta/2, not more)",
        "exact",
        _attack_mass("printed", widest=SMALL),
        _mass("printed"),
        (
            Twin("0.28 delta/2", scaled(_mass("printed"), 0.28)),
            Twin("(1/g) log(2|Y|/delta)", _mass("half")),
        ),
    ),
    Claim(
        "Thm 4.3 (sharpened)",
        "E_mu D_H^2(pihat, pi*_beta) <= eps delta/12, pi*_beta(Y*) >= 1-delta/2: pihat "
        "is (eps,delta)-sharpened",
        "exact",
        _attack_sharpened,
        _sharpened,
        (
            Twin("eps delta/11", vectorised(partial(sharpened, constant=11.0))),
            Twin("pi*_beta(Y*) >= 1-delta", vectorised(partial(sharpened, share=1.0))),
        ),
    ),
    Claim(
        "Thm J.3",
        "beta = g/(2L), ||theta*|| <= gB/(3L), L = log(2|Y|/delta): pi*_beta in Pi and "
        "pi*_beta(Y*) >= 1-delta/2",
        "exact",
        _attack_linear("printed", "printed"),
        vectorised(partial(linear_softmax, norm="printed", tilt="printed")),
        (
            Twin(
                "1+1/beta = L/log(1+g), ||theta*|| <= B/(1+1/beta)",
                _linear,
                "holds",
            ),
        ),
        expected="fails",
        exact=exact_linear_softmax,
    ),
    Claim(
        "Thm J.3 (repaired)",
        "1+1/beta = L/log(1+g), ||theta*|| <= B/(1+1/beta): pi*_beta in Pi and "
        "pi*_beta(Y*) >= 1-delta/2",
        "exact",
        _attack_linear("repaired", "repaired"),
        _linear,
        (
            Twin("0.9 B and delta", scaled(_linear, 0.9)),
            Twin(
                "||theta*|| <= gB/(3L)",
                vectorised(partial(linear_softmax, norm="printed")),
            ),
            Twin(
                "beta as printed", vectorised(partial(linear_softmax, tilt="printed"))
            ),
        ),
        repairs="Thm J.3",
    ),
)
