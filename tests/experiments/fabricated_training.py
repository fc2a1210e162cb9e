"""Runs of SFT-Sharpening that no model made: all files that figures 7 to 9 read."""

import dataclasses
import itertools
import json

import numpy as np

from experiments.paper import fig9, table2
from experiments.reproduce import amortised, inference
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from jsharp import files
from jsharp.commands.results import RESPONSES
from jsharp.train.config import Sft

PROMPTS, SAMPLES = 6, 4
STEPS = (0, 8, 16, 100)  # not in the order of their names
GREEDY = {i: (i % 3 > 0, -3.0 - i / 4) for i in range(9)}


def line(prompt, sample, correct, log_prob, tokens):
    return {
        "id": f"task-held_out-{prompt}",
        "prompt": "?",
        "prompt_ids": [prompt],
        "sample_id": sample,
        "completion": "",
        "completion_ids": [1] * tokens,
        "finish_reason": "stop",
        "logprob_base": log_prob,
        "logprob_sampler": 0.0,
        "num_tokens": tokens,
        "entropy": 0.0,
        "certainty": 0.0,
        "answer": None,
        "correct": correct,
        "seed": 0,
        "model": "m",
    }


def responses(rng, prompts, samples, *, right=0.5, level=-6.0, greedy=None):
    """Lines of some prompts; greedy[prompt] = (correct, log_prob) or drawn too."""
    lines = []
    for prompt in prompts:
        for sample in range(-1, samples):
            correct = bool(rng.random() < right)
            log_prob = float(np.float32(level + rng.normal()))
            if sample == -1 and greedy is not None:
                correct, log_prob = greedy[prompt]
            tokens = int(rng.integers(2, 9))
            lines.append(line(prompt, sample, correct, log_prob, tokens))
    return lines


def fabricate(config, *, right=lambda at: 0.5, level=lambda at: -6.0, greedy=None):
    """All files that the figures read; `right`, `level` of (task, n, seed, step)."""
    rng = np.random.default_rng(7)
    for task in config.tasks:
        base = folder(config, inference.evaluation(config, "embedded", task))
        # More prompts than in training, in another order.
        asked = [7, 3, 0, 8, 5, 1, 2, 4]
        found = responses(rng, asked, config.generations, greedy=greedy)
        files.write_lines(base / RESPONSES, found)
        for n, seed in itertools.product(fig9.sizes(config), config.seeds):
            run = folder(config, amortised.training(config, "embedded", task, n, seed))
            settings = {"num_train_epochs": 10, "seed": seed, "num_generations": n}
            default = dataclasses.asdict(Sft(output_dir=run)) | settings
            values = {each.field: default[each.field] for each in table2.SETTINGS}
            files.write_json(run / "config.json", values | {"seed": seed})
            for step in STEPS:
                at = task, n, seed, step
                kind = {"right": right(at), "level": level(at)}
                path = run / f"eval/{step}.jsonl"
                # As the commands leave it beside: not an evaluation.
                files.write_json(path.with_name(path.name + ".run.json"), {})
                some = responses(rng, range(PROMPTS), SAMPLES, **kind, greedy=greedy)
                files.write_lines(path, some)


def settings(directory):
    return Config(
        names=(),
        output_dir=directory,
        models=("embedded",),
        trained=("embedded",),
        tasks=("game24", "arithmetic"),
        generations=5,
        seeds=(0, 1, 2),
    )


def rising(config):
    level = lambda at: -6.0 + 0.03 * at[3] + 0.2 * at[2]
    fabricate(config, right=lambda at: 0.3 + at[3] / 200, level=level, greedy=GREEDY)
    return config


def read(config, task, n, seed, step):
    """{prompt: [greedy, sample 0, ...]} of an evaluation, by hand."""
    run = folder(config, amortised.training(config, "embedded", task, n, seed))
    groups = {}
    for text in (run / f"eval/{step}.jsonl").read_text().splitlines():
        groups.setdefault(json.loads(text)["id"], []).append(json.loads(text))
    return groups
