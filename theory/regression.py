"""The law of offline regression over a finite class, exactly (Eq 4, 8; Thm 4.2').

With pi*_beta in Pi the rewards are free of noise: the least sum of squares is zero, and
pihat is any member whose residual D vanishes on all n pairs. A member parts from
pi*_beta exactly on the pairs whose responses have different ratios pi_k/pi*_beta, so

    P[all of T survive] = (1 - P[some D_k != 0, k in T])^n,

and the law of pihat is an inclusion-exclusion over T. Ties go against the claim.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import logsumexp

from theory.claim import Instance
from theory.precision import TIE
from theory.s4_sampling import NO_CONSTANT

# Responses of equal probability that every member treats alike form one group: its
# mass is exp(log_mass), the reward of each response log pi_base(y|x), so that there are
# exp(log_mass - reward) >= 1 of them (a whole number only nearly). Thus |Y| = 1e100
# costs nothing. Groups beyond a prompt's last have log_mass = -inf.
GROUPS = 6
LEVEL_GAP = 1e-9  # log-ratios closer than this are equal on paper
Groups = Float[np.ndarray, "X G"]
Row = Sequence[float] | Float[np.ndarray, " G"]


def log_tilt(i: Instance) -> Groups:
    """log pi*_beta of each group: mass exp(r/beta), normalised (Eq 4)."""
    best = np.max(i["reward"], axis=-1, keepdims=True, where=_inside(i), initial=-1e300)
    logits = i["log_mass"] + np.where(_inside(i), i["reward"] - best, 0.0) / i["beta"]
    return logits - np.asarray(logsumexp(logits, axis=-1, keepdims=True))


def _inside(i: Instance) -> Bool[np.ndarray, "X G"]:
    return i["log_mass"] > -np.inf


def _members(i: Instance) -> Float[np.ndarray, "K X G"]:
    """log pi_k, pi*_beta being member 0."""
    return np.concatenate([log_tilt(i)[None], i["log_others"]])[: int(i["members"])]


def _near(i: Instance) -> Bool[np.ndarray, "X G"]:
    """Membership of Y*_g."""
    reward = np.where(_inside(i), i["reward"], -np.inf)
    floor = reward.max(-1, keepdims=True) + np.log1p(-i["gamma"])
    return reward >= floor - TIE


def off_mass(i: Instance) -> Float[np.ndarray, "K X"]:
    """pi_k(off Y*_g | x)."""
    return np.where(_near(i), 0.0, np.exp(_members(i))).sum(-1)


def parted(i: Instance) -> Bool[np.ndarray, "K X G G"]:
    """Whether D_k(x, y, y') != 0 for y, y' in these groups."""
    members = np.where(_inside(i), _members(i), 0.0)
    ratio = members - members[:1]
    order = np.argsort(ratio, axis=-1)
    steps = np.diff(np.take_along_axis(ratio, order, -1), axis=-1, prepend=-np.inf)
    level = np.empty_like(order)
    np.put_along_axis(level, order, np.cumsum(steps > LEVEL_GAP, axis=-1), -1)
    return level[..., :, None] != level[..., None, :]


class Survival(NamedTuple):
    """P[ some bad member survives ] = sum of sign (1 - kappa)^n over sets of them."""

    kappa: Float[np.ndarray, " T"]  # P[some D_k != 0, k in the set]
    sign: Float[np.ndarray, " T"]  # those of inclusion and exclusion

    def log_probability(self, n: float) -> float:
        """log P[ some bad member has D = 0 on all n pairs ]."""
        if not len(self.kappa):
            return -np.inf
        with np.errstate(divide="ignore"):
            terms = float(n) * np.log1p(-self.kappa)
        found = logsumexp(terms, b=self.sign, return_sign=True)
        total, sign = map(float, np.asarray(found))
        return min(0.0, total) if sign > 0 else -np.inf


def survival(
    bad: Bool[np.ndarray, " K"], apart: Bool[np.ndarray, "K X G G"], i: Instance
) -> Survival:
    """The law of survival of the bad members; pi*_beta, member 0, always survives."""
    if bad[0]:
        return Survival(np.zeros(1), np.ones(1))
    mass = np.exp(i["log_mass"])
    pair = i["mu"][:, None, None] * mass[:, :, None] * mass[:, None, :]
    kappa, sign = [], []
    for size in range(1, bad.sum() + 1):
        for some in itertools.combinations(np.flatnonzero(bad), size):
            kappa.append(min(1.0, pair[apart[list(some)].any(0)].sum()))
            sign.append((-1.0) ** (size + 1))
    return Survival(np.array(kappa), np.array(sign))


class Facts(NamedTuple):
    """What the bounds are made of: floats, arrays over the members, or decimals."""

    n: Any
    delta: Any
    beta: Any
    gamma: Any
    fits: Any  # log(|Pi|/rho) at the rho that is judged
    conc: Any  # C_conc = max_k C_pi_k
    log_conc: Any
    log_loss: Any  # log max_k C_{pi_base/pi_k;beta}
    log_cover: Any  # log C_cov,g
    least_bias: Any  # B, the better of g' = 0 and g' = g
    gap: Any  # log(1+g_m), g_m by the largest probability
    mass_gap: Any  # log(1+g_m), g_m by the mass of Y*_g (Asm J.2 as printed)
    hidden: Any  # 1000 (1 + log(n |Y|/delta))^3: what "<~" and Otilde may hide


def _log_mean(i: Instance, log_ratio: Groups, excess: Groups) -> float:
    """log E[exp(log_ratio)] = log(1 + E[excess]): the first in logs where it is large.

    The second keeps its digits where it is small. E is over mu x pi_base.
    """
    with np.errstate(divide="ignore"):
        log_weight = np.log(i["mu"])[:, None] + i["log_mass"]
    large: Any = logsumexp(log_weight + log_ratio)
    if large > 1.0:
        return float(large)
    return max(0.0, float(np.log1p(np.sum(np.exp(log_weight) * excess))))


def class_facts(i: Instance, fits: Any = 0.0) -> Facts:
    """All quantities of Thm 4.2' for one instance, in floats."""
    inside, near, used = _inside(i), _near(i), i["mu"] > 0
    ratio = np.where(inside, _members(i), 0.0)
    ratio = ratio - np.where(inside, i["log_mass"], 0.0)
    reward = np.where(inside, i["reward"], -np.inf)
    best = reward.max(-1)
    rival = np.where(near, -np.inf, reward).max(-1)

    def log_held(kept) -> Any:
        return logsumexp(np.where(kept, i["log_mass"], -np.inf), axis=-1)

    cover, cover_g = (
        float(np.asarray(logsumexp(-log_held(kept), b=i["mu"])))
        for kept in (reward >= best[:, None], near)
    )
    beta, lost = float(i["beta"]), -np.log1p(-float(i["gamma"]))
    with np.errstate(over="ignore"):
        squares = [np.expm1(r) ** 2 for r in ratio]
        losses = [np.expm1(-beta * r) for r in ratio]
    log_conc = max(_log_mean(i, 2 * r, e) for r, e in zip(ratio, squares, strict=True))
    log_loss = max(
        _log_mean(i, -beta * r, e) for r, e in zip(ratio, losses, strict=True)
    )
    sizes: Any = logsumexp(i["log_mass"] - np.where(inside, i["reward"], 0.0), axis=-1)
    return Facts(
        n=i["n"],
        delta=i["delta"],
        beta=beta,
        gamma=i["gamma"],
        fits=fits,
        conc=np.exp(log_conc),
        log_conc=log_conc,
        log_loss=log_loss,
        log_cover=cover_g,
        least_bias=min(beta * cover, beta * cover_g + lost),
        gap=float((best - rival)[used].min()),
        mass_gap=float((log_held(near) - rival)[used].min()),
        hidden=NO_CONSTANT * (1 + np.log(i["n"] / i["delta"]) + sizes.max()) ** 3,
    )


WRONG = 3  # members beside pi*_beta that an instance has room for


def instance(
    log_mass, reward, *, others=(), mu=(1.0,), gamma: float = 0.0, **numbers: float
) -> Instance:
    """One instance from rows of groups, padded to 2 prompts, 6 groups, 4 members."""
    pad = lambda a, fill: np.pad(
        np.asarray(a, float),
        [(0, 2 - len(a)), (0, GROUPS - len(a[0]))],
        constant_values=fill,
    )
    rows, rest = pad(log_mass, -np.inf), pad(reward, 0.0)
    rows[len(log_mass) :, 0] = 0.0  # a prompt of weight zero has one response
    room = np.zeros((WRONG, *rows.shape))
    for k, other in enumerate(others):
        room[k] = pad(other, -np.inf)
    fields = {"log_mass": rows, "reward": rest, "log_others": room}
    scalars = {"gamma": gamma, "members": 1 + len(others)} | numbers
    weights = np.pad(np.asarray(mu, float), (0, 2 - len(mu)))
    return (
        fields | {"mu": weights} | {n: np.array(float(v)) for n, v in scalars.items()}
    )


def responses(log_count: Row, log_weight: Row, **numbers: float) -> Instance:
    """One prompt whose groups have exp(log_count) responses of the given weight."""
    reward = np.asarray(log_weight) - logsumexp(np.add(log_count, log_weight))
    return instance([log_count + reward], [reward], **numbers)


def tilted_off(*, top: float, gap: float, beta: float) -> float:
    """pi*_beta(off Y*), Y* of mass `top`, the others at the log-margin `gap`."""
    rest = (1.0 - top) * np.exp(-gap / beta)
    return float(rest / (top + rest))


def hiding(
    *, conc: float, gap: float, beta: float, delta: float, eps: float,
    top: float = 0.5, wrong: int = 1, rho: float = 0.1,
) -> Instance:  # fmt: skip
    """The class that offline regression finds hardest at a given C_conc.

    A prompt of weight just above eps has modes of mass `top` together and other
    responses at log-margin `gap`; each wrong member raises a group of its own, of mass
    q, until its mass off Y* just exceeds delta, and q makes C_conc what is asked. Only
    pairs with one response in that group tell: P[D != 0] = 2 eps q (1-q). The other
    prompt has one response. No response is likelier than its group: a mode has the
    probability min(top, q e^gap). Raises ValueError when pi*_beta itself is not
    sharpened, or no q will do.
    """
    weight, rest = eps * (1 + 1e-9), 1.0 - top
    bias = tilted_off(top=top, gap=gap, beta=beta)
    if bias >= delta:
        raise ValueError(f"expected pi*_beta(off Y*) < {delta}, found {bias}")

    def at(log_q: float) -> Instance:
        q = np.exp(log_q)
        mass = np.log(np.array([top, *[q] * wrong, rest - wrong * q]))
        peak = min(np.log(top), log_q + gap)
        reward = peak - np.array([0.0, *[gap] * (wrong + 1)])
        numbers = {"mu": (weight, 1 - weight), "beta": beta, "delta": delta, "n": 1.0}
        rows = [[mass, [0.0] + [-np.inf] * (wrong + 1)], [reward, 0.0 * reward]]
        i = instance(*rows, **numbers, eps=eps, rho=rho)
        star = log_tilt(i)
        in_b = np.exp(star[0, 1])
        off = (bias - in_b) / (1 - in_b)  # of pi*_beta given that y is not in B
        v = (delta * (1 + 1e-9) - off) / (1 - off)
        for k in range(wrong):
            raised = star + np.log1p(-v) - np.log1p(-in_b)
            raised[:, 1 + k] = np.log(v)
            raised[1] = star[1]
            i["log_others"][k] = raised
        return i | {"members": np.array(1.0 + wrong)}

    excess = lambda log_q: class_facts(at(log_q)).log_conc - np.log(conc)
    low, high = np.log(1e-200), np.log(rest / wrong * 0.5)
    if excess(high) > 0:
        raise ValueError(f"expected C_conc that such a class can have, found {conc}")
    log_q: Any = brentq(excess, low, high, xtol=1e-13)
    return at(log_q)


def least_pairs(i: Instance) -> float:
    """The least n with P[pihat is (eps,delta)-sharpened] >= 1-rho; inf without one.

    Decided on log P with the slack `precision.TIE`, by doubling and bisection.
    """
    missed = (off_mass(i) > i["delta"] * (1 + TIE)).astype(float) @ i["mu"]
    law = survival(missed > i["eps"] * (1 + TIE), parted(i), i)
    allowed = np.log(i["rho"]) * (1 - TIE)
    enough = lambda n: law.log_probability(n) <= allowed
    if not enough(1e300):
        return np.inf
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2.0 * high
    while np.floor((low + high) / 2.0) not in (low, high):
        middle = np.floor((low + high) / 2.0)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
