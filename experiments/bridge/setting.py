"""What the bridge measures on: one law of prompts, its modes, policies trained on it.

The embedded model was pretrained on the `train` problems of its tasks, so these and the
held-out ones are prompts of two laws. The theorems have one mu: here it is uniform over
the `train` problems. They are in the order of a hash, so that a policy is sharpened on
the first n and judged on the last ones, which it has not seen.

Every policy is judged by pihat(Y*(x)|x), the mass on the exact modes of its base, which
`jsharp mode` proves: Def 3.1 as it stands, without sampling.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from experiments.reproduce.work import OUTPUT_FILE, Run
from jsharp import files, run_directory, tasks
from jsharp.commands.results import RESPONSES, gather
from jsharp.commands.sharpened import MASSES
from jsharp.commands.stream import Record

MODEL = "embedded"
TASKS = ("arithmetic", "game24")
LENGTH = 40  # tokens of a response, at most
BUDGET = 4096  # prefixes that the search for a mode may expand
STEPS, BATCH = 96, 32  # of SFT, whatever n: runs differ by their data alone
LONGER = 4  # times the steps, to see what they leave unfitted
_ANSWERS = {"arithmetic": lambda problem: str(sum(problem)), "game24": lambda _: "24"}
_GRADERS = {"arithmetic": "last_number"}  # one number does not mark a Game of 24


def judged(config: Config) -> int:
    """Prompts that policies are judged on."""
    return 6 if config.quick else 128


def draws(config: Config) -> int:
    """Responses of the base to each of them."""
    return 8 if config.quick else 64


def inputs(config: Config) -> None:
    """Write the prompt files, the same bytes each time, where they are not yet."""
    for task in TASKS:
        known = tasks.load(task)
        cut = len(known.train) - judged(config)
        parts = {"train": known.train[:cut], "judged": known.train[cut:]}
        for part, problems in parts.items():
            lines = [
                {
                    "id": f"{task}-{part}-{i}",
                    "prompt": known.prompt(problem),
                    "answer": _ANSWERS[task](problem),
                }
                for i, problem in enumerate(problems)
            ]
            path = config.output_dir / prompts(config, task, part)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            if not path.exists() or path.read_text() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_text(path, text)


def _root(config: Config) -> str:
    return "bridge-quick" if config.quick else "bridge"


def prompts(config: Config, task: str, part: str) -> str:
    """The file of prompts, train or judged, relative to OUTPUT_DIR."""
    return f"{_root(config)}/prompts/{task}-{part}.jsonl"


def mode(config: Config, task: str) -> Run:
    """`jsharp mode`: y*(x) of every judged prompt, proven."""
    words = ("mode", prompts(config, task, "judged"), "--model-name-or-path", MODEL)
    sizes = ("--max-completion-length", str(LENGTH), "--budget", str(BUDGET))
    return Run(f"{_root(config)}/mode/{task}", (*words, *sizes))


def base(config: Config, task: str) -> Run:
    """`jsharp evaluate` of the base: its responses to the judged prompts."""
    words = _evaluate(config, task, MODEL, draws(config))
    return Run(f"{_root(config)}/base/{task}", words, (mode(config, task),))


def training(
    config: Config, task: str, algorithm: str, options: Mapping[str, object], seed: int
) -> Run:
    """`jsharp train ALGORITHM` from the base, on the first --limit prompts."""
    given = {
        "model-name-or-path": MODEL,
        "prompts": prompts(config, task, "train"),
        **({"grader": _GRADERS[task]} if task in _GRADERS else {}),
        **options,
        "seed": seed,
        "max-completion-length": LENGTH,
        "eval-limit": 0,
        "sample-batch-size": 256,
        "save-steps": 1000,
    }
    words = [word for k, v in given.items() for word in (f"--{k}", str(v))]
    said = "-".join(f"{k}{v}" for k, v in _short(options).items())
    name = f"{_root(config)}/train/{task}/{algorithm}-{said}-seed{seed}"
    return Run(name, ("train", algorithm, *words))


def _short(options: Mapping[str, object]) -> dict[str, object]:
    """What tells the runs of an algorithm apart."""
    names = {"limit": "n", "num-generations": "N", "delta": "delta"}
    return {names[k]: v for k, v in options.items() if k in names}


def sft(
    config: Config, task: str, n: int, size: int, seed: int, *, longer: bool = False
) -> Run:
    """SFT-Sharpening on n prompts with N = size, all weights."""
    options = {"limit": n, "num-generations": size, **_fit(config, n, longer)}
    run = training(config, task, "sft", options, seed)
    name = run.name.replace("/sft-", "/sft-longer-", 1)
    return run._replace(name=name) if longer else run


def ada_sft(config: Config, task: str, n: int, delta: float, seed: int) -> Run:
    """Its adaptive form (App D) on n prompts, mu = ln(2/delta)."""
    options = {"limit": n, "delta": delta, "max-generations": 128, **_fit(config, n)}
    return training(config, task, "ada-sft", options, seed)


def _fit(config: Config, n: int, longer: bool = False) -> dict[str, object]:
    steps = (2 if config.quick else STEPS) * (LONGER if longer else 1)
    epochs = max(1, round(steps / -(-n // BATCH)))
    return {"num-train-epochs": epochs, "batch-size": BATCH, "learning-rate": "1e-4"}


def evaluation(config: Config, task: str, trained: Run) -> Run:
    """`jsharp evaluate` of a trained policy on the judged prompts, and its masses."""
    name = trained.name.replace("/train/", "/trained/", 1)
    words = _evaluate(config, task, f"{trained.name}/hf", 4)
    words += ("--base-model-name-or-path", MODEL)
    return Run(name, words, (trained, mode(config, task)))


def _evaluate(
    config: Config, task: str, model: str, generations: int
) -> tuple[str, ...]:
    options = {
        "model-name-or-path": model,
        "prompts": prompts(config, task, "judged"),
        **({"grader": _GRADERS[task]} if task in _GRADERS else {}),
        "modes": f"{mode(config, task).name}/{OUTPUT_FILE}",
        "num-generations": generations,
        "max-completion-length": LENGTH,
        "batch-size": 256,
    }
    words = (word for k, v in options.items() for word in (f"--{k}", str(v)))
    return ("evaluate", *words)


class Judged(NamedTuple):
    """A policy on the prompts whose mode is exact, in their order."""

    mass: Float[np.ndarray, " B"]  # pihat(Y*(x)|x)
    base_mass: Float[np.ndarray, " B"]  # pi_base(Y*(x)|x)
    accuracy: Float[np.ndarray, " B"] | None  # of one sample; None without answers
    prompts: int  # with those whose mode is not


def judgement(config: Config, run: Run) -> Judged:
    """What an evaluation found."""
    lines = list(files.read_lines(folder(config, run) / MASSES))
    sampled = gather(folder(config, run) / RESPONSES)
    exact = np.array([line["exact"] for line in lines], bool)
    field = lambda name: np.array([x[name] for x in lines if x["exact"]], float)
    accuracy = None
    if sampled.greedy[0]["correct"] is not None:
        right = [[r["correct"] for r in group] for group in sampled.samples]
        accuracy = np.array(right, float).mean(1)[exact]
    return Judged(field("mass"), field("base_mass"), accuracy, len(lines))


class Drawn(NamedTuple):
    """The base's N responses to each prompt whose mode is exact."""

    log_prob: Float[np.ndarray, "B N"]
    token_ids: list[list[tuple[int, ...]]]
    on_mode: Bool[np.ndarray, "B N"]  # whether it is in Y*(x)


def drawn(config: Config, task: str) -> Drawn:
    """Read from the evaluation of the base and the proven modes."""
    modes = {line["id"]: line for line in mode_lines(config, task)}
    groups = gather(folder(config, base(config, task)) / RESPONSES).samples
    groups = [group for group in groups if modes[group[0]["id"]]["exact"]]
    ties = [set(map(tuple, modes[group[0]["id"]]["ties"])) for group in groups]
    token_ids = [[tuple(r["completion_ids"]) for r in group] for group in groups]
    found = [
        [y in best for y in row] for row, best in zip(token_ids, ties, strict=True)
    ]
    log_prob = np.array([[r["logprob_base"] for r in group] for group in groups])
    return Drawn(log_prob, token_ids, np.array(found, bool))


def mode_lines(config: Config, task: str) -> list[Record]:
    """The output of `jsharp mode`."""
    return list(files.read_lines(folder(config, mode(config, task)) / OUTPUT_FILE))


def queries(config: Config, trained: Run) -> float:
    """m: responses that the run drew, over all its rounds."""
    lines = run_directory.read(folder(config, trained))
    return float(sum(line.get("sharpen/queries", 0) for line in lines))
