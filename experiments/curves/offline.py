"""Offline regression against the margin, beta and C_conc (Thm 4.2), by its exact law.

The class is `theory.regression.hiding`: one prompt of weight eps is hard, its y* has
mass `top`, and each wrong member hides its excess on a group that pi_base rarely
draws, of the mass that makes C_conc what is asked. There C_conc, the margin, beta,
delta and C_cov = 1 - eps + eps/top move one at a time. SFT-Sharpening, on the same
pi_base, has to tell the law of best-of-N from a law with mass delta off Y*.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats

from experiments.curves.curve import Curve, Panel, Point
from theory.curves import least_prompts
from theory.regression import class_facts, hiding, least_pairs, tilted_off
from theory.s4_queries import prescribed_beta


@dataclasses.dataclass(frozen=True)
class Config:
    """The instance, what each panel varies, and the fixed betas and margins."""

    eps: float = 0.1
    delta: float = 0.2
    rho: float = 0.05
    top: float = 0.05
    conc: float = 1e3
    margin: float = 1.0
    wrong: int = 1  # members beside pi*_beta
    margins: tuple[float, ...] = tuple(np.geomspace(1e-3, 1e3, 25).tolist())
    fixed_betas: tuple[float, ...] = (0.003, 0.03, 0.3)
    betas: tuple[float, ...] = tuple(np.geomspace(1e-3, 1.0, 49).tolist())
    fixed_margins: tuple[float, ...] = (0.1, 1.0, 10.0)
    concs: tuple[float, ...] = tuple(np.geomspace(10.0, 1e6, 11).tolist())
    classes: tuple[int, ...] = (1, 3)


QUICK = Config(
    margins=tuple(np.geomspace(1e-2, 1e2, 5).tolist()),
    betas=tuple(np.geomspace(1e-3, 1.0, 10).tolist()),
    concs=(10.0, 1e3, 1e5),
)


def needed_beta(config: Config, margin: float) -> float:
    """The beta that the repaired Thm 4.2 prescribes, log(1+g_m) delta eps/(2 log C)."""
    cover = 1.0 - config.eps + config.eps / config.top
    goal = {"delta": config.delta, "eps": config.eps}
    gap, log_cover = float(np.log1p(margin)), float(np.log(cover))
    return prescribed_beta(gap=gap, log_cover=log_cover, **goal)


def _instance(config: Config, *, margin: float, beta: float, conc: float, wrong: int):
    goal: dict[str, Any] = {"delta": config.delta, "eps": config.eps}
    goal |= {"rho": config.rho, "top": config.top, "gap": np.log1p(margin)}
    return hiding(conc=conc, beta=beta, wrong=wrong, **goal)


def offline_queries(
    config: Config, *, margin: float, beta: float, conc: float, wrong: int
) -> float:
    """The exact least m = 2n; inf where pi*_beta itself is not sharpened."""
    gap = float(np.log1p(margin))
    if tilted_off(top=config.top, gap=gap, beta=beta) >= config.delta:
        return np.inf
    chosen = {"margin": margin, "beta": beta, "conc": conc, "wrong": wrong}
    return 2.0 * least_pairs(_instance(config, **chosen))


def printed_queries(
    config: Config, *, margin: float, beta: float, conc: float, wrong: int
) -> float:
    """2 C_conc log^3(C_loss|Pi|/rho)/(g_m delta eps)^2: Thm 4.2 with constant 1."""
    chosen = {"margin": margin, "beta": beta, "conc": conc, "wrong": wrong}
    f = class_facts(_instance(config, **chosen))
    log = f.log_loss + np.log((1 + wrong) / config.rho)
    return float(2 * conc * log**3 / (margin * config.delta * config.eps) ** 2)


def sufficient_queries(
    config: Config, *, margin: float, beta: float, conc: float, wrong: int
) -> float:
    """4 C_conc log(|Pi|/rho)/(delta eps - beta log C_cov/log(1+g_m))^2.

    Where Thm 4.2' (noiseless) gives (eps,delta)-sharpening; inf where it never does.
    """
    share = beta / (2.0 * needed_beta(config, margin))  # of delta eps, for the bias
    room = config.delta * config.eps * (1.0 - share)
    if room <= 0:
        return np.inf
    return float(4 * conc * np.log((1 + wrong) / config.rho) / room**2)


def sft_failure(config: Config, *, n: int, draws: int) -> float:
    """P[ maximum likelihood prefers the member with mass delta off Y* ], or ties.

    H ~ Bin(n, eps) draws fall on the hard prompt, T ~ Bin(H, t) of them off Y*, with
    t = (1-top)^N; the wrong member wins when T log(delta/t) >= (H-T) log((1-t)/
    (1-delta)).
    """
    t, delta = (1.0 - config.top) ** draws, config.delta
    win, lose = np.log(delta / t), np.log((1.0 - t) / (1.0 - delta))
    hard = np.arange(n + 1)
    least = np.ceil(hard * lose / (win + lose) * (1 - 1e-12))
    tail = scipy.stats.binom.sf(least - 1, hard, t)
    return float(scipy.stats.binom.pmf(hard, n, config.eps) @ tail)


def sft_queries(config: Config) -> float:
    """The least m = n N of SFT-Sharpening over N, n exact: its own hidden rival.

    N from where (1-top)^N is delta/2 on, up to four times that.
    """
    first = int(np.ceil(np.log(config.delta / 2) / np.log1p(-config.top)))
    costs = []
    for draws in np.unique(np.linspace(first, 4 * first, 13).astype(int)).tolist():
        fails = lambda n, draws=draws: sft_failure(config, n=n, draws=draws)
        costs.append(least_prompts(fails, rho=config.rho) * draws)
    return float(min(costs))


def _points(panel: str, series: str, kind, x: Sequence[float], y) -> list[Point]:
    """The points of y over x, without those that are infinite."""
    found = [(value, y(value)) for value in x]
    return [Point(panel, series, kind, a, b) for a, b in found if np.isfinite(b)]


def _against_margin(config: Config) -> list[Point]:
    same = {"conc": config.conc, "wrong": config.wrong}
    prescribed = lambda g: {"margin": g, "beta": needed_beta(config, g), **same}
    draw = lambda name, kind, y: _points("margin", name, kind, config.margins, y)
    need = lambda g: offline_queries(config, **prescribed(g))
    points = draw("offline, beta by Thm 4.2", "measured", need)
    for beta in config.fixed_betas:
        at = lambda g, beta=beta: offline_queries(config, margin=g, beta=beta, **same)
        points += draw(f"offline, beta = {beta:g}", "measured", at)
    sft = sft_queries(config)
    points += draw("SFT-Sharpening", "measured", lambda g: sft)
    printed = lambda g: printed_queries(config, **prescribed(g))
    enough = lambda g: sufficient_queries(config, **prescribed(g))
    points += draw("Thm 4.2 as printed, constant 1", "theory", printed)
    return points + draw("16 C log(|Pi|/rho)/(delta eps)^2", "bound", enough)


def _against_beta(config: Config) -> list[Point]:
    same = {"conc": config.conc, "wrong": config.wrong}
    points = []
    for g in config.fixed_margins:
        need = lambda b, g=g: offline_queries(config, margin=g, beta=b, **same)
        series = f"offline, margin {g:g}"
        points += _points("beta", series, "measured", config.betas, need)
    for g in config.fixed_margins:
        enough = lambda b, g=g: sufficient_queries(config, margin=g, beta=b, **same)
        series = f"Thm 4.2' (noiseless), margin {g:g}"
        points += _points("beta", series, "bound", config.betas, enough)
    return points


def _against_conc(config: Config) -> list[Point]:
    same = {"margin": config.margin, "beta": needed_beta(config, config.margin)}
    draw = lambda name, kind, y: _points("conc", name, kind, config.concs, y)
    points, wrong = [], config.wrong
    for k in config.classes:
        need = lambda c, k=k: offline_queries(config, conc=c, wrong=k, **same)
        points += draw(f"offline, |Pi| = {1 + k}", "measured", need)
    sft = sft_queries(config)
    points += draw("SFT-Sharpening", "measured", lambda c: sft)
    printed = lambda c: printed_queries(config, conc=c, wrong=wrong, **same)
    enough = lambda c: sufficient_queries(config, conc=c, wrong=wrong, **same)
    points += draw("Thm 4.2 as printed, constant 1", "theory", printed)
    return points + draw("16 C log(|Pi|/rho)/(delta eps)^2", "bound", enough)


def run(config: Config, seed: int) -> list[Point]:
    """All three panels; exact, so that the seed changes nothing."""
    del seed
    return _against_margin(config) + _against_beta(config) + _against_conc(config)


CURVE = Curve(
    name="offline",
    says=(
        "Queries m = 2n that offline regression needs for (eps,delta)-sharpening with "
        "probability 1-rho, by the exact law of its minimiser over a class made to "
        "hide at a given C_conc. Rewards are noiseless: with the beta of Thm 4.2 (as "
        "repaired) m does not depend on the margin; at a fixed beta it grows a few "
        "times before pi*_beta itself is no longer sharpened. C_conc is needed, the "
        "margin^-2 of the printed Thm 4.2 is not, and for large margins its line, at "
        "the constant 1, falls below the need."
    ),
    config=Config(),
    quick=QUICK,
    run=run,
    panels=(
        Panel(
            "margin",
            "margin g_m",
            "queries m",
            "C_conc = 1000, eps = 0.1, delta = 0.2",
            slopes=False,
        ),
        Panel(
            "beta",
            "beta",
            "queries m",
            "C_conc = 1000, eps = 0.1, delta = 0.2",
            slopes=False,
        ),
        Panel("conc", "C_conc", "queries m", "margin 1, eps = 0.1, delta = 0.2"),
    ),
)
