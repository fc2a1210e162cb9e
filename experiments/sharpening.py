"""Every algorithm on the embedded model: before and after, beside best-of-N.

    python -m experiments.sharpening --output-dir sharpening-out --jobs 2

Runs `jsharp train` for each task, algorithm and seed (each resumable: so is this), then
reads their eval/ files: accuracy and base log-probability of one sample and of greedy
on held-out prompts, before and after, and what the base reaches with best-of-N at
inference time. 95% intervals are paired bootstraps over prompts of per-prompt means
over seeds. Writes experiments/results/sharpening.{json,md} and the figure.

About 45 minutes on 2 CPU cores.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import sharpening_figure
from jsharp import files, run_directory
from jsharp.commands.stream import Record
from jsharp.provenance import surroundings
from jsharp.selection import best_of_k
from jsharp.stats import Interval, bootstrap, mean_interval

LEVEL = 0.05
RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent / "figures"

# Chosen on seed 100 by the held-out base log-probability alone, which needs no answer.
ALGORITHMS: dict[str, list[str]] = {
    "sft": ["-n", "16", "--learning-rate", "1e-4", "--num-train-epochs", "3"],
    "ada-sft": ["--delta", "0.1", "--learning-rate", "1e-4", "--num-train-epochs", "3"],
    "rlhf": ["-n", "4", "--beta", "0.5", "--learning-rate", "5e-5"],
    "xpo": ["--rounds", "8", "--beta", "0.5", "--learning-rate", "5e-5"],
    "rloo": ["-n", "8", "--beta", "0.05", "--learning-rate", "1e-4"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sharpen the embedded model by every algorithm, with several seeds."""

    output_dir: Path = Path("sharpening-out")
    """Where the runs go."""
    tasks: tuple[str, ...] = ("game24", "arithmetic")
    """Tasks that the embedded model knows."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Which of them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each."""
    limit: int = 512
    """Training prompts."""
    eval_limit: int = 256
    """Held-out prompts."""
    eval_generations: int = 16
    """Samples to each of them; N of the base's best-of-N."""
    jobs: int = 1
    """Runs at a time, each on a core of its own."""
    write: bool = True
    """False: only run, and print."""


def main(args: Sequence[str] | None = None) -> int:
    config = tyro.cli(Config, args=args, prog="python -m experiments.sharpening")
    wanted = list(itertools.product(config.tasks, config.algorithms, config.seeds))
    with concurrent.futures.ThreadPoolExecutor(config.jobs) as pool:
        runs = [
            pool.submit(train, config, i % config.jobs, *one)
            for i, one in enumerate(wanted)
        ]
        for one, done in zip(wanted, runs, strict=True):
            done.result()
            print(*one, "done", flush=True)
    found = {
        "config": dataclasses.asdict(config) | {"output_dir": ""},
        "options": ALGORITHMS,
        **surroundings(),
        "tasks": {task: summarise(config, task) for task in config.tasks},
    }
    print(markdown(found))
    if config.write:
        files.write_json(RESULTS / "sharpening.json", found)
        files.write_text(RESULTS / "sharpening.md", markdown(found))
        sharpening_figure.draw(found, FIGURES / "sharpening")
    return 0


def directory(config: Config, task: str, algorithm: str, seed: int) -> Path:
    return config.output_dir / task / f"{algorithm}-{seed}"


def train(config: Config, core: int, task: str, algorithm: str, seed: int) -> None:
    """One run, in a process and on a core of its own where there are several."""
    words = [sys.executable, "-m", "jsharp", "train", algorithm, "--task", task]
    options = {
        "output-dir": directory(config, task, algorithm, seed),
        "seed": seed,
        "limit": config.limit,
        "eval-limit": config.eval_limit,
        "eval-generations": config.eval_generations,
    }
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(config.output_dir / "compiled")}
    pin = lambda: os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})
    done = subprocess.run(
        words + ALGORITHMS[algorithm],
        env=os.environ | cache,
        preexec_fn=pin if config.jobs > 1 else None,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.returncode}\n{done.stderr}")


def evaluated(path: Path) -> dict[str, np.ndarray]:
    """correct and log_prob [B 1 + N] of an eval file, greedy first."""
    groups: dict[str, list[Record]] = {}
    for line in files.read_lines(path):
        groups.setdefault(line["id"], []).append(line)
    field = lambda name: np.array([[x[name] for x in g] for g in groups.values()])
    return {"correct": field("correct"), "log_prob": field("logprob_base")}


def summarise(config: Config, task: str) -> dict[str, Any]:
    """The rows of a task: the base, and every algorithm."""
    found: dict[str, Any] = {}
    for algorithm in config.algorithms:
        before, after, queries = [], [], []
        for seed in config.seeds:
            run = directory(config, task, algorithm, seed)
            steps = sorted(int(p.stem) for p in (run / "eval").glob("*.jsonl"))
            before.append(evaluated(run / "eval" / f"{steps[0]}.jsonl"))
            after.append(evaluated(run / "eval" / f"{steps[-1]}.jsonl"))
            lines = run_directory.read(run)
            queries.append(sum(x.get("sharpen/queries", 0) for x in lines))
        if "base" not in found:
            found["base"] = base_row(before)
        found[algorithm] = row(before, after) | {"queries": float(np.mean(queries))}
    return found


def per_prompt(runs: list[dict[str, np.ndarray]], name: str) -> dict[str, np.ndarray]:
    """Means over seeds of one sample and of greedy, [B] each."""
    values = np.mean([run[name] for run in runs], axis=0)
    return {"sample": values[:, 1:].mean(1), "greedy": values[:, 0]}


def interval(values: np.ndarray) -> Interval:
    return mean_interval(np.asarray(values, float), level=LEVEL, seed=0)


def base_row(runs: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """One sample, greedy, and the best of N = 2, 4, ... by log-probability."""
    found = {
        f"{how} {name}": interval(values)
        for name in ("correct", "log_prob")
        for how, values in per_prompt(runs, name).items()
    }
    n = runs[0]["correct"].shape[1] - 1
    sizes = [k for k in (2, 4, 8, 16, 32, 64) if k <= n]
    for k, name in itertools.product(sizes, ("correct", "log_prob")):
        score = [run["log_prob"][:, 1:] for run in runs]
        value = [run[name][:, 1:] for run in runs]
        best = [best_of_k(s, v, k) for s, v in zip(score, value, strict=True)]
        found[f"best of {k} {name}"] = interval(np.mean(best, axis=0))
    return found


def row(before: list[dict[str, np.ndarray]], after: list[dict[str, np.ndarray]]):
    """After, and after minus before on the same prompts with the same uniforms."""
    found: dict[str, Any] = {}
    for name in ("correct", "log_prob"):
        old, new = per_prompt(before, name), per_prompt(after, name)
        for how in ("sample", "greedy"):
            found[f"{how} {name}"] = interval(new[how])
            found[f"{how} {name} gain"] = interval(new[how] - old[how])
        found[f"{name} by seed"] = [float(run[name][:, 1:].mean()) for run in after]
    old = per_prompt(before, "correct")["greedy"]
    new = per_prompt(after, "correct")["sample"]
    pairs = np.stack([old, new], 1)
    lift = lambda v: 100 * (v[..., 1].mean(1) / v[..., 0].mean(1) - 1)
    found["lift"] = bootstrap(pairs, lift, level=LEVEL, seed=0)
    return found


def markdown(found: dict[str, Any]) -> str:
    """The tables, as text."""
    config = found["config"]
    text = [
        "# Sharpening the embedded model",
        "",
        f"{len(config['seeds'])} seeds, {config['limit']} training prompts, "
        f"{config['eval_limit']} held-out prompts with {config['eval_generations']} "
        "samples each, 95% paired bootstrap intervals over prompts. Commit "
        f"{found['commit']}, {found['device']}. Options: "
        + "; ".join(f"{k}: `{' '.join(v)}`" for k, v in found["options"].items())
        + ".",
    ]
    for task, rows in found["tasks"].items():
        text += ["", f"## {task}", "", *_table(rows)]
    return "\n".join(text) + "\n"


def _table(rows: dict[str, Any]) -> list[str]:
    percent = lambda x: f"{100 * x[0]:.1f} [{100 * x[1]:.1f}, {100 * x[2]:.1f}]"
    nats = lambda x: f"{x[0]:.2f} [{x[1]:.2f}, {x[2]:.2f}]"
    names = ["one sample, %", "gain", "greedy, %", "gain", "log pi_base", "gain"]
    lines = [
        "| policy | " + " | ".join(names) + " | queries |",
        "|---" * (len(names) + 2) + "|",
    ]
    base = rows["base"]
    plain = [percent(base["sample correct"]), "", percent(base["greedy correct"]), ""]
    lines.append(
        f"| base | {' | '.join([*plain, nats(base['sample log_prob'])])} | | |"
    )
    for name in base:
        if name.startswith("best of") and name.endswith("correct"):
            best = name.removesuffix(" correct")
            cells = [percent(base[name]), "", "", "", nats(base[f"{best} log_prob"])]
            lines.append(f"| base, {best} | {' | '.join(cells)} | | |")
    for name, cell in rows.items():
        if name == "base":
            continue
        cells = [
            *(percent(cell["sample correct"]), percent(cell["sample correct gain"])),
            *(percent(cell["greedy correct"]), percent(cell["greedy correct gain"])),
            *(nats(cell["sample log_prob"]), nats(cell["sample log_prob gain"])),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {cell['queries']:,.0f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
