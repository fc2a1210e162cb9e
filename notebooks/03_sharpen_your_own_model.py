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
# # Sharpen your own model
#
# The whole way, with the commands that you would type: a file of prompts, `jsharp
# diagnose` (is it worth it?), `jsharp train`, `jsharp evaluate --compare`. Set `MODEL`
# to the directory of a checkpoint (Llama, Mistral, Qwen2, Qwen3, Phi-3, in the Hugging
# Face layout) and write your own prompts; `"embedded"` is the 1.2M-parameter model
# inside jsharp, which does sums.

# %%
import json
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments.style import PALETTE, STYLE
from jsharp import cli, files, tasks

MODEL = "embedded"  # or the path of a checkpoint
FAST = "JSHARP_FAST" in os.environ  # a small version of everything, for CI
TOKENS = 40  # of a response, at most
N, BATCH = (4, 16) if FAST else (16, 64)  # samples of a prompt; drawn at once
MODEL = MODEL if MODEL == "embedded" else str(Path(MODEL).resolve())
plt.rcParams.update(STYLE)

# %% [markdown]
# ## 1. Prompts
#
# A line of the file is `{"prompt": ..., "answer": ...}`. The answer is optional: it is
# never a reward and never trained on, and only marks responses when they are counted
# (`--grader`: here the last number of the response must be the answer). Prompts to
# train on and prompts to evaluate on are two files.

# %%
os.chdir(tempfile.mkdtemp())  # everything below goes there
task = tasks.load("arithmetic")
chosen = {
    "train.jsonl": task.train[: 8 if FAST else 512],
    "held_out.jsonl": task.held_out[: 8 if FAST else 128],
}
for name, problems in chosen.items():
    files.write_lines(
        Path(name),
        [{"prompt": task.prompt(p), "answer": str(sum(p))} for p in problems],
    )
    print(name, len(problems), "lines, the first:", Path(name).open().readline())

# %% [markdown]
# ## 2. Diagnose: what can be expected, before anything is trained
#
# `jsharp diagnose MODEL PROMPTS` draws a pilot and searches the exact modes. What to
# look at: **C_cov** (a hard prompt needs about $1/\pi(y^*|x)$ draws), whether a right
# response is likelier than a wrong one (**AUC** of log-probability above 0.5), whether
# **length** decides, and the predicted accuracy of the best of N.

# %%
few = 8 if FAST else 48
words = f"""diagnose {MODEL} train.jsonl --grader last_number --limit {few}
    --max-completion-length {TOKENS} -n {N} --output-dir diagnosis --batch-size {BATCH}
    --mode-budget {0 if FAST else 256}"""
status = cli.main(shlex.split(words))
print("exit status", status)

# %%
# Figures are shown here again: the command has drawn its profile.png without a screen.
# %matplotlib inline
diagnosis = json.loads(Path("diagnosis/diagnosis.json").read_text())
print("in diagnosis.json:", ", ".join(diagnosis))

# %% [markdown]
# ## 3. Train
#
# SFT-Sharpening with the defaults: N responses to each prompt from the base, the
# likeliest kept, its likelihood raised. `--lora-r 16` would train adapters instead,
# `--preset paper` takes the paper's options. Killed at any instant, the same command
# goes on where it was.

# %%
words = f"""train sft --model-name-or-path {MODEL} --prompts train.jsonl
    --grader last_number --num-generations {N} --max-completion-length {TOKENS}
    --eval-limit 0 --sample-batch-size {BATCH}
    --batch-size {8 if FAST else 32} --num-train-epochs {1 if FAST else 3}
    --output-dir run"""
status = cli.main(shlex.split(words))
print("exit status", status)

# %% [markdown]
# `metrics.jsonl` has a line for each logged step, under TRL's names where they exist:
#
# * `loss`: $-\log \pi(y^{\text{BoN}} \mid x)$, which should fall;
# * `grad_norm`, `learning_rate`, `epoch`, `num_tokens`: as everywhere;
# * `sharpen/...`: what this algorithm is about, such as the log-probability under the
#   base of all draws and of those that were kept, and the queries that were spent.

# %%
log = list(files.read_lines(Path("run/metrics.jsonl")))
for name, value in sorted({k: v for line in log for k, v in line.items()}.items()):
    print(
        f"{name:40} {value:.6g}" if isinstance(value, float) else f"{name:40} {value}"
    )

# %%
steps = [(line["step"], line["loss"]) for line in log if "loss" in line]
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(*np.array(steps).T, "o-", ms=3, color=PALETTE[0])
axis.set_xlabel("step")
axis.set_ylabel("loss, nats per response")
plt.show()

# %% [markdown]
# ## 4. Evaluate, and compare
#
# Both models answer the same held-out prompts, with the same random numbers. The
# self-reward of both is the *base* model's (`--base-model-name-or-path`): the question
# is what the old model thinks of the new one's responses.

# %%
for name, checkpoint in [("before", MODEL), ("after", "run/hf")]:
    words = f"""evaluate --model-name-or-path {checkpoint} --output-dir {name}
        --base-model-name-or-path {MODEL} --prompts held_out.jsonl
        --grader last_number --max-completion-length {TOKENS} -n {N}
        --batch-size {BATCH}"""
    print(name, "exit status", cli.main(shlex.split(words)))
status = cli.main("evaluate --compare before after --output-dir compared".split())

# %% [markdown]
# Each row is a difference, after minus before, on the same prompts; an interval that
# holds 0 says that these prompts cannot tell. "one sample" is what a user sees at
# temperature 1, and what sharpening is about. "greedy" was close to the mode before, so
# there is little to gain and something to lose. "best of N" is what sampling more would
# still give: sharpening brings one sample towards it, and does not raise it.

# %%
rows = json.loads(Path("compared/comparison.json").read_text())["rows"]
last = max(row["k"] for row in rows)
some = [("greedy", 1), ("sample", 1), ("log-probability", last), ("majority", last)]
changed = [next(r for r in rows if (r["by"], r["k"]) == pick) for pick in some]
gains = 100 * np.array([row["accuracy"] for row in changed])
figure, axis = plt.subplots(figsize=(6, 2.8))
error = np.abs(gains[:, 1:] - gains[:, :1]).T
axis.errorbar(gains[:, 0], range(4), xerr=error, fmt="o", color=PALETTE[1], capsize=3)
axis.axvline(0, color="black", lw=0.8)
axis.set_yticks(range(4), ["greedy", "one sample", f"best of {last}", "majority"])
axis.invert_yaxis()
axis.set_xlabel("held-out accuracy, after minus before, percentage points")
plt.show()

# %% [markdown]
# The sharpened model is the directory `run/hf`, in the layout that it came in. `jsharp
# diagnose --check diagnosis/diagnosis.json after` holds the prediction against the
# outcome; for other algorithms put `ada-sft`, `rlhf`, `xpo` or `rloo` in the place of
# `sft`.
