"""Claims about linear softmax classes: their nets (Lem J.4) and their SEC (Lem J.5).

pi_theta(y|x) ~ exp <phi(x,y), theta>, ||phi|| <= 1, ||theta|| <= B, theta in R^d.

Lem J.4. With the nets of `theory.nets`, (1 + 4B/eps)^d members or, from eps = 2B on,
one: the former is at most (6B/eps)^d for eps <= 2B, the latter for eps <= 6B. Beyond,
the printed size is below one.

Lem J.5, with pi_base = pi_theta0 in the class and |r| <= R = R_max. d_t = <w_t, z> with
w_t = (beta (theta_t - theta0), -1), z = (phi - phi', r - r'). For G_0 = diag(I_d, R^2)
and A_t = E^t[z z^T], w_t^T G_0 w_t <= 4 beta^2 B^2 + R^2 <= lambda, and hence
2 max(lambda, sum_{i<t} E^i[d_t^2]) >= w_t^T G_{t-1} w_t, so that by Cauchy-Schwarz
(E^t[d_t])^2/max(...) <= 2 Tr(G_{t-1}^-1 A_t). In units where G_0 = I the trace of A_t
is at most K = 4 + 4, and Lem F.2 (repaired) in dimension d + 1 gives

    SEC <= 2 (d+1) 8 log(1 + 8T/(d+1))/log 9  (at most 34 d log(T+1))

With pi_base outside the class ||theta_t - theta0|| <= 2B is lost, and every bound too.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsharp.stats import loglog_slope
from theory.claim import (
    Batch,
    Claim,
    Effort,
    Exponent,
    Instance,
    Number,
    Sides,
    Twin,
    scaled,
    stack,
    unstack,
    vectorised,
)
from theory.families import generator
from theory.nets import net_bounds
from theory.s4_sampling import NO_CONSTANT
from theory.search import JaxInstance, attack, between
from theory.sec import sec_of_sequence

# ---- Lem J.4. Instances: B, eps and the dimension d.


def lemma_j4(
    batch: Batch, *, constant: float = 6.0, least: float = 0.0, longest: float = np.inf
) -> Sides:
    """The least net <= max(least, 6 B/eps)^d (Lem J.4; least = 0 as printed).

    Nothing is claimed for eps > longest * B. The true left lies in [low, high].
    """
    found = []
    for i in unstack(batch):
        norm, eps, d = float(i["B"]), float(i["eps"]), int(i["d"])
        size = (
            max(least, constant * norm / eps) ** d if eps <= longest * norm else np.inf
        )
        found.append((*net_bounds(norm, eps, d), size))
    low, high, right = np.array(found).T
    return Sides(left=low, right=right, low=low, high=high)


def exact_j4(instance: Instance) -> tuple[Number, Number]:
    """One member at least, against (6 B/eps)^d in rationals: the case eps >= 2B."""
    ratio = Fraction(float(instance["B"])) / Fraction(float(instance["eps"]))
    return Fraction(1), (6 * ratio) ** int(instance["d"])


def _attack_j4(key, effort: Effort) -> list[Batch]:
    """By hand (B = 1, eps = 12) and eps just below 2B; then eps/B from 0.05 to 100."""
    rng, size = generator(key), effort.instances
    by_hand = {"B": [1.0, 100.0], "eps": [12.0, 199.0], "d": [1, 1]}
    edges = [0.05, 0.3, 1.0, 1.7, 1.999, 2.0, 2.001, 5.99, 6.0, 6.001, 8.0, 100.0]
    ratio, d = (a.ravel() for a in np.meshgrid(edges, [1, 2, 3, 12]))
    ratio = np.append(ratio, 10.0 ** rng.uniform(-1, 1, size))
    d = np.append(d, np.resize([1, 2, 3, 1, 12], size))
    norm = 10.0 ** rng.uniform(-2, 2, len(ratio))
    found = {"B": norm, "eps": ratio * norm, "d": d}
    return [{name: np.append(by_hand[name], found[name]) for name in found}]


# ---- Lem J.5. Instances: theta [T d], base [d], phi [Y d], reward [Y], beta, B, R.

RESPONSES = 9
SEARCHED = {"theta": (3, 2), "base": (2,), "phi": (RESPONSES, 2)}
SEARCHED |= {"reward": (RESPONSES,), "B": (), "scale": ()}


def linear_sec(i: JaxInstance, *, lam: Float[Array, ""]) -> Float[Array, ""]:
    """The inner sum of Def J.1 for pi_theta1..pi_thetaT, one prompt, pi_base linear."""
    policy = lambda theta: jax.nn.softmax(i["phi"] @ theta)[None]
    return sec_of_sequence(
        jax.vmap(policy)(i["theta"]),
        policy(i["base"]),
        i["reward"][None],
        jnp.ones(1),
        beta=i["beta"],
        lam=lam,
    )


def explicit(d: int, steps: int) -> float:
    """2 (d+1) 8 log(1 + 8T/(d+1))/log 9, the bound of the proof of Lem J.5."""
    return 16 * (d + 1) * np.log1p(8 * steps / (d + 1)) / np.log(9)


def _pair_j5(i: JaxInstance) -> tuple[Array, Array]:
    """SEC at the lambda of the instance, and the explicit bound."""
    steps, d = i["theta"].shape
    return linear_sec(i, lam=i["lam"]), jnp.asarray(explicit(d, steps))


_mapped = vectorised(_pair_j5)


def lemma_j5(batch: Batch, *, of_beta: float = 4.0, of_reward: float = 1.0) -> Sides:
    """SEC <= explicit(d, T) for lambda = 4 beta^2 B^2 + R_max^2 (Lem J.5).

    A smaller factor in lambda is a planted bug; a larger lambda only lowers the SEC.
    """
    lam = of_beta * (batch["beta"] * batch["B"]) ** 2 + of_reward * batch["R"] ** 2
    return _mapped(batch | {"lam": lam})


def any_base(batch: Batch, *, inside: bool = False) -> Sides:
    """SEC <= 1000 d log(T+1) whatever pi_base (Lem J.5, read without Asm on it).

    With `inside`, the control, nothing is claimed for ||theta_base|| > B.
    """
    steps, d = batch["theta"].shape[1:]
    bound = np.full(len(batch["B"]), NO_CONSTANT * d * np.log(steps + 1))
    out = np.linalg.norm(batch["base"], axis=-1) > batch["B"]
    return lemma_j5(batch)._replace(right=np.where(inside & out, np.inf, bound))


def exact_any_base(instance: Instance) -> tuple[Number, Number]:
    """Both sides of `any_base` at d = T = 1, r = 0, in 50-digit decimals:
    (beta (theta_1 - theta_base) (E_1[phi] - E_base[phi]))^2/lambda."""
    with localcontext(prec=50):
        number = lambda value: Decimal(float(value))
        phi = [number(v) for v in instance["phi"][:, 0]]
        total = lambda terms: sum(terms, Decimal(0))
        moment = lambda t, k: total((v * t).exp() * v**k for v in phi)
        mean = lambda t: moment(t, 1) / moment(t, 0)
        theta, base = number(instance["theta"][0, 0]), number(instance["base"][0])
        beta, norm, top = (number(instance[name]) for name in ("beta", "B", "R"))
        gain = beta * (theta - base) * (mean(theta) - mean(base))
        lam = 4 * (beta * norm) ** 2 + top**2
        return gain**2 / lam, Decimal(NO_CONSTANT) * Decimal(2).ln()


def _ball(raw: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """The reals onto the open unit ball: v tanh(||v||)/||v||."""
    norm = jnp.sqrt(jnp.sum(raw**2, axis=-1, keepdims=True) + 1e-12)
    return raw * (jnp.tanh(norm) / norm)


def _decode_j5(raw: dict[str, Array]) -> JaxInstance:
    """R = 1 (SEC is invariant when beta, r and sqrt(lambda) are scaled together)."""
    norm, scale = between(raw["B"], 0.1, 100.0), between(raw["scale"], 0.05, 20.0)
    return {
        "theta": norm * _ball(raw["theta"]),
        "base": norm * _ball(raw["base"]),
        "phi": _ball(raw["phi"]),
        "reward": jnp.tanh(raw["reward"]),
        "beta": scale / norm,
        "B": norm,
        "R": jnp.ones(()),
        "lam": 4.0 * scale**2 + 1.0,
    }


def opposed(steps: int, *, scale: float = 0.5) -> Instance:
    """d = 1, phi = (1, -1 x 8), theta_t = B, theta_base = -B, r = (-R, R x 8), beta B =
    `scale` R: the SEC is (4 beta B + 2R)^2/lambda + 1 + 1/2 + ... + 1/(T-1), up to
    exp(-2B), and 8 + ... at scale 1/2, its maximum."""
    side = np.append(1.0, np.full(RESPONSES - 1, -1.0))
    return {
        "theta": np.full((steps, 1), 50.0),
        "base": np.array([-50.0]),
        "phi": side[:, None],
        "reward": -side,
        "beta": np.array(scale / 50),
    } | {"B": np.array(50.0), "R": np.array(1.0)}


def orthogonal(d: int, steps: int) -> Instance:
    """theta_t = B e_j, j = t mod d, phi(y_j) = e_j, phi = 0 for the others, whom
    theta_base = -B (1..1)/sqrt d prefers; r(y_j) = beta B/sqrt d leaves d_t = beta B on
    y_j and 0 elsewhere: d blocks that do not help each other, SEC ~ d log(T/d)."""
    phi = np.zeros((RESPONSES, d))
    phi[:d] = np.eye(d)
    norm, reward = 200.0, np.zeros(RESPONSES)
    reward[:d] = 1.0
    return {
        "theta": norm * np.eye(d)[np.arange(steps) % d],
        "base": np.full(d, -norm / np.sqrt(d)),
        "phi": phi,
        "reward": reward,
        "beta": np.array(np.sqrt(d) / norm),
    } | {"B": np.array(norm), "R": np.array(1.0)}


def outside(strength: float) -> Instance:
    """phi = (1, -1), theta_1 = 0, r = 0, beta = B = R = 1, theta_base = -L/2: the base
    has odds e^-L and the SEC is (L/2)^2 tanh(L/2)^2/5 at T = 1."""
    one = {"theta": np.zeros((1, 1)), "base": np.array([-strength / 2])}
    one |= {"phi": np.array([[1.0], [-1.0]]), "reward": np.zeros(2)}
    return one | {name: np.array(1.0) for name in ("beta", "B", "R")}


def _attack_j5(key, effort: Effort) -> list[Batch]:
    """Search at T = 3, d = 2; `opposed` at every scale, and runs of both families."""
    found = attack(key, _pair_j5, SEARCHED, _decode_j5, effort=effort)
    found.pop("lam")
    scales = np.geomspace(0.01, 100, 21)
    once = stack([opposed(1)] + [opposed(1, scale=s) for s in scales])
    return [once, found, stack([opposed(8)]), stack([orthogonal(4, 16)])]


def _bases(key, effort: Effort) -> list[Batch]:
    """L = 1, 2, 4, ..., 512: log-odds of pi_base; L <= 2 is in the ball."""
    del key, effort
    return [stack([outside(2.0**k) for k in range(10)])]


def _exponents_j5(effort: Effort) -> tuple[Exponent, ...]:
    """SEC against log(T+1) on `opposed`, against d log(T+1) on `orthogonal`, T = 4d."""
    del effort
    sizes = np.array([1, 2, 4, 8])
    value = lambda i: float(lemma_j5(stack([i])).left[0])
    one = [value(opposed(4 * int(k))) for k in sizes]
    many = [value(orthogonal(int(k), 4 * int(k))) for k in sizes]
    logs = np.log(4 * sizes + 1)
    line = loglog_slope(logs, np.array(one), level=0.05)
    blocks = loglog_slope(sizes * logs, np.array(many), level=0.05)
    return (
        Exponent("SEC against log(T+1)", 1.0, "at most", line),
        Exponent("SEC against d log(T+1)", 1.0, "at most", blocks),
    )


_net = partial(lemma_j4, least=1.0)

CLAIMS = (
    Claim(
        "Lem J.4",
        "linear softmax has an eps-net of size (6B/eps)^d",
        "exact",
        _attack_j4,
        lemma_j4,
        (
            Twin("max(1, 6B/eps)^d", _net, "holds"),
            Twin("eps <= 6B", partial(lemma_j4, longest=6.0), "holds"),
        ),
        expected="fails",
        exact=exact_j4,
    ),
    Claim(
        "Lem J.4 (repaired)",
        "linear softmax has an eps-net of size max(1, 6B/eps)^d "
        "(at d = 1 the constant 4 would do)",
        "exact",
        _attack_j4,
        _net,
        (Twin("3.9 for 6", partial(_net, constant=3.9)), Twin("as printed", lemma_j4)),
        repairs="Lem J.4",
    ),
    Claim(
        "Lem J.5 (any base)",
        "lambda >= 4 beta^2 B^2 + R_max^2: SEC <~ d log(T+1), whatever pi_base",
        "exact",
        _bases,
        any_base,
        (Twin("pi_base in the class", partial(any_base, inside=True), "holds"),),
        expected="fails",
        exact=exact_any_base,
    ),
    Claim(
        "Lem J.5",
        "pi_base in the class, lambda = 4 beta^2 B^2 + R_max^2: "
        "SEC <= 16 (d+1) log(1 + 8T/(d+1))/log 9 (<= 34 d log(T+1))",
        "exact",
        _attack_j5,
        lemma_j5,
        (
            Twin("0.3 x", scaled(lemma_j5, 0.3)),
            Twin("lambda = 4 beta^2 B^2", partial(lemma_j5, of_reward=0.0)),
            Twin("lambda = R_max^2", partial(lemma_j5, of_beta=0.0)),
        ),
        repairs="Lem J.5 (any base)",
        exponents=_exponents_j5,
    ),
)
