"""How many queries offline regression needs (Thm 4.2): m = 2n, exactly and as bounded.

Thm 4.2' (noiseless) with g = 0 has two terms. With beta = log(1+g_m) delta eps /
(2 log C_cov) the second is at most eps/2, and so is the first from

    n = 8 C_conc log(|Pi|/rho)/(delta eps)^2

pairs on: no margin, and no C_loss. Against it stands the least n of `regression`.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import numpy as np

from jsharp.stats import loglog_slope
from theory.claim import (
    Batch,
    Claim,
    Effort,
    Exponent,
    Instance,
    Number,
    Twin,
    one_by_one,
    stack,
)
from theory.families import generator
from theory.precision import TIE
from theory.regression import (
    Facts,
    class_facts,
    hiding,
    least_pairs,
    off_mass,
    responses,
)
from theory.s4_sampling import NO_CONSTANT


def prescribed_beta(*, gap: float, log_cover: float, delta: float, eps: float) -> float:
    """beta = log(1+g_m) delta eps/(2 log C_cov) (Thm 4.2, repaired)."""
    return gap * delta * eps / (2.0 * log_cover)


def _checked_facts(i: Instance) -> Facts:
    """The facts, if beta is at most what the repaired Thm 4.2 prescribes."""
    f = class_facts(i, np.log(i["members"] / i["rho"]))
    goal = {"gap": f.gap, "log_cover": f.log_cover}
    allowed = prescribed_beta(**goal, delta=float(i["delta"]), eps=float(i["eps"]))
    if f.beta > allowed * (1 + 1e-9):
        raise ValueError(f"expected beta <= {allowed}, found {f.beta}")
    return f


def queries(i: Instance, *, constant: float = 8.0) -> tuple[float, float]:
    """The exact m = 2n, and that of n = 8 C_conc log(|Pi|/rho)/(delta eps)^2."""
    f = _checked_facts(i)
    n = constant * f.conc * f.fits / (i["delta"] * i["eps"]) ** 2
    return 2.0 * least_pairs(i), 2.0 * float(np.ceil(n))


def queries_printed(i: Instance) -> tuple[float, float]:
    """The exact need, and Otilde(C_conc log^3(C_loss|Pi|/rho)/(g_m delta eps)^2)."""
    f = _checked_facts(i)
    goal = np.expm1(f.gap) * i["delta"] * i["eps"]
    n = f.hidden * f.conc * (f.log_loss + f.fits) ** 3 / goal**2
    return 2.0 * least_pairs(i), 2.0 * float(np.ceil(n))


def unsharpened(i: Instance, *, beta: Callable[[Facts, Instance], Any]):
    """P_mu[pi*_beta(Y*) < 1-delta] against eps: Pi = {pi*_beta}, whatever m is."""
    i = i | {"beta": np.array(beta(class_facts(i), i))}
    missed = (off_mass(i)[0] > i["delta"] * (1 + TIE)).astype(float) @ i["mu"]
    return float(missed), float(i["eps"])


def beta_printed(f: Facts, i: Instance):
    """beta = g_m delta eps/1000 (Thm 4.2 as printed, at a small constant)."""
    return np.expm1(f.gap) * i["delta"] * i["eps"] / NO_CONSTANT


def beta_repaired(f: Facts, i: Instance):
    goal = {name: float(i[name]) for name in ("delta", "eps")}
    return prescribed_beta(gap=f.gap, log_cover=f.log_cover, **goal)


def _slow_tilts(key, effort: Effort) -> list[Batch]:
    """pi_base = (2, 1 x M)/(M+2), g_m = 1, M = 2^(3 + 1000/(delta eps)).

    At beta = delta eps/1000, 4/5 of pi*_beta is off Y*.
    """
    del key, effort
    one = lambda delta, eps: responses(
        [0.0, (3 + NO_CONSTANT / (delta * eps)) * np.log(2)],
        [np.log(2), 0.0],
        delta=delta,
        eps=eps,
        n=1.0,
        beta=1.0,
    )
    levels = (0.5, 0.25, 0.125)
    return [stack([one(delta, eps) for delta in levels for eps in levels])]


def _adversary(
    *, conc=1e4, gap=1.0, delta=0.2, eps=0.1, rho=0.1, wrong=1, top=0.5
) -> Instance:
    """`hiding` at the beta that the repaired Thm 4.2 prescribes."""
    log_cover = float(np.log(eps * (1 + 1e-9) / top + 1 - eps * (1 + 1e-9)))
    beta = prescribed_beta(gap=gap, log_cover=log_cover, delta=delta, eps=eps)
    goal = {"conc": conc, "gap": gap, "beta": beta, "delta": delta, "eps": eps}
    return hiding(**goal, rho=rho, wrong=wrong, top=top)


def _attack_queries(key, effort: Effort) -> list[Batch]:
    """Hardest classes over C_conc, margin, delta, eps, rho, |Pi| and pi_base(Y*)."""
    rng = generator(key)
    draw = lambda *values: rng.choice(values)

    def one() -> Instance:
        top = draw(0.5, 0.01, 1e-6)
        return _adversary(
            conc=10.0 ** rng.uniform(1.5, 6) / top, gap=draw(1e-3, 0.1, 1.0, 30.0),
            delta=draw(0.05, 0.5, 0.95), eps=draw(0.01, 0.3, 0.95),
            rho=draw(0.5, 0.1, 1e-12), wrong=int(draw(1, 3)), top=top,
        )  # fmt: skip

    sharp = _adversary(conc=1e12, delta=0.95, eps=0.95, rho=1e-12, top=1e-6)
    return [stack([sharp] + [one() for _ in range(effort.instances)])]


def _attack_margins(key, effort: Effort) -> list[Batch]:
    """The same classes at margins from e - 1 to e^60."""
    del key, effort
    return [stack([_adversary(gap=gap) for gap in (1.0, 20.0, 40.0, 60.0)])]


def exact_queries(i: Instance) -> tuple[Number, Number]:
    """`queries_printed` for one hiding member in decimals: n = log rho/log(1-kappa)."""
    with localcontext(prec=50):
        mass = Decimal(float(i["log_mass"][0, 1])).exp()
        kappa = 2 * Decimal(float(i["mu"][0])) * mass * (1 - mass)
        n = Decimal(float(i["rho"])).ln() / (1 - kappa).ln()
        _, right = queries_printed(i)
        return 2 * n.to_integral_value("ROUND_CEILING"), Decimal(right)


def _exponents(effort: Effort) -> tuple[Exponent, ...]:
    """m against C_conc, 1/delta and 1/eps, one at a time, hardest classes."""
    del effort
    grids: dict[str, tuple[float, list[dict[str, Any]]]] = {
        "C_conc": (1.0, [dict(conc=c) for c in (1e3, 1e4, 1e5, 1e6)]),
        "1/delta": (2.0, [dict(delta=d) for d in (0.4, 0.2, 0.1, 0.05)]),
        "1/eps": (2.0, [dict(eps=e) for e in (0.4, 0.2, 0.1, 0.05)]),
    }
    found = []
    for name, (predicted, steps) in grids.items():
        m = [2 * least_pairs(_adversary(**step)) for step in steps]
        value = np.array([next(iter(step.values())) for step in steps])
        x = 1 / value if name.startswith("1/") else value
        slope = loglog_slope(x, np.array(m), level=0.05)
        found.append(Exponent(f"m against {name}", predicted, "at most", slope))
    return tuple(found)


def exact_unsharpened(i: Instance) -> tuple[Number, Number]:
    """`unsharpened` at the printed beta, two groups, in decimals."""
    with localcontext(prec=50):
        mass = [Decimal(float(v)).exp() for v in i["log_mass"][0, :2]]
        gap = Decimal(float(i["reward"][0, 0])) - Decimal(float(i["reward"][0, 1]))
        delta, eps = Decimal(float(i["delta"])), Decimal(float(i["eps"]))
        beta = (gap.exp() - 1) * delta * eps / Decimal(NO_CONSTANT)
        kept = mass[0] / (mass[0] + mass[1] * (-gap / beta).exp())
        return Decimal(kept < 1 - delta), eps


CLAIMS = (
    Claim(
        "Thm 4.2",
        "beta = g_m delta eps/1000, Pi = {pi*_beta}: (eps,delta)-sharpened",
        "exact",
        _slow_tilts,
        one_by_one(partial(unsharpened, beta=beta_printed)),
        (
            Twin(
                "log(1+g_m) delta eps/(2 log C_cov)",
                one_by_one(partial(unsharpened, beta=beta_repaired)),
                "holds",
            ),
        ),
        expected="fails",
        exact=exact_unsharpened,
    ),
    Claim(
        "Thm 4.2 (margin)",
        "beta as repaired: m = 1000 polylog x C_conc log^3(C_loss|Pi|/rho)"
        "/(g_m delta eps)^2 is enough for g_m above 1",
        "exact",
        _attack_margins,
        one_by_one(queries_printed),
        (Twin("no g_m in m", one_by_one(queries), "holds"),),
        expected="fails",
        exact=exact_queries,
    ),
    Claim(
        "Thm 4.2 (repaired)",
        "beta <= log(1+g_m) delta eps/(2 log C_cov), "
        "m = 16 C_conc log(|Pi|/rho)/(delta eps)^2: (eps,delta)-sharpened",
        "exact",
        _attack_queries,
        one_by_one(queries),
        (Twin("m/20", one_by_one(partial(queries, constant=0.4))),),
        repairs="Thm 4.2",
        exponents=_exponents,
    ),
)
