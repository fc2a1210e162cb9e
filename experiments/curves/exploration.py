"""Two families on which exploration itself pays: offline regression against XPO.

One prompt, margin g, K members in the class, pi*_beta among them. They differ on
responses of probability q under pi_base. Offline pairs show such a response after about
1/q draws; in XPO a member proposes its own, its likelihood is looked up under pi_base,
and a member that is wrong is dropped after one round, whatever q.

hidden mode   pi_base is uniform over M = 1/q responses but for y*, (1+g) times as
              likely, which is one of y_1..y_K, each equally often. Member k is the
              pi*_beta of the base whose mode is y_k. The truths are symmetric: no rule
              for ties helps offline, nor does any learner that only draws from pi_base
              (the line). C_cov and C_conc are both 1/q up to constants.
false hopes   pi_base = 1/2 on y*, the rest on two common responses, but q on each of
              z_1..z_{K-1}. Member k believes that z_k is (1+g) times as likely as y*,
              and is right about all else. C_cov = 2, SFT-Sharpening is cheap, and only
              C_conc = 1/q. Members that no pair contradicts fit equally well: ties are
              broken at random (with ties in the order of the class, pi*_beta first,
              offline regression needs nothing; with it last, all z_k).

What pays is y ~ pi^t, not the bonus alpha > 0: among hidden modes the bonus is the same
for all members, and it makes XPO try every false hope before pi*_beta. Queries grow
with K, so nothing is gained once K is of order 1/q; and proposals are evaluated under
pi_base, which the sample-and-evaluate framework of the lower bounds does not allow.

Offline laws are exact. XPO is `jsharp.xpo` over the finite class with `batch` pairs a
round, J_beta estimated on the pairs as it does. Responses about which all members agree
are lumped into one cell, which changes no residual and no comparison of members.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.curves.curve import Curve, Panel, Point
from jsharp import loop
from jsharp.algorithm import Algorithm
from jsharp.policy import freeze
from jsharp.stats import quantile
from jsharp.tabular import prompts_of, table
from jsharp.update import finite_class
from jsharp.xpo import xpo
from theory.curves import least_prompts
from theory.families import generator
from theory.packing import xpo_draws

LATE = 8  # rounds of XPO beyond the K+1 that propose every member once


@dataclass(frozen=True)
class Config:
    """1/q of both families, which share beta, the one of Thm 4.3 at the least q."""

    inverse_q: tuple[float, ...] = (1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
    members: int = 8
    margin: float = 1.0
    delta: float = 0.1
    rho: float = 0.1
    alpha: float = 1e-4
    batch: int = 8
    runs: int = 1000
    level: float = 0.05

    @property
    def beta(self) -> float:
        """g/(2 log(2 |Y|/delta)) with |Y| = max 1/q (Thm 4.3)."""
        responses = max(self.inverse_q)
        return self.margin / (2 * float(np.log(2 * responses / self.delta)))


class Instance(NamedTuple):
    """R copies of one prompt with C cells of responses and K members."""

    base: Float[Array, "R C"]  # log pi_base of each cell
    size: Float[Array, "R C"]  # log of how many responses the cell lumps
    members: Float[Array, "R K C"]  # log pi_k of each cell
    mode: Int[Array, " R"]  # the cell y*


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return scipy.special.log_softmax(logits, axis=-1)


def hidden_mode(
    rng: np.random.Generator, config: Config, inverse_q: float, *, runs: int
) -> Instance:
    """Cells y_1..y_K and all others; y* is drawn anew for each run."""
    k, gain = config.members, np.log1p(config.margin)
    size = np.append(np.zeros(k), np.log(inverse_q - k))
    likely = gain * np.eye(k, k + 1)  # log pi_base of the K bases, up to a constant
    mode = rng.integers(k, size=runs)
    members = _log_softmax(size + likely * (1 + 1 / config.beta))
    return Instance(
        jnp.asarray(_log_softmax(size + likely)[mode]),
        jnp.asarray(np.tile(size, (runs, 1))),
        jnp.asarray(np.tile(members, (runs, 1, 1))),
        jnp.asarray(mode),
    )


def false_hopes(
    rng: np.random.Generator, config: Config, inverse_q: float, *, runs: int
) -> Instance:
    """Cells z_1..z_{K-1}, y*, two common ones; members in random order."""
    k = config.members
    rest = 0.5 - (k - 1) / inverse_q
    base = np.log(np.array([1 / inverse_q] * (k - 1) + [0.5, rest]))
    size = np.array([0.0] * k + [np.log(2.0)])
    hoped = np.tile(base - size, (k, 1))  # the reward that each member believes in
    np.fill_diagonal(hoped[:-1], np.log1p(config.margin) + np.log(0.5))
    members = _log_softmax(base + hoped / config.beta)
    order = rng.permuted(np.tile(np.arange(k), (runs, 1)), axis=-1)
    return Instance(
        jnp.asarray(np.tile(base, (runs, 1))),
        jnp.asarray(np.tile(size, (runs, 1))),
        jnp.asarray(members[order]),
        jnp.full(runs, k - 1),
    )


def concentration(found: Instance) -> float:
    """C_conc = max_k sum_y pi_k(y)^2/pi_base(y) of the first run."""
    ratio = 2 * found.members[0] - found.base[:1]
    return float(jnp.exp(jax.nn.logsumexp(ratio, axis=-1)).max())


@partial(jax.jit, static_argnames=("config",))
def xpo_runs(
    keys: Key[Array, " R"], found: Instance, *, config: Config
) -> Bool[Array, "R T"]:
    """Whether XPO's answer after T rounds is sharpened, T = 1..K+1+LATE."""
    rounds = config.members + 1 + LATE
    prompts = prompts_of(jnp.zeros(config.batch, jnp.int32))
    again = lambda leaf: jnp.broadcast_to(leaf[None], (rounds, *leaf.shape))
    batches = jax.tree.map(again, prompts)

    def one(key, base, size, members, mode):
        policy = table(1, base.shape[-1])
        algorithm = xpo(
            policy,
            freeze(policy, base[None]),
            finite_class(members[:, None]),
            alpha=config.alpha,
            beta=config.beta,
            rounds=rounds,
            reward=lambda c: c.log_prob - size[c.response.tokens[..., 0]],
        )

        def step(key, state, prompts):
            state, _ = algorithm.step(key, state, prompts)
            mass = jax.nn.softmax(state.params[0])[mode]
            return state, mass >= 1 - config.delta

        watched = Algorithm(algorithm.init, step)
        return loop.scan(key, watched, base[None], batches)[1]

    return jax.vmap(one)(keys, *found)


def _alternating(
    log_unseen: Callable[[np.ndarray], np.ndarray], rivals: int, n: float
) -> float:
    """E[1/(1+U)] = sum_s (-1)^s binom(rivals, s) P[some s rivals are in]/(s+1).

    U counts the rivals still in, and n log_unseen(s) is the log-probability that s
    given ones are.
    """
    s = np.arange(rivals + 1)
    terms = scipy.special.binom(rivals, s) * np.exp(n * log_unseen(s)) / (s + 1)
    return float(((-1.0) ** s * terms).sum())


def offline_hidden_mode(config: Config, inverse_q: float, n: float) -> float:
    """P[Eq 8 returns pi*_beta from n pairs], truth uniform, exact.

    Rival k leaves at a pair with y* or y_k on one side only, all at once at one with
    y*. If s are in, every pair is (v, v), v one of them or y*, or has none of these.
    """
    top = (1 + config.margin) / (inverse_q + config.margin)
    other = 1 / (inverse_q + config.margin)
    both = lambda s: top**2 + s * other**2
    log_in = lambda s: np.log(both(s) + (1 - top - s * other) ** 2)
    rivals = config.members - 1
    seen = -np.expm1(n * log_in(np.zeros(1))[0])
    return float(seen) + _alternating(log_in, rivals, n)


def offline_false_hopes(config: Config, inverse_q: float, n: float) -> float:
    """P[Eq 8 returns pi*_beta from n pairs], ties at random, exact."""
    q = 1 / inverse_q
    log_in = lambda s: np.log(s * q**2 + (1 - s * q) ** 2)
    return _alternating(log_in, config.members - 1, n)


def passive_hidden_mode(config: Config, inverse_q: float, m: float) -> float:
    """P[success] of the best learner on m draws from pi_base, truth uniform.

    It knows y* once drawn, else it guesses among y_1..y_K not drawn.
    """
    top = (1 + config.margin) / (inverse_q + config.margin)
    other = 1 / (inverse_q + config.margin)
    log_in = lambda s: np.log1p(-top - s * other)
    return float(-np.expm1(m * np.log1p(-top))) + _alternating(
        log_in, config.members - 1, m
    )


def least(success: Callable[[float], float], *, rho: float) -> int:
    """The least n with success(n) >= 1-rho, for a success that rises with n."""
    return least_prompts(lambda n: 1 - success(n), rho=rho)


FAMILIES = {
    "hidden mode": (hidden_mode, offline_hidden_mode),
    "false hopes": (false_hopes, offline_false_hopes),
}


def _xpo(key: Key[Array, ""], found: Instance, config: Config):
    keys = jax.random.split(key, config.runs)
    sharpened = np.asarray(xpo_runs(keys, found, config=config))
    return quantile(
        config.batch * xpo_draws(sharpened.T), 1 - config.rho, level=config.level
    )


def run(config: Config, seed: int) -> list[Point]:
    points = []
    rho, k = config.rho, config.members
    for panel, (family, offline) in FAMILIES.items():
        for number, inverse_q in enumerate(config.inverse_q):
            key = jax.random.fold_in(jax.random.key(seed), number)
            draw_key, run_key = jax.random.split(key)
            found = family(generator(draw_key), config, inverse_q, runs=config.runs)
            x = concentration(found)
            pairs = least(partial(offline, config, inverse_q), rho=rho)
            name = "offline regression (Eq 8), exact"
            points.append(Point(panel, name, "measured", x, 2 * pairs))
            m = _xpo(run_key, found, config)
            points.append(Point(panel, "XPO (Alg 1)", "measured", x, *m))
            if panel == "hidden mode":
                passive = partial(passive_hidden_mode, config, inverse_q)
                name = "any learner that only draws from pi_base, exact"
                points.append(Point(panel, name, "theory", x, least(passive, rho=rho)))
                rounds = 1 + np.ceil((1 - rho) * k)
            else:
                draws = float(np.ceil(np.log(rho) / np.log(0.5)))
                name = "SFT-Sharpening, n = 1"
                points.append(Point(panel, name, "theory", x, draws))
                rounds = 1 + k
            name = "XPO, one round for each member"
            m = 2 * config.batch * float(rounds)
            points.append(Point(panel, name, "theory", x, m))
    return points


CURVE = Curve(
    name="exploration",
    says="Two families on which exploration itself pays: members of the class disagree "
    "only on responses of probability q under pi_base. Offline regression needs m of "
    "the order of 1/q; XPO draws what a member proposes and needs at most about one "
    "round for each member, at any q.",
    config=Config(),
    quick=Config(inverse_q=(1e2, 1e3, 1e4, 1e5), runs=200),
    run=run,
    panels=(
        Panel("hidden mode", "C_conc", "queries m", "hidden mode: C_cov = C_conc/2"),
        Panel("false hopes", "C_conc", "queries m", "false hopes: C_cov = 2"),
    ),
)
