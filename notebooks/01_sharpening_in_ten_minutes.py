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
# # Sharpening in ten minutes
#
# A language model is often a better judge than a speaker: a response that it would
# rarely *say* may be one that it finds *likely*. Sharpening (Huang et al., ICLR 2025,
# arXiv 2412.01951) is self-improvement that uses nothing but this: no answers, no
# teacher, no other model.
#
# In the paper's words, for prompts $x \sim \mu$ and a base policy
# $\pi_{\text{base}}(y \mid x)$:
#
# * a **self-reward** is a function of the base policy alone; here it is the
#   log-probability of the whole response, $r_{\text{self}}(y \mid x) = \log
#   \pi_{\text{base}}(y \mid x)$ (section 2);
# * $Y^*(x)$ is the set of its maximisers, $y^*(x)$ when there is one;
# * a policy $\hat\pi$ is **$(\varepsilon, \delta)$-sharpened** (Def 3.1) when
#   $P_{x \sim \mu}\big[\hat\pi(Y^*(x) \mid x) \ge 1 - \delta\big] \ge 1 - \varepsilon$;
# * what the algorithm may do is to **sample and evaluate** (Def 3.2): a query draws a
#   response and shows its likelihood.
#
# This page does it four times: coverage and best-of-N on a table where everything is
# exact, SFT-Sharpening on that table, and the same function on a transformer.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from experiments.generate import Model
from experiments.style import PALETTE, STYLE, THEORY
from jsharp import loop, tasks, update
from jsharp.evaluate import paired_gain
from jsharp.lm import embedded
from jsharp.policy import freeze, select
from jsharp.selection import best_of_n
from jsharp.sft import sft
from jsharp.stats import clopper_pearson
from jsharp.tabular import prompts_of, table
from theory import laws, quantities

FAST = "JSHARP_FAST" in os.environ  # a small version of everything, for CI
plt.rcParams.update(STYLE)

# %% [markdown]
# ## 1. A toy policy, and its coverage
#
# Three prompts, eight responses, a row for each prompt. The likeliest response of each
# row is $y^*(x)$, in colour below. **Coverage** (Eq 6) says how well the base policy
# knows what it likes best:
#
# $$ C_{\text{cov}} = E_{x \sim \mu}\left[ \frac{1}{\pi_{\text{base}}(Y^*(x) \mid x)}
# \right]. $$

# %%
pi_base = np.array(
    [
        [0.60, 0.10, 0.08, 0.07, 0.05, 0.05, 0.03, 0.02],
        [0.15, 0.10, 0.30, 0.12, 0.11, 0.10, 0.07, 0.05],
        [0.13, 0.13, 0.12, 0.12, 0.11, 0.15, 0.12, 0.12],
    ]
)
mu = np.full(3, 1 / 3)
with jax.enable_x64(True):
    best = np.asarray(quantities.maximisers(jnp.asarray(pi_base)))
    c_cov = float(quantities.coverage(jnp.asarray(pi_base), jnp.asarray(mu)))
    margin = float(quantities.margin(jnp.asarray(pi_base), jnp.asarray(mu)))
p_star = pi_base[best]
print("pi_base(y*|x) =", p_star, "  1/pi_base(y*|x) =", (1 / p_star).round(2))
print(f"C_cov = {c_cov:.3f}   margin (Asm 4.2) = {margin:.3f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
for x, axis in enumerate(axes):
    axis.bar(range(8), pi_base[x], color=np.where(best[x], PALETTE[1], PALETTE[5]))
    axis.set_title(f"prompt {x}: 1/pi(y*|x) = {1 / p_star[x]:.1f}", fontsize=10)
    axis.set_xlabel("response y")
axes[0].set_ylabel("pi_base(y|x)")
plt.show()

# %% [markdown]
# ## 2. Best-of-N: sharpening at inference
#
# Draw $y_1, \dots, y_N \sim \pi_{\text{base}}(\cdot \mid x)$ and return the one of
# largest self-reward. It returns $y^*(x)$ exactly when it drew it,
#
# $$ \pi^{\text{BoN}}_N(y^* \mid x) = 1 - \big(1 - \pi_{\text{base}}(y^* \mid x)\big)^N,
# $$
#
# so about $1/\pi_{\text{base}}(y^* \mid x)$ draws are needed: this is why coverage
# rules the cost (Prop C.1: $N \ge \log(1/\rho)/\pi_{\text{base}}(y^* \mid x)$ draws
# fail with probability at most $\rho$). Lines: the exact law,
# `theory.laws.best_of_n_law`. Dots: `jsharp.selection.best_of_n` on the first N of 32
# draws of the policy, with 95% Clopper-Pearson intervals.

# %%
policy = table(3, 8)
params = jnp.log(jnp.asarray(pi_base, jnp.float32))
base = freeze(policy, params)
repeats = 200 if FAST else 2000
sizes = [1, 2, 4, 8, 16, 32]
prompts = prompts_of(jnp.repeat(jnp.arange(3), repeats))
drawn = base.sample(jax.random.key(0), prompts, 32)
log_prob = base.log_prob(prompts, drawn)
y_star = np.repeat(best.argmax(1), repeats)

hits = []
for n in sizes:
    kept = select(drawn, best_of_n(log_prob[:, :n]))
    right = np.asarray(kept.tokens[:, 0, 0]) == y_star
    hits.append(right.reshape(3, repeats).sum(1))

with jax.enable_x64(True):
    pi, every = jnp.asarray(pi_base), jnp.arange(1.0, 33.0)
    of_n = jax.jit(jax.vmap(lambda n: laws.best_of_n_law(pi, pi, n=n)))
    exact = np.asarray(of_n(every))[:, best]

# %%
figure, axis = plt.subplots(figsize=(6, 3.6))
for x in range(3):
    axis.plot(every, exact[:, x], color=PALETTE[x], lw=1.2)
    found = np.array([clopper_pearson(int(h[x]), repeats, level=0.05) for h in hits])
    error = np.abs(found[:, 1:] - found[:, :1]).T
    axis.errorbar(
        sizes, found[:, 0], error, fmt="o", ms=4, color=PALETTE[x], label=f"prompt {x}"
    )
    axis.axvline(1 / p_star[x], color=PALETTE[x], ls=":", lw=1)
axis.set_xscale("log", base=2)
axis.set_xlabel("N (dotted: 1/pi_base(y*|x))")
axis.set_ylabel("P[best of N is y*]")
axis.legend()
plt.show()

# %% [markdown]
# ## 3. SFT-Sharpening: best-of-N put into the weights
#
# Best-of-N pays $N$ draws for every answer. SFT-Sharpening (section 2.1) pays once, in
# training:
#
# $$ \hat\pi = \arg\max_{\pi \in \Pi} \sum_{i=1}^n \log \pi(y_i^{\text{BoN}} \mid x_i).
# $$
#
# [`jsharp/sft.py`](../jsharp/sft.py) is that line: one step draws, scores, selects and
# improves the likelihood. On a table maximum likelihood is a frequency, so $\hat\pi$
# should come close to the exact law $\pi^{\text{BoN}}_N$, which on the hardest prompt
# is not yet all on $y^*$.

# %%
N, steps, batch = 16, (100 if FAST else 600), 48
algorithm = sft(policy, base, update.gradient(optax.adam(0.05)), n=N)
rounds = jax.vmap(prompts_of)(jnp.tile(jnp.arange(3), (steps, batch // 3)))
train = jax.jit(lambda key: loop.scan(key, algorithm, params, rounds))
state, info = train(jax.random.key(1))
pihat = np.asarray(jax.nn.softmax(state.params))

with jax.enable_x64(True):
    law = np.asarray(laws.best_of_n_law(pi, pi, n=N))
    sharp = [
        float(quantities.sharpened_fraction(jnp.asarray(p), pi, mu, delta=0.2))
        for p in (pi_base, pihat.astype(float))
    ]
print(f"n = {steps * batch} prompts, N = {N}, m = n N = {int(info.queries.sum())}")
for name, p in [("pi_base", pi_base), (f"pi^BoN_{N}", law), ("pihat", pihat)]:
    print(f"{name:10} y*: {p[best].round(3)}")
print(f"P_mu[pi(y*|x) >= 1 - 0.2]: base {sharp[0]:.2f}, pihat {sharp[1]:.2f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
for x, axis in enumerate(axes):
    axis.bar(np.arange(8) - 0.2, pi_base[x], 0.4, color=PALETTE[5], label="pi_base")
    axis.bar(np.arange(8) + 0.2, pihat[x], 0.4, color=PALETTE[1], label="pihat")
    axis.plot(range(8), law[x], "_", color=THEORY, ms=14, label=f"pi^BoN_{N}, exact")
    axis.set_title(f"prompt {x}", fontsize=10)
    axis.set_xlabel("response y")
axes[0].set_ylabel("probability")
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 4. The same function on a transformer
#
# `sft` does not know which kind of policy it is given. The model that ships inside
# jsharp (1.2M parameters) was trained to write sums of four numbers step by step; it
# samples right answers about two times in three. One step now draws $N$ responses to
# each training prompt from the base and follows the gradient on the likeliest ones.
# The right answer is never shown to it.

# %%
task = tasks.load("arithmetic")
model = Model.load(embedded.directory(), horizon=40)
size, steps, n = (8, 2, 4) if FAST else (32, 40, 8)
held_out = model.prompts(task, task.held_out[: 8 if FAST else 128])
batches = [
    model.prompts(task, task.train[start : start + size])
    for start in range(0, size * steps, size)
]
algorithm = sft(
    model.policy,
    freeze(model.policy, model.params),
    update.gradient(optax.adam(2e-4, b2=0.99)),
    n=n,
)
first = algorithm.init(model.params, batches[0])
made = list(loop.iterate(jax.random.key(2), algorithm, first, batches))
state = made[-1][1]
log = np.array([(i.mean_log_prob, i.selected_log_prob) for _, _, i in made], float)

found = {}
for name, weights in [("pi_base", model.params), ("pihat", state.params)]:
    # The same uniforms for both policies: their difference is a paired one.
    drawn = model.policy.sample(jax.random.key(3), weights, held_out, n)
    found[name] = np.asarray(model.policy.log_prob(model.params, held_out, drawn))
gain = paired_gain(found["pi_base"].mean(1), found["pihat"].mean(1), level=0.05, seed=0)
print(f"n = {size * steps} prompts, N = {n}: m = {size * steps * n} queries")
for name, log_prob in found.items():
    print(f"held-out log pi_base of a draw of {name:7}: {log_prob.mean():.3f}")
print("gain {:.3f}, 95% interval [{:.3f}, {:.3f}] over prompts".format(*gain))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3))
axes[0].plot(log[:, 0], "o-", ms=3, color=PALETTE[5], label="all N draws")
axes[0].plot(log[:, 1], "o-", ms=3, color=PALETTE[1], label="the selected")
axes[0].set_xlabel("step")
axes[0].set_ylabel("log pi_base, nats, mean of batch")
axes[0].set_title("what it learns from", fontsize=10)
axes[0].legend()
for (name, log_prob), colour in zip(found.items(), PALETTE[:2], strict=True):
    axes[1].ecdf(log_prob.ravel(), color=colour, label=f"draws of {name}")
axes[1].set_xlim(-12, 0)
axes[1].set_xlabel("log pi_base(y|x), nats")
axes[1].set_ylabel("share of held-out draws below")
axes[1].set_title("what it says afterwards", fontsize=10)
axes[1].legend()
plt.show()

# %% [markdown]
# The curve of $\hat\pi$ lies to the right: what the model says is now likelier under
# the model that it was. Whether likelier is also *more often right* is a question about
# the base model, not about the algorithm; notebook 03 measures it, notebook 02 says
# what can be proved, and notebook 04 finds $y^*$ of a transformer exactly.
