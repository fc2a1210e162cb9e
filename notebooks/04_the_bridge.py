# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The bridge: the theorems' quantities of a transformer
#
# The theory speaks of $y^*(x)$, $\pi(y^* \mid x)$ and $C_{\text{cov}}$. For a language
# model nobody can list all responses, but $y^*$ can be found without: the probability
# of a prefix bounds that of every response that begins with it, so best-first branch
# and bound ends with the likeliest response and a certificate
# ([`jsharp/lm/mode.py`](../jsharp/lm/mode.py)). With $y^*$ in hand, what the theorems
# predict can be measured on a real model, here the one inside jsharp (1.2M parameters,
# game of 24).

# %%
import os
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from experiments.generate import Model
from experiments.reproduce import registry, store
from experiments.style import PALETTE, STYLE, THEORY
from jsharp import loop, tasks, update
from jsharp.lm import embedded
from jsharp.lm.mode import maximisers, mode, sharpened_fraction
from jsharp.policy import freeze
from jsharp.sft import sft
from jsharp.stats import clopper_pearson, mean_interval

FAST = "JSHARP_FAST" in os.environ  # a small version of everything, for CI
plt.rcParams.update(STYLE)
# %matplotlib inline

# %% [markdown]
# ## 1. Exact modes
#
# `exact` says that the search is complete: every other response is less likely.
# $1/\pi(y^* \mid x)$ averaged over the prompts is $C_{\text{cov}}$ (Eq 6). The prompts
# are some that the base was trained on, where it is surer than on new ones.

# %%
task = tasks.load("game24")
model = Model.load(embedded.directory(), horizon=40)
problems = task.train[: 8 if FAST else 32]
modes = [
    mode(
        model.params,
        model.tokenizer.encode(task.prompt(problem)),
        4096,
        config=model.config,
        horizon=40,
        end=model.end,
        pad=model.pad,
    )
    for problem in problems
]
p_star = np.exp([found.log_prob for found in modes])
for problem, found in list(zip(problems, modes, strict=True))[:6]:
    text = model.tokenizer.decode(found.tokens[: found.length - 1].tolist())
    print(
        f"{task.prompt(problem):16} {text:44} pi(y*|x) = {np.exp(found.log_prob):.3f}, "
        f"{'right' if task.correct(problem, text) else 'wrong'}"
    )
exact = [found.exact for found in modes]
spread = mean_interval(1 / p_star, level=0.05, seed=0)
print(
    f"{sum(exact)} of {len(modes)} exact, {sum(f.expansions for f in modes)} prefixes"
)
print("C_cov = {:.2f}, 95% interval over prompts [{:.2f}, {:.2f}]".format(*spread))

# %%
figure, axis = plt.subplots(figsize=(6, 3))
axis.ecdf(1 / p_star, color=PALETTE[0])
axis.axvline(spread.estimate, color=THEORY, ls=":", label="C_cov, their mean")
axis.set_xscale("log")
axis.set_xticks([2, 5, 10, 20], ["2", "5", "10", "20"])
axis.minorticks_off()
axis.set_xlabel("1/pi_base(y*|x)")
axis.set_ylabel("share of prompts below")
axis.legend()
plt.show()

# %% [markdown]
# ## 2. Best-of-N finds the mode as often as it should
#
# $y^*$ is the best of $N$ draws exactly when it is among them, with probability
# $1 - (1 - \pi(y^* \mid x))^N$. If the sampler or the scorer were off, the draws would
# not follow this line, whose only input is the certified $\pi(y^* \mid x)$. Each dot:
# how many disjoint groups of $N$ draws have $y^*$ as their best, over all prompts, with
# a 95% Clopper-Pearson interval (for these prompts it is, if anything, too wide). All
# dots share the same draws.

# %%
draws = 8 if FAST else 128
prompts = model.prompts(task, problems)
drawn = model.policy.sample(jax.random.key(0), model.params, prompts, draws)
log_prob = np.asarray(model.policy.log_prob(model.params, prompts, drawn))
tokens = np.asarray(drawn.tokens)
live = np.arange(tokens.shape[-1]) < np.asarray(drawn.length)[..., None]
y_star = np.stack([found.tokens for found in modes])[:, None]
length = np.array([found.length for found in modes])[:, None]
is_mode = ((tokens == y_star) | ~live).all(-1) & (np.asarray(drawn.length) == length)

sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= draws]
hits = []
for n in sizes:
    groups = log_prob.reshape(len(modes), -1, n).argmax(-1)[..., None]
    best = np.take_along_axis(is_mode.reshape(len(modes), -1, n), groups, -1)
    hits.append(clopper_pearson(int(best.sum()), best.size, level=0.05))
theory = [(1 - (1 - p_star) ** n).mean() for n in sizes]
for n, hit, line in zip(sizes, hits, theory, strict=True):
    print("N = {:2}: {:.3f} [{:.3f}, {:.3f}], theory {:.3f}".format(n, *hit, line))

# %%
every = np.geomspace(1, sizes[-1], 100)
figure, axis = plt.subplots(figsize=(6, 3.4))
axis.plot(
    every,
    [(1 - (1 - p_star) ** n).mean() for n in every],
    color=THEORY,
    label="mean of 1 - (1 - pi(y*|x))^N",
)
found = np.array(hits)
error = np.abs(found[:, 1:] - found[:, :1]).T
axis.errorbar(
    sizes, found[:, 0], error, fmt="o", ms=4, color=PALETTE[1], label="best of N is y*"
)
axis.set_xscale("log", base=2)
axis.set_xlabel("N")
axis.set_ylabel("probability, mean over prompts")
axis.legend()
plt.show()

# %% [markdown]
# ## 3. SFT-Sharpening moves mass to the mode
#
# A short SFT-Sharpening on these very prompts. Def 3.1 asks for $\hat\pi(y^* \mid x)
# \ge 1 - \delta$ on all but $\varepsilon$ of them: $\hat\pi(y^* \mid x)$ is the
# teacher-forced probability of the *base's* mode under the new weights. The law of
# the data, $\pi^{\text{BoN}}_N(y^* \mid x)$, beside it: what a perfect fit would have.

# %%
steps, n = (2, 8) if FAST else (48, 8)
algorithm = sft(
    model.policy,
    freeze(model.policy, model.params),
    update.gradient(optax.adam(3e-4, b2=0.99)),
    n=n,
)
first = algorithm.init(model.params, prompts)
rounds = [prompts] * steps
*_, (_, state, _) = loop.iterate(jax.random.key(1), algorithm, first, rounds)
response, member = maximisers(modes)
mass = {}
for name, weights in [("pi_base", model.params), ("pihat", state.params)]:
    found = np.asarray(model.policy.log_prob(weights, prompts, response))
    mass[name] = np.where(member, np.exp(found), 0.0).sum(-1)
    low, high = sharpened_fraction(found, member, exact, delta=0.5)
    print(f"{name:8} P[pi(y*|x) >= 1/2] is in [{low:.2f}, {high:.2f}], ", end="")
    print(f"mean pi(y*|x) = {mass[name].mean():.3f}")
print(
    f"mean pi^BoN_{n}(y*|x), the law of the data = {(1 - (1 - p_star) ** n).mean():.3f}"
)

# %%
grid = np.linspace(0.01, max(p_star) * 1.1, 100)
figure, axis = plt.subplots(figsize=(6, 3.8))
axis.plot(grid, grid, color=THEORY, ls=":", label="unchanged")
axis.plot(grid, 1 - (1 - grid) ** n, color=THEORY, label=f"pi^BoN_{n}(y*|x)")
axis.plot(mass["pi_base"], mass["pihat"], "o", ms=4, color=PALETTE[1], label="prompts")
axis.set_xlabel("pi_base(y*|x)")
axis.set_ylabel("pihat(y*|x) after SFT-Sharpening")
axis.set_ylim(0, 1.05)
axis.legend()
plt.show()

# %% [markdown]
# A dot may lie above the line of the data, or below: one network answers all prompts,
# so what one prompt teaches carries over to others.
#
# ## 4. The larger runs
#
# `jsharp reproduce` measures the same on more models and prompts. Where its results are
# committed they are read here: each statement, beside whether the numbers agree.

# %%
verdict = {True: "agrees", False: "DISAGREES", None: "cannot tell"}
for each in registry.EXPERIMENTS:
    if each.name.startswith("bridge_"):
        content = store.read(Path("../experiments"), each.name)
        print(f"{each.name}: {each.title}" + ("" if content else " (no results yet)"))
        for check in each.judge(content["found"]) if content else ():
            print(f"  {verdict[check.agrees]}: {check.statement}")
