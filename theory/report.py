"""Every quantity of one table under its name in the paper, as a plain dict."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory import quantities as q
from theory.curves import adaptive_cost, fixed_cost
from theory.laws import (
    adaptive_law,
    best_of_n_law,
    least_n,
    least_n_by_prompt,
    prompts_needed,
)


class Options(NamedTuple):
    """The parameters of the report, in the paper's letters (see paper section 1)."""

    n: tuple[int, ...]  # the N at which the law of best-of-N is reported
    eps: float
    delta: float
    gamma: float
    p: float
    beta: float
    class_size: int
    rho: float


# What the scalar keys mean; the order of the printed table.
DEFINITIONS = {
    "C_cov": "E_mu[1/pi(Y*|x)] (Eq 6)",
    "C_cov_g": "E_mu[1/pi(Y*_g|x)]",
    "C_cov_g_p": "E_mu[pi(Y*_g|x)^-p]^(1/p)",
    "Cbar_cov": "E_mu[1/max_y pi(y|x)]",
    "margin": "least max pi / pi(y'|x) - 1, y' not in Y* (Asm 4.2)",
    "margin_g": "least pi(Y*_g|x) / pi(y'|x) - 1, y' not in Y*_g (Asm J.2)",
    "C_pi_star_beta": "E[pi*_beta/pi] under pi*_beta",
    "C_pi_base/pi_star_beta;beta": "E[(pi/pi*_beta)^beta] under pi (Eq 9)",
    "J_beta(pi_base)": "E_pi[log pi] (Eq 3)",
    "J_beta(pi_star_beta)": "E[log pi] - beta KL(.||pi) under pi*_beta, the largest",
    "mu_threshold": "ln(2/delta), the mu of adaptive best-of-N (App D)",
    "E_N_mu": "E_mu[N_mu(x)], responses per prompt when adaptive (Eq 10)",
    "N": "least N with P_mu[pi_BoN(Y*_g|x) >= 1-delta] >= 1-eps",
    "n": "ceil(2 log(|Pi|/rho) / ((1-1/sqrt 2)^2 delta eps))",
    "m": "n N",
    "E_m": "n E_N_mu: the adaptive fit is then sharpened (Thm D.1)",
    "n_guaranteed": "n at eps/2",
    "N_guaranteed": "N at eps/2, delta/2",
    "m_guaranteed": "their product: the fixed-N fit is then sharpened (Thm 4.1')",
}


def report(
    pi: Float[Array, "X Y"],
    mu: Float[Array, " X"],
    options: Options,
    *,
    pihat: Float[Array, "X Y"] | None = None,
) -> dict[str, Any]:
    """All quantities of section 2, the laws, and their costs; pihat adds its own.

    Counts are Python ints, sets are index arrays, the rest are float64 arrays.
    """
    found = _arrays(pi, mu, pihat, options=options)
    for name in ("N", "n", "N_guaranteed", "n_guaranteed"):
        found[name] = int(found[name])
    found["m"] = found["n"] * found["N"]
    found["m_guaranteed"] = found["n_guaranteed"] * found["N_guaranteed"]
    names = [str(n) for n in options.n]
    for laws in (found, found["sharpened_fraction"]):
        laws["pi_BoN"] = dict(zip(names, laws["pi_BoN"], strict=True))
    per_prompt = found["per_prompt"]
    per_prompt["N"] = [int(draws) for draws in per_prompt["N"].tolist()]
    for name in ("Y_star", "Y_star_g"):
        per_prompt[name] = [np.flatnonzero(row) for row in np.asarray(per_prompt[name])]
    shape = {"X": pi.shape[0], "Y": pi.shape[1]}
    return {"options": options._asdict(), "shape": shape} | found


# One program: compiling a hundred small ones would take far longer than running them.
@partial(jax.jit, static_argnames="options")
def _arrays(pi, mu, pihat, *, options: Options) -> dict[str, Any]:
    tilted = q.pi_star_beta(pi, beta=options.beta)
    policies = {
        "pi_star_beta": tilted,
        "pi_BoN": [best_of_n_law(pi, pi, n=n) for n in options.n],
        "pi_AdaBoN": _adaptive(pi, options).response,
    }
    found: dict[str, Any] = {
        **_coverage_and_margin(pi, mu, options),
        **_regularised(pi, mu, options),
        **_cost(pi, mu, options),
        "per_prompt": _per_prompt(pi, options),
        "mu": mu,
        "pi": pi,
        **policies,
        "sharpened_fraction": _sharpened(pi, mu, policies, options),
    }
    if pihat is not None:
        found["pihat"] = _compare(pihat, pi, mu, options)
    return found


def _adaptive(pi, options: Options):
    return adaptive_law(pi, mu_threshold=jnp.log(2.0 / options.delta))


def _coverage_and_margin(pi, mu, options: Options) -> dict[str, Any]:
    gamma = options.gamma
    return {
        "C_cov": q.coverage(pi, mu),
        "C_cov_g": q.coverage(pi, mu, gamma=gamma),
        "C_cov_g_p": q.coverage(pi, mu, gamma=gamma, p=options.p),
        "Cbar_cov": q.coverage_bar(pi, mu),
        "margin": q.margin(pi, mu),
        "margin_g": q.approximate_margin(pi, mu, gamma=gamma),
    }


def _regularised(pi, mu, options: Options) -> dict[str, Any]:
    beta = options.beta
    reward = q.log_probability(pi)
    log_tilted = q.log_pi_star_beta(pi, beta=beta)
    tilted = jnp.exp(log_tilted)
    return {
        "C_pi_star_beta": q.concentrability(tilted, pi, mu),
        "C_pi_base/pi_star_beta;beta": q.concentrability_beta_log(
            reward, log_tilted, mu, beta=beta
        ),
        "J_beta(pi_base)": q.objective(pi, pi, reward, mu, beta=beta),
        "J_beta(pi_star_beta)": q.objective(tilted, pi, reward, mu, beta=beta),
    }


def _cost(pi, mu, options: Options) -> dict[str, Any]:
    goal = {"eps": options.eps, "delta": options.delta}
    fit = {"class_size": options.class_size, "rho": options.rho}
    adaptive = adaptive_cost(pi, mu, **goal, **fit)
    fixed = fixed_cost(pi, mu, gamma=options.gamma, **goal, **fit)
    return {
        "mu_threshold": jnp.log(2.0 / options.delta),
        "E_N_mu": adaptive.N,
        "N": least_n(pi, mu, gamma=options.gamma, **goal),
        "n": prompts_needed(**goal, **fit),
        "E_m": adaptive.m,
        "n_guaranteed": fixed.n,
        "N_guaranteed": fixed.N,
    }


def _per_prompt(pi, options: Options) -> dict[str, Any]:
    best, near = q.maximisers(pi), q.maximisers(pi, gamma=options.gamma)
    return {
        "Y_star": best,
        "Y_star_g": near,
        "max_pi": jnp.max(pi, axis=-1),
        "pi(Y_star)": q.mass(pi, best),
        "pi(Y_star_g)": q.mass(pi, near),
        "N": least_n_by_prompt(pi, delta=options.delta, gamma=options.gamma),
        "E_N_mu": _adaptive(pi, options).mean_draws,
    }


def _sharpened(pi, mu, policies, options: Options) -> dict[str, Any]:
    """P_mu[policy(Y*_g|x) >= 1-delta] of the base and of each law (Def 3.1, F.1)."""
    fraction = lambda policy: q.sharpened_fraction(
        policy, pi, mu, delta=options.delta, gamma=options.gamma
    )
    return jax.tree.map(fraction, {"pi": pi, **policies})


def _compare(pihat, pi, mu, options: Options) -> dict[str, Any]:
    """A trained policy against the base and against pi*_beta."""
    beta, reward = options.beta, q.log_probability(pi)
    log_pihat, log_tilted = q.log_probability(pihat), q.log_pi_star_beta(pi, beta=beta)
    fraction = q.sharpened_fraction(
        pihat, pi, mu, delta=options.delta, gamma=options.gamma
    )
    tilted = jnp.exp(log_tilted)
    return {
        "sharpened_fraction": fraction,
        "C_pi": q.concentrability(pihat, pi, mu),
        "C_pi_base/pi;beta": q.concentrability_beta_log(
            reward, log_pihat, mu, beta=beta
        ),
        "J_beta": q.objective(pihat, pi, reward, mu, beta=beta),
        "KL(pi||pi_base)": q.expectation(mu, q.kl(pihat, pi)),
        "KL(pi||pi_star_beta)": q.expectation(mu, q.kl_log(log_pihat, log_tilted)),
        "D_H^2(pi,pi_base)": q.expectation(mu, q.hellinger_squared(pihat, pi)),
        "D_H^2(pi,pi_star_beta)": q.expectation(mu, q.hellinger_squared(pihat, tilted)),
    }
