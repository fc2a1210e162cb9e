"""Lower bounds: Thm 3.1, 3.1' and D.2, Lem H.2, H.3 and H.4, on the hard family.

`minimax` has the exact least m there, for M = least integer >= max(8, 1 + x) and
x = C eps^(-1/p): c is a constant of "m >~ ..." if c times the printed figure never
exceeds it. err is convex, so a non-adaptive learner needs err(m Delta/d) <= 1/16, and
err(k) -> exp(-2k/M): m -> (ln(16)/32) d M/eps. A draw lowers the error by at most
(2-3/M)/(M-1), so an adaptive one needs E[m] -> (15/32) d M. Both limits, 0.0866 and
0.4688, are approached from above, as log|Pi|/(d (1 + log x)) tends to 1 from below.
Thm 3.1 is about non-adaptive learners: an adaptive one needs only about C d/eps.
"""

import functools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
from jaxtyping import Float

from jsharp.stats import loglog_slope
from theory import minimax
from theory.claim import (
    Batch,
    Claim,
    Effort,
    Exponent,
    Instance,
    Number,
    Twin,
    one_by_one,
    scaled,
    stack,
)
from theory.families import generator
from theory.s4_sampling import NO_CONSTANT

FIXED, ADAPTIVE, SHARE = 0.086, 0.46, 0.77  # c of Thm 3.1', D.2 and Lem H.3
LARGEST_EPS = 1 / 16  # beyond, Delta = 16 eps exceeds 1

Pair = tuple[float, float]  # left, right


def _scale(i: Instance) -> float:
    """x = C eps^(-1/p)."""
    return float(i["c_cov"] * i["eps"] ** (-1 / i["p"]))


def _family(i: Instance) -> minimax.Hard:
    real = {name: float(i[name]) for name in ("eps", "c_cov", "p")}
    return minimax.hard(d=int(i["d"]), **real)


def _figure(i: Instance, log_class: float, *, adaptive: bool) -> float:
    """C log|Pi| / (eps^(1+1/p) (1 + log x)), with eps^(1/p) if adaptive."""
    figure = _scale(i) * log_class / (1 + math.log(_scale(i)))
    return figure if adaptive else figure / float(i["eps"])


@functools.lru_cache(maxsize=4096)  # twins are judged on the same instances
def _least(family: minimax.Hard, eps: float, adaptive: bool) -> float:
    """The least m, or the least E[m], with risk <= eps."""
    if adaptive:
        return minimax.adaptive_optimum(family, eps=eps)
    return float(minimax.fixed_optimum(family, eps=eps).m)


def theorem_31(adaptive: bool, i: Instance, *, power: float = 0.0) -> Pair:
    """c x the figure <= m or E[m] (Thm 3.1', D.2); `power` > 0 is a planted bug."""
    family, eps = _family(i), float(i["eps"])
    bound = _figure(i, family.log_class, adaptive=adaptive) * eps**-power
    constant = ADAPTIVE if adaptive else FIXED
    return constant * bound, _least(family, eps, adaptive)


def guess(i: Instance, *, adaptive: bool) -> Pair:
    """The figure/1000 <= m = 0 of the learner that answers for a random member.

    Whatever the class of K members, a member drawn uniformly is pi_base w.p. 1/K: for
    eps >= 1-1/K that is enough, without a query. Otherwise nothing is claimed of it
    (inf).
    """
    eps, size = float(i["eps"]), int(i["class_size"])
    left = _figure(i, math.log(size), adaptive=adaptive) / NO_CONSTANT
    return left, 0.0 if size * (1 - eps) <= 1 else math.inf


def exact_guess(i: Instance, *, adaptive: bool) -> tuple[Number, Number]:
    """`guess` in rationals and 50-digit decimals."""
    size, eps = int(i["class_size"]), Fraction(float(i["eps"]))
    if Fraction(1, size) < 1 - eps:
        return Fraction(0), Fraction(0)
    with localcontext(prec=50):
        eps, c_cov, p = (Decimal(float(i[name])) for name in ("eps", "c_cov", "p"))
        x = c_cov * eps ** (-1 / p)
        figure = x * Decimal(size).ln() / (1 + x.ln())
        return (figure if adaptive else figure / eps) / 1000, Decimal(0)


def the_class(
    i: Instance, *, cover: float = 9.0, low: float = 0.7, high: float = math.log(8)
) -> Pair:
    """C_cov,g,p <= 9 C and 0.7 <= log|Pi|/(d (1 + log x)) <= ln 8, as a ratio <= 1.

    At p = 1, C_cov = 1 - 16 eps + 8 eps M and M <= 2 + C/eps; log|Pi| is at its ends
    for M = 8 at x = 7 and x = 1.
    """
    family = _family(i)
    covered = minimax.hard_coverage(family, p=float(i["p"])) / float(i["c_cov"])
    found = family.log_class / (family.d * (1 + math.log(_scale(i))))
    return max(covered / cover, found / high, low / found), 1.0


def _points(*rows: tuple) -> Batch:
    eps, c_cov, d, p = np.array(rows, float).T
    return {"eps": eps, "c_cov": c_cov, "d": d.astype(int), "p": p}


def _attack_theorem(
    key, effort: Effort, *, p: float | None = None, large: float = 1e10
) -> list[Batch]:
    """Corners of the range and drawn x up to 1e6, eps from 1e-6; x = `large` once.

    Without p, all p >= 1, with x = 1 and 7 where M = 8 and log|Pi| is extreme.
    """
    rng, size = generator(key), effort.instances
    some = (LARGEST_EPS, 0.05, 1e-3, 1e-6)
    corners = [(e, c, d, p or 1.0) for e in some for c in (1, 1.3) for d in (1, 100)]
    corners.append((LARGEST_EPS, large / 16, 1, p or 1.0))
    if p is None:
        corners += [(LARGEST_EPS, c, 1, 1e4) for c in (1.0, 6.998, 7.1)]
        corners += [(1e-3, c, 3, q) for c in (1.0, 6.0) for q in (1.5, 4.0, 20.0)]
    eps = LARGEST_EPS * 10 ** -rng.uniform(0, 4.8, size)
    power = 10 ** rng.uniform(0, 2, size) if p is None else np.full(size, p)
    c_cov = np.maximum(1.0, 10 ** rng.uniform(0, 6, size) * eps ** (1 / power))
    d = np.floor(10 ** rng.uniform(0, 3, size))
    return [_points(*corners), _points(*zip(eps, c_cov, d, power, strict=True))]


def _attack_guess(key, effort: Effort, *, p: float = 1.0) -> list[Batch]:
    """eps = 1/16, 1-1/2, 1-1/4, ..., 1-2^-20 against |Pi| = 2, 4, ..., 2^20, d = 1.

    d = C = 1: log|Pi| ~ 1 + log(1/eps) leaves |Pi| below a constant as eps -> 1.
    """
    del key, effort
    halves = 0.5 ** np.arange(1, 21)
    eps, inverse = np.meshgrid(np.append(LARGEST_EPS, 1 - halves), halves)
    points = _points(*((e, 1.0, 1, p) for e in eps.ravel()))
    return [points | {"class_size": (1 / inverse.ravel()).astype(int)}]


def _slopes(pair: Callable, *, rate: float, powers: tuple[float, ...]):
    """m against 1/eps at these p, and against C, for x from 1e2 to 1e6.

    `rate` is the exponent without the 1/p. The non-adaptive m also against d: the
    adaptive one is proportional to d.
    """
    x, d = np.logspace(2, 6, 5), 4.0 ** np.arange(6)
    name = "m against 1/eps, p = {:g}".format
    sweeps = {name(p): (rate + 1 / p, x**p, x**-p, 1, 4, p) for p in powers}
    sweeps |= {"m against C": (1.0, x, 1e-2, x / 100, 4, 1)}
    sweeps |= {"m against d": (1.0, d, 1e-2, 1, d, 1)} if rate else {}

    def fit(of: str, predicted: float, along, *at) -> Exponent:
        least = one_by_one(pair)(_points(*np.broadcast(*at))).right
        slope = loglog_slope(along, least, level=0.05)
        return Exponent(of, predicted, "at least", slope)

    return lambda effort: tuple(fit(of, *sweep) for of, sweep in sweeps.items())


INDICES, HIDDEN, QUERIES = 3, 2, 2  # M, d, m of the enumeration in Lem H.2


def _one_query(index: tuple[int, ...], weight: float) -> Float[np.ndarray, " A"]:
    """P^I of a query's answer: x_0, or x_i with y_j and whether it is the likelier."""
    likelier = np.eye(INDICES)[list(index)]
    others = (1 - likelier) * (INDICES - 2) / (INDICES * (INDICES - 1))
    law = np.stack([others, likelier * 2 / INDICES], axis=-1)
    return np.append(1 - weight, (weight / HIDDEN) * law.ravel())


def lemma_h2(i: Instance, *, threshold: float = 0.5) -> Pair:
    """(1/d) sum_i P[jhat_i != j*_i] <= E P_mu[pihat(Y_g^I(x)) <= 1/2]/Delta, Lem H.2.

    Over every I in [M]^d and every answer to m queries; `pihat` [answers, 1+d, 1+M] is
    the learner.
    """
    weight, pihat = float(i["weight"]), i["pihat"]
    guesses = pihat[:, 1:, 1:].argmax(-1)
    wrong = missed = 0.0
    for index in product(range(INDICES), repeat=HIDDEN):
        law = _one_query(index, weight)
        law = np.multiply.outer(law, law).ravel()
        at = [pihat[:, k + 1, j + 1] <= threshold for k, j in enumerate(index)]
        miss = (1 - weight) * (pihat[:, 0, 0] <= threshold)
        miss = miss + weight * np.mean(at, axis=0)
        wrong += law @ np.mean(guesses != np.array(index)[None, :], axis=1)
        missed += law @ miss
    return wrong / INDICES**HIDDEN, missed / INDICES**HIDDEN / weight


def _attack_h2(key, effort: Effort) -> list[Batch]:
    """Rows that are sure, rows of random concentration, and one split 0.45 to 0.55.

    Tight for learners that are sure everywhere, and right at x_0.
    """
    rng, size, width = generator(key), effort.instances, 1 + INDICES
    shape = ((1 + 2 * INDICES * HIDDEN) ** QUERIES, 1 + HIDDEN)
    sure = np.eye(width)[rng.integers(1, width, (size, *shape))]
    sure[:, :, 0] = np.eye(width)[0]
    alpha = rng.choice([0.05, 0.3, 1.0], size)
    mixed = np.stack([rng.dirichlet(np.full(width, a), shape) for a in alpha])
    split = np.tile([0, 0.55, 0.45, 0], (1, *shape, 1))
    split[:, :, 0] = sure[:1, :, 0]
    pihat = np.concatenate([sure, mixed, split])
    return [{"pihat": pihat, "weight": rng.choice([0.1, 0.5, 1.0], len(pihat))}]


def lemma_h3(i: Instance, *, constant: float = SHARE) -> Pair:
    """1/8 <= E err(N K), claimed where m = nN <= c d M/Delta (Lem H.3)."""
    family = minimax.Hard(int(i["size"]), int(i["d"]), float(i["weight"]))
    n, draws = int(i["n"]), int(i["draws"])
    claimed = n * draws * family.share <= constant * family.size * (1 + 1e-12)
    return 0.125 * claimed, minimax.fixed_error(family, n=n, N=draws)


def _attack_h3(key, effort: Effort) -> list[Batch]:
    """For each M, n and N the weight at which m = c d M/Delta, c = 0.77 and 0.78.

    By convexity 1/8 holds up to m = 0.761 d M/Delta; the least m at which it is lost is
    0.7748 d M/Delta, at n = 7, N = 1, Delta/d = 0.8855. Both are least for M = 8.
    """
    rng, size = generator(key), effort.instances // 4
    cases = [(m, n, 1) for m in range(8, 17) for n in range(2, 12)]
    cases += [(m, n, r) for m in (8, 9, 64) for n in (2, 7) for r in (2, 3, 5)]
    cases += rng.integers((8, 1, 1), (1000, 5000, 200), (size, 3)).tolist()
    rows = []
    for m, n, draws in cases:
        shares = [min(1.0, c * m / (n * draws)) for c in (SHARE, 0.78)]
        rows += [(m, d, d * s, n, draws) for s in shares for d in (1, 9) if d * s <= 1]
    size, d, weight, n, draws = np.array(rows).T
    return [{"size": size, "d": d, "weight": weight, "n": n, "draws": draws}]


def _few_and_error(i: Instance, number: Callable) -> list:
    size = int(i["size"])
    law = minimax.stopped(size, i["stop"], number)
    return [f(size, law, number) for f in (minimax.few_draws, minimax.rule_error)]


def lemma_h4(i: Instance) -> Pair:
    """P[m_i <= M/3]/(4e) <= P[jhat_i != j*_i] (Lem H.4, as printed)."""
    few, error = _few_and_error(i, float)
    return few / (4 * math.e), float(error)


def exact_h4(i: Instance) -> tuple[Number, Number]:
    """`lemma_h4` in rationals, and 1/(4e) in 50 digits."""
    few, error = _few_and_error(i, Fraction)
    with localcontext(prec=50):
        few = Decimal(few.numerator) / few.denominator
        return few / (4 * Decimal(1).exp()), Fraction(error)


def lemma_h4_repaired(i: Instance, *, part: int = 3) -> Pair:
    """Q[m_i <= M/3]/3 <= P[jhat_i != j*_i]; `part` = 2 is a planted bug.

    After k <= M/3 draws without y_{j*} the error is at least 1 - 1/(M-k), and
    (1-2/M)^k (1 - 1/(M-k)) >= (4/9)(3/4) = 1/3, its value at M = 6, k = 2.
    """
    size = int(i["size"])
    law = minimax.stopped(size, i["stop"])
    early = float(np.sum(law[: size // part + 1]))
    return early / 3, float(minimax.rule_error(size, law))


def _rule(size: int, *places: tuple) -> Instance:
    """Stop at these (k, D), draw on elsewhere."""
    stop = np.zeros((minimax.LONGEST + 1, minimax.LONGEST + 1))
    for place in places:
        stop[place] = 1.0
    return {"size": np.array(size), "stop": stop}


def _attack_h4(key, effort: Effort) -> list[Batch]:
    """For each M <= 40: never stop, stop at one place, at a threshold, at random.

    A ratio of functions that are linear in the stopping law is largest at a rule with
    one place: those with D = k = floor(M/3) are the tightest.
    """
    rng, every = generator(key), slice(None)
    rules = [_rule(6), _rule(6, (2, 1)), _rule(6, (1, 1)), _rule(40)]
    for size in range(6, 41):
        rules += [_rule(size, (k, k)) for k in (0, size // 3, size // 2)]
        rules += [_rule(size, (every, size // 4)), _rule(size, (size // 3, every))]
    for size in rng.integers(6, 41, effort.instances):
        rate = rng.uniform(size=rules[0]["stop"].shape) ** rng.choice([1, 4, 20])
        rules.append({"size": np.array(size), "stop": rate})
    return [stack(rules)]


def _claim(
    id: str, statement: str, attack, pair, bugs: dict[str, Callable | float], **rest
) -> Claim:
    """A claim decided without sampling; a bug is another pair, or scales the right."""
    sides = one_by_one(pair)
    outcome = "holds" if rest.get("expected") == "fails" else "fails"
    wrong = lambda b: scaled(sides, b) if isinstance(b, float) else one_by_one(b)
    twins = tuple(Twin(name, wrong(bug), outcome) for name, bug in bugs.items())
    return Claim(id, statement, "exact", attack, sides, twins, **rest)


def _both(id: str, statement: str, *, adaptive: bool, p: float | None = None):
    """The statement for all eps in (0,1), and for eps <= 1/16 with its constant."""
    constant, more = (ADAPTIVE, 0.51) if adaptive else (FIXED, 0.092)
    asked, pair = partial(guess, adaptive=adaptive), partial(theorem_31, adaptive)
    small = lambda i: pair(i) if i["eps"] <= LARGEST_EPS else (0.0, 0.0)
    printed = _claim(
        id,
        f"eps in (0,1): {statement}",
        partial(_attack_guess, p=p or 2.0),
        asked,
        {"eps <= 1/16": small},
        expected="fails",
        exact=partial(exact_guess, adaptive=adaptive),
    )
    powers = (1.0, 2.0) if p is None else (p,)
    repaired = _claim(
        id.replace(")", ", repaired)") if "(" in id else f"{id} (repaired)",
        f"eps <= 1/16: {statement}, c = {constant}",
        partial(_attack_theorem, p=p, large=1e6 if adaptive else 1e10),
        pair,
        {
            f"{more} for {constant}": constant / more,
            "eps^(-1/2) more": partial(pair, power=0.5),
        },
        repairs=id,
        exponents=_slopes(pair, rate=0.0 if adaptive else 1.0, powers=powers),
    )
    return printed, repaired


_THM_31 = "m >= c C log|Pi|/(eps^2 (1 + log(C/eps))), non-adaptive"
_FIXED = "m >= c C log|Pi|/(eps^(1+1/p) (1 + log(C eps^(-1/p))))"
_ADAPTIVE = "E[m] >= c C log|Pi|/(eps^(1/p) (1 + log(C eps^(-1/p))))"
_D2 = "E[m] >= c C log|Pi|/(eps (1 + log(C/eps))), adaptive"

CLAIMS = (
    *_both("Thm 3.1", _THM_31, adaptive=False, p=1.0),
    _claim(
        "Thm 3.1' (class)",
        "C_cov,g,p <= 9 C, 0.7 <= log|Pi|/(d (1 + log(C eps^(-1/p)))) <= ln 8",
        _attack_theorem,
        the_class,
        {
            "8 C": partial(the_class, cover=8.0),
            "0.75 for 0.7": partial(the_class, low=0.75),
            "2 for ln 8": partial(the_class, high=2.0),
        },
    ),
    *_both("Thm 3.1' (non-adaptive)", _FIXED, adaptive=False),
    *_both("Thm 3.1' (adaptive)", _ADAPTIVE, adaptive=True),
    _claim(
        "Lem H.2",
        "(1/d) sum_i P[jhat_i != j*_i] <= E P_mu[pihat(Y_g(x)) <= 1/2]/Delta",
        _attack_h2,
        lemma_h2,
        {"0.95 x": 0.95, "0.4 for 1/2": partial(lemma_h2, threshold=0.4)},
    ),
    _claim(
        "Lem H.3",
        "M >= 8, m <= c d M/Delta: P[jhat_i != j*_i] >= 1/8, c = 0.77",
        _attack_h3,
        lemma_h3,
        {"0.78 for 0.77": partial(lemma_h3, constant=0.78)},
    ),
    _claim(
        "Lem H.4",
        "M >= 6: P[m_i <= M/3]/(4e) <= P[jhat_i != j*_i]",
        _attack_h4,
        lemma_h4,
        {"Q for P, 1/3 for 1/(4e)": lemma_h4_repaired},
        expected="fails",
        exact=exact_h4,
    ),
    _claim(
        "Lem H.4 (repaired)",
        "M >= 6: Q[m_i <= M/3]/3 <= P[jhat_i != j*_i], y_{j*} never shown under Q",
        _attack_h4,
        lemma_h4_repaired,
        {"0.95 x": 0.95, "M/2 for M/3": partial(lemma_h4_repaired, part=2)},
        repairs="Lem H.4",
    ),
    *_both("Thm D.2", _D2, adaptive=True, p=1.0),
)
