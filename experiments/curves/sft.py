"""What SFT-Sharpening costs: m against eps, C_cov, delta and log|Pi| (Thm 4.1, D.1).

Two answers at each point, both from exact laws on `theory.curves.hard_instance`. The
guarantee (grey lines) is the n of the proof times the N of the exact law. The need
(markers) is the least n at which maximum likelihood over one concrete class is
(eps,delta)-sharpened with probability 1-rho, times the same N; a third series also
chooses N for the least product.

How n depends on the class is asked twice: with rivals that are each wrong on a hard
prompt of their own, the hardest known to us, and with rivals that lean, at four times
the N, where only those still count. The first n is c log(|Pi|/rho)/(delta eps) with a c
that rises towards 11.6 (Chernoff's exponent) as |Pi|/rho grows, so its slope is above
one at every finite class and c stays below the 46.6 of the proof.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.curves.curve import Curve, Kind, Panel, Point
from theory import curves
from theory.curves import Goals, Rivals
from theory.laws import prompts_needed

FIXED, BEST, ADAPTIVE = "fixed N", "fixed, cheapest N", "adaptive N"
GUARANTEED = "fixed, guaranteed (Thm 4.1)"
OWN = "K rivals, each wrong elsewhere"
LEANING = "2^d rivals that lean, 4 N"


@dataclasses.dataclass(frozen=True)
class Config:
    """Each panel moves one of eps, C_cov, delta, log|Pi|; the others stay as given."""

    eps: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
    c_cov: tuple[float, ...] = (5.0, 10.0, 30.0, 100.0, 300.0)
    delta: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    rivals: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 100)
    """Rivals wrong on prompts of their own, at most 1/(2 eps) at the least eps."""
    coins: tuple[int, ...] = (2, 4, 8, 16, 32)
    """d of the 2^d rivals that lean."""
    at_eps: float = 0.02
    at_c_cov: float = 10.0
    at_delta: float = 0.1
    class_eps: float = 0.005
    """eps of the panel of log|Pi|."""
    rho: float = 0.05
    overdraw: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5, 3.0)
    """Multiples of the theorem's N among which the cheapest is looked for."""


QUICK = Config(
    eps=(0.1, 0.05, 0.02),
    c_cov=(5.0, 20.0, 100.0),
    delta=(0.5, 0.2, 0.1),
    rivals=(1, 4, 20),
    coins=(2, 4, 8),
    class_eps=0.02,
    at_eps=0.05,
    overdraw=(1.0, 2.0, 3.0),
)


def hard_miss(goal: Goals, draws: float) -> float:
    """(1-q)^N: the mass off Y* of best-of-N on the hard prompt."""
    hard = 2.0 * float(goal.eps)
    return (1.0 - hard / (float(goal.c_cov) - 1.0 + hard)) ** draws


def least_queries(goal: Goals, *, draws: float, miss: float, rho: float) -> float:
    """m = n N at the least n that a fit over `Rivals` needs, one coin."""
    rivals = Rivals(1, hard=2.0 * float(goal.eps), delta=float(goal.delta))
    fails = lambda n: curves.confusion(n, miss=miss, rivals=rivals)
    return curves.least_prompts(fails, rho=rho) * draws


def lower_bound(goal: Goals, *, power: int) -> float:
    """C log|Pi| / ( eps^power (1 + log(C/eps)) ): Thm 3.1 (2), D.2 (1), constant 1."""
    eps, c_cov, _, size = (float(a) for a in goal)
    return c_cov * math.log(size) / (eps**power * (1 + math.log(c_cov / eps)))


def sweep(
    panel: str, goals: Goals, found: curves.Curve, x: Sequence[float], config: Config
) -> list[Point]:
    """The points of one panel over goals [E], whose costs are found, at abscissae x."""
    fixed, adaptive = found.fixed, found.adaptive
    points: list[Point] = []

    def add(series: str, kind: Kind, y: Callable[[int, Goals], float]) -> None:
        for k, value in enumerate(x):
            goal = Goals(*(a[k] for a in goals))
            points.append(Point(panel, series, kind, value, y(k, goal)))

    def need(k: int, goal: Goals, factor: float = 1.0) -> float:
        draws = math.ceil(factor * float(fixed.N[k]))
        miss = hard_miss(goal, draws)
        return least_queries(goal, draws=draws, miss=miss, rho=config.rho)

    def adaptive_need(k: int, goal: Goals) -> float:
        draws, miss = float(adaptive.N[k]), float(found.adaptive_miss[k])
        return least_queries(goal, draws=draws, miss=miss, rho=config.rho)

    add(FIXED, "measured", need)
    add(BEST, "measured", lambda k, g: min(need(k, g, f) for f in config.overdraw))
    add(ADAPTIVE, "measured", adaptive_need)
    add(GUARANTEED, "theory", lambda k, _: float(fixed.m[k]))
    add("adaptive, guaranteed (Thm D.1)", "theory", lambda k, _: float(adaptive.m[k]))
    if panel != "delta":  # the lower bounds are about delta = 1/2
        add("~ Thm 3.1", "bound", lambda _, goal: lower_bound(goal, power=2))
        add("~ Thm D.2", "bound", lambda _, goal: lower_bound(goal, power=1))
    return points


def class_points(config: Config, draws: int) -> list[Point]:
    """m against log(|Pi|/rho) at one eps: two classes that grow, and the guarantee.

    All hard prompts have the same pi_base(.|x), so that N does not move.
    """
    eps, delta, rho = config.class_eps, config.at_delta, config.rho
    goal = Goals(*(jnp.asarray(v) for v in (eps, config.at_c_cov, delta, 2.0)))
    miss = lambda times: hard_miss(goal, times * draws)
    points, abscissae = [], set()

    def add(series: str, size: int, n: int, times: int) -> None:
        x = math.log(size / rho)
        abscissae.add(x)
        points.append(Point("class", series, "measured", x, float(n * times * draws)))

    for count in config.rivals:
        fails = lambda n, count=count: curves.private_confusion(
            n, miss=miss(1), hard=2 * eps, delta=delta, count=count
        )
        add(OWN, count + 1, curves.least_prompts(fails, rho=rho), 1)
    for coins in config.coins:
        rivals = Rivals(coins, hard=2 * eps, delta=delta)
        fails = lambda n, rivals=rivals: curves.confusion(
            n, miss=miss(4), rivals=rivals
        )
        add(LEANING, rivals.class_size, curves.least_prompts(fails, rho=rho), 4)
    for x in sorted(abscissae):
        size = rho * math.exp(x)
        n = prompts_needed(class_size=size, rho=rho, delta=delta, eps=eps / 2)
        points.append(Point("class", GUARANTEED, "theory", x, float(n) * draws))
    return points


def run(config: Config, seed: int) -> list[Point]:
    """All four panels; nothing is sampled."""
    del seed
    base = {"eps": config.at_eps, "c_cov": config.at_c_cov, "delta": config.at_delta}
    base["class_size"] = float(Rivals(1, hard=0.1, delta=0.1).class_size)
    grids = {
        "eps": {"eps": config.eps},
        "coverage": {"c_cov": config.c_cov},
        "delta": {"delta": config.delta},
        "class": {"eps": [config.class_eps]},
    }
    goals = {panel: _goals(base, moved) for panel, moved in grids.items()}
    # One program for all: it is compiled once.
    joined = Goals(*map(jnp.concatenate, zip(*goals.values(), strict=True)))
    found = curves.queries(joined, rho=config.rho, ties=2)
    points, first = [], 0
    for panel, moved in grids.items():
        (x,) = moved.values()
        here = slice(first, first + len(x))
        part = jax.tree.map(lambda a, here=here: np.asarray(a)[here], found)
        if panel == "class":
            points += class_points(config, draws=int(part.fixed.N[0]))
        else:
            points += sweep(panel, goals[panel], part, x, config)
        first = here.stop
    return points


def _goals(base: dict[str, float], moved: Mapping[str, Sequence[float]]) -> Goals:
    """`base` at every point, but for the one field that moves."""
    (values,) = moved.values()
    every = {name: np.full(len(values), value) for name, value in base.items()}
    return Goals(**{k: jnp.asarray(v) for k, v in (every | dict(moved)).items()})


CURVE = Curve(
    name="sft",
    says=(
        "Queries m of SFT-Sharpening against eps, C_cov, delta and log|Pi|, on two "
        "prompts whose hard one weighs 2 eps (one hard prompt for each rival that is "
        "wrong on its own). Markers: the least m at which maximum "
        "likelihood over one concrete class is (eps,delta)-sharpened with probability "
        "1-rho, from exact laws; grey: what the proofs guarantee with the exact laws "
        "of best-of-N; dotted: the orders of the lower bounds with constant 1. Slopes "
        "in delta hold a log(2/delta), and rivals wrong on prompts of their own "
        "approach their rate in log|Pi| from below: both are steeper than 1."
    ),
    config=Config(),
    quick=QUICK,
    run=run,
    panels=(
        Panel("eps", "eps", "queries m", "C_cov = 10, delta = 0.1"),
        Panel("coverage", "C_cov", "queries m", "eps, delta fixed"),
        Panel("delta", "delta", "queries m", "eps, C_cov fixed"),
        Panel("class", "log(|Pi|/rho)", "queries m", "eps, delta, hard row fixed"),
    ),
)
CURVES = (CURVE,)
