"""Pairs of responses and their implied rewards: the tails of Lem J.1, J.2 and J.3.

For y, y' ~ pi_base write X = beta log(pi/pi_base), Delta = X(y) - X(y') and
C = C_{pi_base/pi;beta} = E[e^-X]. By symmetry, given the prompt x,

    E[cosh Delta | x] = E[e^X | x] E[e^-X | x] <= E[e^-X | x],    so E[cosh Delta] <= C,

as E[e^X | x] = E[(pi/pi_base)^beta | x] <= 1 for beta in [0,1] (Jensen). Markov and
e^|Delta| <= 2 cosh Delta give P[|Delta| > log(2C) + s] <= e^-s: the paper's Lem J.1 has
the s inside the logarithm. For beta > 1 the same holds of Delta/beta and C^(1/beta).
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
    stack,
    vectorised,
)
from theory.families import generator, zoo
from theory.quantities import Table, concentrability, concentrability_beta
from theory.s4_rlhf import lemma_41_loss
from theory.s4_sampling import NO_CONSTANT
from theory.search import JaxInstance, attack, between

PROMPTS, RESPONSES = 2, 5

# Delta^4 = arccosh(w)^4 at w = cosh Delta lies below its tangent through w = 1, slope
# 9.762, for w <= 23.04, and is concave beyond. So E[Delta^4] <= 9.762 (C - 1) for
# C <= 23.04, else <= arccosh(C)^4. Rounded up, the largest ratio to log^4 C + 1:
FOURTH = 8.61
# and the largest excess of the fourth root over log C, 1.0864, once for each reward.
ROOTS = 2.2


def _implied(i: JaxInstance, pi: Table) -> Table:
    """beta log(pi/pi_base), 0 where pi_base has no mass."""
    inside = i["base"] > 0
    log = lambda p: jnp.log(jnp.where(inside, p, 1.0))
    return i["beta"] * (log(pi) - log(i["base"]))


def _difference(values: Table) -> Float[Array, "X Y Y"]:
    """values(x, y) - values(x, y')."""
    return values[:, :, None] - values[:, None, :]


def _weight(i: JaxInstance) -> Float[Array, "X Y Y"]:
    """mu(x) pi_base(y|x) pi_base(y'|x)."""
    base = i["base"]
    return i["mu"][:, None, None] * base[:, :, None] * base[:, None, :]


def _fourth_root(x: Array) -> Array:
    """x^(1/4), with gradient zero at zero."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1.0) ** 0.25, 0.0)


def _loss(i: JaxInstance, pi: Table) -> Float[Array, ""]:
    """C_{pi_base/pi;beta}."""
    return concentrability_beta(i["base"], pi, i["mu"], beta=i["beta"])


def _tail(i: JaxInstance) -> tuple[Array, Array]:
    """The values v of |Delta| and P[|Delta| >= v] at each: [N], N = X Y^2."""
    size = jnp.abs(_difference(_implied(i, i["pi"]))).ravel()
    reached = (size[None, :] >= size[:, None]).astype(float)
    return size, reached @ _weight(i).ravel()


def lemma_j1(i: JaxInstance) -> tuple[Array, Array]:
    """P[|Delta| > log(2C + s)] <= e^-s for all s > 0, beta in [0,1] (Lem J.1, printed).

    Checked just below each value v of |Delta|: s = e^v - 2C, where that is positive.
    """
    size, tail = _tail(i)
    s = jnp.exp(size) - 2.0 * _loss(i, i["pi"])
    worst = jnp.argmax(jnp.where(s > 0, jnp.log(tail) + s, -jnp.inf))
    said = s[worst] > 0
    return jnp.where(said, tail[worst], 0.0), jnp.where(said, jnp.exp(-s[worst]), 1.0)


def lemma_j1_repaired(
    i: JaxInstance, *, swapped: bool = False, inside: float = 2.0
) -> tuple[Array, Array]:
    """P[|Delta| > log(2C) + s] <= e^-s for all s > 0, beta in [0,1] (Lem J.1).

    At each value v of |Delta|: P[|Delta| >= v] <= 2C e^-v. The planted bugs: C with
    pi and pi_base `swapped`, and another factor `inside` the logarithm.
    """
    size, tail = _tail(i)
    away = lambda: concentrability_beta(i["pi"], i["base"], i["mu"], beta=i["beta"])
    c = away() if swapped else _loss(i, i["pi"])
    log_right = jnp.log(inside * c) - size
    worst = jnp.argmax(jnp.log(tail) - log_right)
    return tail[worst], jnp.exp(log_right[worst])


def lemma_j2(i: JaxInstance) -> tuple[Array, Array]:
    """E[Delta^4] <= 8.61 (log^4 C + 1), beta in [0,1] (Lem J.2; see `FOURTH`)."""
    fourth = jnp.sum(_weight(i) * _difference(_implied(i, i["pi"])) ** 4)
    return fourth, FOURTH * (jnp.log(_loss(i, i["pi"])) ** 4 + 1.0)


def lemma_j3(
    i: JaxInstance,
    *,
    add: float = ROOTS,
    with_beta: bool = True,
    root: float = 0.25,
    constant: float = 1.0,
) -> tuple[Array, Array]:
    """E_{pi,pi_base}|D| <= C_pi^(1/2) (E D^2 1{both <= eta})^(1/2) + C_pi^(1/2)
    (log C_{pi_base/pihat;beta} + log C_{pi_base/pi*_beta;beta} + 2.2 max(1,beta))
    (P[|Delta^r*| > eta] + P[|Delta^rhat| > eta])^(1/4), D = Delta^r* - Delta^rhat.

    Cauchy-Schwarz with pi/pi_base; then E[D^2; else] <= ||D||_4^2 P[else]^(1/2), and
    ||Delta^r||_4 <= log C + 1.09 max(1,beta) for r* and rhat (`ROOTS`). As printed,
    `add` is 0. `root` and `with_beta` are planted bugs.
    """
    base = i["base"]
    log_base = jnp.where(base > 0, jnp.log(jnp.where(base > 0, base, 1.0)), 0.0)
    star, fit = _difference(log_base), _difference(_implied(i, i["pihat"]))
    apart, weight = jnp.abs(star - fit), _weight(i)
    tilted = {"pi": base, "mu": i["mu"], "beta": i["beta"]}
    logs = jnp.log(_loss(i, i["pihat"])) + jnp.log(lemma_41_loss(tilted)[0])
    logs = logs + add * (jnp.maximum(1.0, i["beta"]) if with_beta else 1.0)
    star_over, fit_over = jnp.abs(star) > i["eta"], jnp.abs(fit) > i["eta"]
    kept = jnp.sum(jnp.where(star_over | fit_over, 0.0, weight * apart**2))
    over = jnp.sum(jnp.where(star_over, weight, 0.0))
    over = over + jnp.sum(jnp.where(fit_over, weight, 0.0))
    over = jnp.where(over > 0, jnp.where(over > 0, over, 1.0) ** root, 0.0)
    tested = i["mu"][:, None, None] * i["pi"][:, :, None] * base[:, None, :]
    moment = concentrability(i["pi"], base, i["mu"]) ** 0.5
    right = moment * (_fourth_root(kept) ** 2 + logs * over)
    return jnp.sum(tested * apart), constant * right


def exact_j1(instance: Instance, *, printed: bool) -> tuple[Number, Number]:
    """Both sides of Lem J.1 at its worst s, in 50-digit decimals."""
    with localcontext(prec=50):
        beta, cells, c = Decimal(float(instance["beta"])), [], Decimal(0)
        for mass, base, pi in _rows(instance, "base", "pi"):
            ratio = [(q / p) ** beta for p, q in zip(base, pi, strict=True)]
            c += mass * sum(p / r for p, r in zip(base, ratio, strict=True))
            for p, r in zip(base, ratio, strict=True):
                there = zip(base, ratio, strict=True)
                cells += [(max(r / t, t / r), mass * p * q) for q, t in there]
        sides = []
        for size in {size for size, _ in cells}:
            tail = sum((w for other, w in cells if other >= size), Decimal(0))
            s = size - 2 * c if printed else (size / (2 * c)).ln()
            if s > 0:
                sides.append((tail, (-s).exp()))
        return max(
            sides, key=lambda side: side[0] / side[1], default=(Decimal(0), Decimal(1))
        )


def exact_j3(instance: Instance, *, add: int) -> tuple[Number, Number]:
    """Both sides of Lem J.3 with the constant 1000, in 50-digit decimals."""
    with localcontext(prec=50):
        beta, eta = (Decimal(float(instance[name])) for name in ("beta", "eta"))
        left = kept = over = moment = fit_loss = star_loss = Decimal(0)
        for mass, base, pihat, pi in _rows(instance, "base", "pihat", "pi"):
            partition = sum(p ** (1 + 1 / beta) for p in base)
            star_loss += mass * len(base) * partition**beta
            moment += mass * sum(q * q / p for p, q in zip(base, pi, strict=True))
            pair = list(zip(base, pihat, strict=True))
            fit_loss += mass * sum(p * (p / q) ** beta for p, q in pair)
            star = [p.ln() for p in base]
            fit = [beta * (q / p).ln() for p, q in pair]
            for y in range(len(base)):
                for z in range(len(base)):
                    a, b = star[y] - star[z], fit[y] - fit[z]
                    weight, beyond = mass * base[z], (abs(a) > eta) + (abs(b) > eta)
                    left += weight * pi[y] * abs(a - b)
                    over += weight * base[y] * beyond
                    kept += weight * base[y] * (a - b) ** 2 * (beyond == 0)
        last = (fit_loss.ln() + star_loss.ln() + add) * over.sqrt().sqrt()
        return left, Decimal(NO_CONSTANT) * moment.sqrt() * (kept.sqrt() + last)


def _rows(instance: Instance, *names: str):
    """mu(x) and the named rows over supp(pi_base), renormalised, as decimals."""
    for x, mass in enumerate(instance["mu"]):
        inside = instance["base"][x] > 0
        rows = [[Decimal(float(p)) for p in instance[n][x][inside]] for n in names]
        if all(sum(row) > 0 for row in rows):
            yield Decimal(float(mass)), *([p / sum(row) for p in row] for row in rows)


def _one(base: list[float], **rest) -> Instance:
    """One instance: each row repeated for both prompts, padded by responses of mass 0.

    Names other than rows (beta, eta) are numbers.
    """
    pad = lambda row: np.stack([np.pad(row, (0, RESPONSES - len(row)))] * PROMPTS)
    arrays = {
        n: pad(v) if isinstance(v, list) else np.array(v) for n, v in rest.items()
    }
    return {"base": pad(base), "mu": np.full(PROMPTS, 1 / PROMPTS)} | arrays


def _rare(p: float, q: float, beta: float = 1.0) -> Instance:
    """pi_base = (1-p, p), pi = (1-q, q)."""
    return _one([1 - p, p], pi=[1 - q, q], beta=beta)


def _families(key, effort: Effort, *names: str) -> Batch:
    """pi_base and the named policies from the zoo, each mixed with pi_base.

    Mixed, and on its support, so that no coefficient is infinite; beta from 0 to 1.
    """
    mix, *keys = jax.random.split(key, 2 + len(names))
    size = effort.instances
    rows = [zoo(k, count=size, prompts=PROMPTS, responses=RESPONSES) for k in keys]
    batch = {"base": rows[0]["pi"], "mu": rows[0]["mu"]}
    share = generator(mix).choice([1e-6, 1e-2, 0.3, 1.0], (len(names), size, 1, 1))
    for name, t, family in zip(names, share, rows[1:], strict=True):
        mixed = (1 - t) * family["pi"] + t * batch["base"]
        mixed = np.where(batch["base"] > 0, mixed, 0.0)
        batch[name] = mixed / mixed.sum(-1, keepdims=True)
    return batch | {"beta": np.resize([0.0, 0.1, 0.5, 0.9, 1.0], size)}


def _by_hand(key, effort: Effort) -> list[Batch]:
    """pi_base = (1/2, 1/2), pi = (1-q, q), beta = 1, q = 1/10, 1/9 ... 1/6."""
    del key, effort
    return [stack([_rare(0.5, 1 / k) for k in (10, 9, 8, 7, 6)])]


def _attack_pairs(pair, *designed: Instance):
    """Search on `pair` over pi_base, pi, mu and beta; families; `designed`."""
    shape = (PROMPTS, RESPONSES)
    shapes = {"base": shape, "pi": shape, "mu": (PROMPTS,), "beta": ()}
    decode = lambda raw: {
        **{name: jax.nn.softmax(raw[name]) for name in ("base", "pi", "mu")},
        "beta": between(raw["beta"], 0.05, 1.0),
    }

    def instances(key, effort: Effort) -> list[Batch]:
        search_key, zoo_key = jax.random.split(key)
        found = attack(search_key, pair, shapes, decode, effort=effort)
        families = _families(zoo_key, effort, "pi")
        return [join(found, families, stack(list(designed)))]

    return instances


def _near_ties(key, effort: Effort) -> list[Batch]:
    """pi_base = pihat = pi = ((1+t)/2, (1-t)/2), beta = 1, eta = t = 1/4 ... 2^-20."""
    del key, effort
    rows = [[(1 + t) / 2, (1 - t) / 2] for t in 0.5 ** np.arange(2, 21)]
    one = lambda row: _one(row, pi=row, pihat=row, beta=1.0, eta=row[0] - row[1])
    return [stack([one(row) for row in rows])]


def _large_beta(key, effort: Effort) -> list[Batch]:
    """pi_base = (1-p, p), pihat = (1-2p, 2p), pi = (0, 1), beta = 1/p = 4 ... 2^20."""
    del key, effort
    one = lambda p: _one(
        [1 - p, p], pihat=[1 - 2 * p, 2 * p], pi=[0.0, 1.0], beta=1 / p, eta=1.0
    )
    return [stack([one(p) for p in 0.5 ** np.arange(2, 21)])]


def _attack_j3(key, effort: Effort) -> list[Batch]:
    """Search; families; near ties, large beta, and a pair that is rare and far apart.

    The last: pi_base = (1-p, p), pihat uniform, pi = (0, 1) at p = 10^-8.
    """
    shape = (PROMPTS, RESPONSES)
    shapes = {name: shape for name in ("base", "pihat", "pi")}
    shapes |= {"mu": (PROMPTS,), "beta": (), "eta": ()}
    decode = lambda raw: {
        **{name: jax.nn.softmax(raw[name]) for name in ("base", "pihat", "pi", "mu")},
        "beta": between(raw["beta"], 0.05, 20.0),
        "eta": between(raw["eta"], 1e-3, 1e3),
    }
    search_key, zoo_key = jax.random.split(key)
    found = attack(search_key, lemma_j3, shapes, decode, effort=effort)
    families = _families(zoo_key, effort, "pihat", "pi")
    families["beta"] = np.resize([0.1, 0.5, 1.0, 5.0], effort.instances)
    families["eta"] = np.resize([0.0, 0.3, 2.0], effort.instances) + 1e-3
    rare = _one([1 - 1e-8, 1e-8], pihat=[0.5, 0.5], pi=[0.0, 1.0], beta=1.0, eta=1.0)
    known = join(_near_ties(key, effort)[0], _large_beta(key, effort)[0], stack([rare]))
    return [join(found, families, known)]


_j1 = vectorised(lemma_j1)
_j1_repaired = vectorised(lemma_j1_repaired)
_j2 = vectorised(lemma_j2)
_j3 = vectorised(lemma_j3)
_no_constant = partial(lemma_j3, constant=NO_CONSTANT, with_beta=False)
_bug_j3 = lambda **bug: vectorised(partial(lemma_j3, **bug))

CLAIMS = (
    Claim(
        "Lem J.1",
        "beta in [0,1], all s > 0: P[|Delta| > log(2C + s)] <= e^-s",
        "exact",
        _by_hand,
        _j1,
        (Twin("log(2C) + s", _j1_repaired, "holds"),),
        expected="fails",
        exact=partial(exact_j1, printed=True),
    ),
    Claim(
        "Lem J.1 (repaired)",
        "beta in [0,1], all s > 0: P[|Delta| > log(2C) + s] <= e^-s",
        "exact",
        _attack_pairs(lemma_j1_repaired, _rare(1e-2, 1e-8), _rare(1e-2, 1e-15, 0.5)),
        _j1_repaired,
        (
            Twin("log(1.9 C) + s", vectorised(partial(lemma_j1_repaired, inside=1.9))),
            Twin("log(2C + s), as printed", _j1),
            Twin(
                "C_{pi/pi_base;beta}",
                vectorised(partial(lemma_j1_repaired, swapped=True)),
            ),
        ),
        exact=partial(exact_j1, printed=False),
        repairs="Lem J.1",
    ),
    Claim(
        "Lem J.2",
        "beta in [0,1]: E[Delta^4] <= 8.61 (log^4 C + 1), the least constant",
        "exact",
        _attack_pairs(lemma_j2, _rare(1e-2, 1e-8)),
        _j2,
        (Twin("0.99 x", scaled(_j2, 0.99)),),
    ),
    Claim(
        "Lem J.3",
        "E_{pi,pi_base}|D| <= c C_pi^(1/2) [(E D^2 1{<= eta})^(1/2) + (log C + log C*) "
        "P[> eta]^(1/4)] for c = 1000",
        "exact",
        _near_ties,
        vectorised(partial(_no_constant, add=0.0)),
        (Twin("log C + log C* + 2.2", _j3, "holds"),),
        expected="fails",
        exact=partial(exact_j3, add=0),
    ),
    Claim(
        "Lem J.3 (beta > 1)",
        "the same with log C + log C* + 1, beta > 1",
        "exact",
        _large_beta,
        vectorised(partial(_no_constant, add=1.0)),
        (Twin("log C + log C* + 2.2 max(1,beta)", _j3, "holds"),),
        expected="fails",
        exact=partial(exact_j3, add=1),
    ),
    Claim(
        "Lem J.3 (repaired)",
        "E_{pi,pi_base}|D| <= C_pi^(1/2) [(E D^2 1{<= eta})^(1/2) + (log C + log C* + "
        "2.2 max(1,beta)) P[> eta]^(1/4)]",
        "exact",
        _attack_j3,
        _j3,
        (
            Twin("0.8 x", scaled(_j3, 0.8)),
            Twin("log C + log C*, as printed", _bug_j3(add=0.0)),
            Twin("2.2 for 2.2 max(1,beta)", _bug_j3(with_beta=False)),
            Twin("P[> eta]^(1/2)", _bug_j3(root=0.5)),
        ),
        repairs="Lem J.3",
    ),
)
