"""Planted bugs in the algorithms, the quantities, the laws and the simulator."""

from mutant import Mutant
from mutants_claims import CLAIM_MUTANTS

LOSS = ("tests/test_loss.py",)
UPDATE = ("tests/test_update.py",)
SELECTION = ("tests/test_selection.py",)
ADAPTIVE = ("tests/test_ada_sft.py",)
XPO = ("tests/test_xpo.py",)
RLOO = ("tests/test_loss.py", "tests/test_rloo.py")
STATS = ("tests/test_stats.py",)
QUANTITIES = ("tests/theory/test_quantities.py",)
LAWS = ("tests/theory/test_laws.py",)
CURVES = ("tests/theory/test_curves.py",)
SEC = ("tests/theory/test_sec.py",)
FAMILIES = ("tests/theory/test_families.py",)
MLE = ("tests/theory/test_mle.py",)
LEMMA_F1 = ("tests/theory/test_s4_mle.py",)
CLAIM = ("tests/theory/test_claim.py",)
SIMULATOR = ("tests/theory/test_simulator.py",)

ALGORITHMS = (
    Mutant(
        "Alg 1 with the printed minus sign",
        "jsharp/loss.py",
        "return alpha * log_prob[:, 1].sum() + regression",
        "return alpha * log_prob[:, 1].sum() - regression",
        LOSS,
    ),
    Mutant(
        "Alg 1 rewards y in place of y' ~ pi_base",
        "jsharp/loss.py",
        "return alpha * log_prob[:, 1].sum() + regression",
        "return alpha * log_prob[:, 0].sum() + regression",
        LOSS,
    ),
    Mutant(
        "Eq 8: beta also multiplies the reward",
        "jsharp/loss.py",
        "gap = beta * (log_prob - base_log_prob) - reward",
        "gap = beta * (log_prob - base_log_prob - reward)",
        LOSS,
    ),
    Mutant(
        "RLOO: the baseline includes the response itself",
        "jsharp/loss.py",
        "(value - value.mean(1, keepdims=True)) * (n / (n - 1))",
        "(value - value.mean(1, keepdims=True))",
        RLOO,
    ),
    Mutant(
        "RLOO: the gradient also goes through the reward",
        "jsharp/loss.py",
        "jax.lax.stop_gradient(reward - beta * (log_prob - base_log_prob))",
        "(reward - beta * (log_prob - base_log_prob))",
        RLOO,
    ),
    Mutant(
        "best of N takes the last of equals",
        "jsharp/selection.py",
        "return jnp.argmax(score, axis=1)[:, None]",
        "return score.shape[1] - 1 - jnp.argmax(score[:, ::-1], axis=1)[:, None]",
        SELECTION,
    ),
    Mutant(
        "Eq 10 counts the draws from zero",
        "jsharp/selection.py",
        "jnp.log((draws + seen).astype(log_prob.dtype))",
        "jnp.log((draws + seen - 1).astype(log_prob.dtype))",
        SELECTION,
    ),
    Mutant(
        "Eq 10 with < for <=",
        "jsharp/selection.py",
        "reached = -likeliest <= (log_k - log_mu)[None]",
        "reached = -likeliest < (log_k - log_mu)[None]",
        SELECTION,
    ),
    Mutant(
        "Eq 10 looks at the newest draw, not at the best so far",
        "jsharp/selection.py",
        "likeliest = jax.lax.cummax(log_prob, axis=1)",
        "likeliest = log_prob",
        SELECTION,
    ),
    Mutant(
        "the stopping draw itself is not kept",
        "jsharp/selection.py",
        "jnp.where(draws[None] <= time[:, None], log_prob, -jnp.inf)",
        "jnp.where(draws[None] < time[:, None], log_prob, -jnp.inf)",
        SELECTION,
    ),
    Mutant(
        "a stopped prompt goes on improving",
        "jsharp/ada_sft.py",
        "better = ~draws.stopped[:, None] & (new > draws.log_prob)",
        "better = new > draws.log_prob",
        ADAPTIVE,
    ),
    Mutant(
        "best of k: ties are given to everyone",
        "jsharp/selection.py",
        "return (value * chosen / tied).sum(1)",
        "return (value * chosen).sum(1)",
        SELECTION,
    ),
    Mutant(
        "a finite class forgets its earlier data",
        "jsharp/update.py",
        "total = state.inner + losses",
        "total = losses",
        UPDATE,
    ),
    Mutant(
        "XPO: y' comes from the current policy",
        "jsharp/xpo.py",
        "other = base.sample(base_key, prompts, 1)",
        "other = policy.sample(base_key, state.update.params, prompts, 1)",
        XPO,
    ),
    Mutant(
        "XPO: J_beta is estimated on y' too",
        "jsharp/xpo.py",
        "objective = (score - beta * log_ratio)[:, 0].mean()",
        "objective = (score - beta * log_ratio).mean()",
        XPO,
    ),
    Mutant(
        "XPO returns the newest iterate",
        "jsharp/xpo.py",
        "better = objective > state.objective",
        "better = objective > -jnp.inf",
        XPO,
    ),
    Mutant(
        "Clopper-Pearson at half its confidence",
        "jsharp/stats.py",
        "proportion_ci(1 - level, method",
        "proportion_ci(1 - 2 * level, method",
        STATS,
    ),
    Mutant(
        "a verdict holds when the interval touches the bound",
        "jsharp/stats.py",
        "if interval.high <= bound:",
        "if interval.low <= bound:",
        STATS,
    ),
)

THEORY = (
    Mutant(
        "Hellinger with the factor 1/2",
        "theory/quantities.py",
        "jnp.sum(((p - q) / jnp.where(total > 0, total, 1.0)) ** 2, axis=-1)",
        "jnp.sum(((p - q) / jnp.where(total > 0, total, 1.0)) ** 2, axis=-1) / 2",
        QUANTITIES,
    ),
    Mutant(
        "KL in the other direction",
        "theory/quantities.py",
        "jnp.log(jnp.where(both, p, 1.0) / jnp.where(both, q, 1.0))",
        "jnp.log(jnp.where(both, q, 1.0) / jnp.where(both, p, 1.0))",
        QUANTITIES,
    ),
    Mutant(
        "pi*_beta with exponent 1/beta",
        "theory/quantities.py",
        "logits = (1.0 + 1.0 / beta) * jnp.log(ratio)",
        "logits = (1.0 / beta) * jnp.log(ratio)",
        QUANTITIES,
    ),
    Mutant(
        "the tilt multiplies the reward by beta",
        "theory/quantities.py",
        "gain = (jnp.where(inside, reward, best) - best) / beta",
        "gain = (jnp.where(inside, reward, best) - best) * beta",
        QUANTITIES,
    ),
    Mutant(
        "C_cov,p without its p-th root",
        "theory/quantities.py",
        "return scale * expectation(mu, (inverse / scale) ** p) ** (1.0 / p)",
        "return scale * expectation(mu, (inverse / scale) ** p)",
        QUANTITIES,
    ),
    Mutant(
        "C_pi/pi';beta with exponent 1",
        "theory/quantities.py",
        "jnp.sum(jnp.where(both, pi * ratio**beta, 0.0), axis=-1)",
        "jnp.sum(jnp.where(both, pi * ratio, 0.0), axis=-1)",
        QUANTITIES,
    ),
    Mutant(
        "Y*_g with 1/(1+g) for 1-g",
        "theory/quantities.py",
        "near = (1.0 - gamma) * top * (1.0 - TIE)",
        "near = top / (1.0 + gamma) * (1.0 - TIE)",
        QUANTITIES,
    ),
    Mutant(
        "the margin relative to the mode",
        "theory/quantities.py",
        "excess = (top[:, None] - pi) / jnp.where(present, pi, 1.0)",
        "excess = (top[:, None] - pi) / top[:, None]",
        QUANTITIES,
    ),
    Mutant(
        "failure is open: < 1-delta",
        "theory/quantities.py",
        "return jnp.sum(jnp.where(off >= delta * (1.0 - TIE), mu, 0.0))",
        "return jnp.sum(jnp.where(off > delta * (1.0 + TIE), mu, 0.0))",
        QUANTITIES,
    ),
    Mutant(
        "J_beta adds the KL",
        "theory/quantities.py",
        "return expectation(mu, value - beta * kl(pi, pi_base))",
        "return expectation(mu, value + beta * kl(pi, pi_base))",
        QUANTITIES,
    ),
    Mutant(
        "Eq 10: accepted one draw late at equality",
        "theory/laws.py",
        "wait = jnp.ceil(mu_threshold / jnp.where(value > 0, value, 1.0))",
        "wait = jnp.floor(mu_threshold / jnp.where(value > 0, value, 1.0)) + 1.0",
        LAWS,
    ),
    Mutant(
        "adaptive law: no response of a later draw",
        "theory/laws.py",
        "level_mass = _level_law(groups, first) + groups.mass * later",
        "level_mass = _level_law(groups, first) + groups.mass * waiting",
        LAWS,
    ),
    Mutant(
        "survival: accepted after draw k_j",
        "theory/laws.py",
        'jnp.searchsorted(row, k, side="right")',
        'jnp.searchsorted(row, k, side="left")',
        LAWS,
    ),
    Mutant(
        "tied responses share evenly",
        "theory/laws.py",
        "share = jnp.exp(jnp.where(pi > 0, _log(pi) - _log(whole), -jnp.inf))",
        "share = 1.0 / jax.vmap(lambda r: jnp.bincount(r, length=r.size))("
        "groups.index)[jnp.arange(len(pi))[:, None], groups.index].astype(pi.dtype)",
        LAWS,
    ),
    Mutant(
        "least N without the integer",
        "theory/laws.py",
        "jnp.maximum(1.0, jnp.ceil(jnp.log(delta) / log_miss * (1.0 - TIE)))",
        "jnp.maximum(1.0, jnp.floor(jnp.log(delta) / log_miss * (1.0 - TIE)))",
        LAWS,
    ),
    Mutant(
        "least N: < eps for <= eps",
        "theory/laws.py",
        "jnp.where(harder <= eps * (1.0 + TIE), needed, jnp.inf)",
        "jnp.where(harder < eps * (1.0 - TIE), needed, jnp.inf)",
        LAWS,
    ),
    Mutant(
        "the Hellinger constant is not squared",
        "theory/laws.py",
        "constant = 2.0 / (1.0 - 1.0 / jnp.sqrt(jnp.asarray(2.0))) ** 2",
        "constant = 2.0 / (1.0 - 1.0 / jnp.sqrt(jnp.asarray(2.0)))",
        LAWS,
    ),
    Mutant(
        "mu = log(1/delta) for log(2/delta)",
        "theory/curves.py",
        "adaptive_law(pi, mu_threshold=jnp.log(2.0 / delta))\n",
        "adaptive_law(pi, mu_threshold=jnp.log(1.0 / delta))\n",
        CURVES,
    ),
    Mutant(
        "fixed N spends all of eps twice",
        "theory/curves.py",
        "draws = least_n(pi, mu, eps=eps / 2, delta=delta / 2, gamma=gamma)",
        "draws = least_n(pi, mu, eps=eps, delta=delta / 2, gamma=gamma)",
        CURVES,
    ),
    Mutant(
        "SEC: the sum over i < t includes t",
        "theory/sec.py",
        "seen = jnp.sum(jnp.triu(second, 1), axis=0)",
        "seen = jnp.sum(jnp.triu(second), axis=0)",
        SEC,
    ),
    Mutant(
        "SEC: lambda is added, not a maximum",
        "theory/sec.py",
        "reached = best[:, None] + (first**2)[None] / jnp.maximum(lam, seen)",
        "reached = best[:, None] + (first**2)[None] / (lam + seen)",
        SEC,
    ),
    Mutant(
        "SEC: y and y' share one mean",
        "theory/sec.py",
        "second = (variance + base_variance[None] + shift**2) @ mu",
        "second = (variance + base_variance[None]) @ mu",
        SEC,
    ),
    Mutant(
        "the hard family with M for M-1",
        "theory/families.py",
        "(1 - gamma / ((size - 1) * (1 - gamma)))",
        "(1 - gamma / (size * (1 - gamma)))",
        FAMILIES,
    ),
    Mutant(
        "likelihood ties go to the first member",
        "theory/mle.py",
        "return np.where(tied, loss, -np.inf).max(-1)",
        "return loss[tied.argmax(-1)]",
        MLE,
    ),
    Mutant(
        "exceedance: > for >=",
        "theory/mle.py",
        "reached = worst[:, None] >= thresholds",
        "reached = worst[:, None] > thresholds",
        MLE,
    ),
    Mutant(
        "Lem F.1 without 1/rho",
        "theory/s4_mle.py",
        'return tightest(loss, constant * (np.log(size) - log_f) / int(i["n"]))',
        'return tightest(loss, constant * (np.log(size) + 0 * log_f) / int(i["n"]))',
        LEMMA_F1,
    ),
    Mutant(
        "a violation within the interval counts",
        "theory/claim.py",
        "suspects = low > limit",
        "suspects = high > limit",
        CLAIM,
    ),
    Mutant(
        "exact decimals do not acquit",
        "theory/claim.py",
        "confirmed = lambda k: exact is None or _violated(*exact(instances[k]))",
        "confirmed = lambda k: True",
        CLAIM,
    ),
    Mutant(
        "simulator: the best of N + 1",
        "theory/simulator.py",
        "height = jax.random.exponential(key, x.shape, table.height.dtype) / n",
        "height = jax.random.exponential(key, x.shape, table.height.dtype) / (n + 1)",
        SIMULATOR,
    ),
    Mutant(
        "simulator: N_mu one draw short",
        "theory/simulator.py",
        "jnp.maximum(first, jnp.floor(waited / cut) + 1)",
        "jnp.maximum(first, jnp.floor(waited / cut))",
        SIMULATOR,
    ),
    Mutant(
        "simulator: all n heights race from the start",
        "theory/simulator.py",
        "height = jnp.minimum(z, held) + jnp.maximum(z - held, 0.0) / n",
        "height = z / n",
        SIMULATOR,
    ),
    Mutant(
        "simulator: ties at the rate of one draw",
        "theory/simulator.py",
        "return _respond(table, x, height, n)",
        "return _respond(table, x, height, 1.0)",
        SIMULATOR,
    ),
)

MUTANTS = ALGORITHMS + THEORY + CLAIM_MUTANTS
