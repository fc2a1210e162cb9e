"""Draws from known laws of responses, as files of an evaluation and of a mode search.

A prompt's law is a table {completion: probability}; nothing here asks a model.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jsharp import files
from jsharp.commands.responses import GREEDY

Law = dict[str, float]


def answer(text: str) -> str | None:
    """What is behind the last equals sign, or all of the text; None for "?"."""
    return None if text == "?" else text.split("=")[-1]


def record(place: int, sample: int, text: str, probability: float, right: str) -> dict:
    """The line of one response; its ids are its characters, and the end."""
    ids = [ord(c) for c in text] + [0]
    return {
        "id": f"prompt-{place}",
        "prompt": f"{place} =>",
        "prompt_ids": [1, place],
        "sample_id": sample,
        "completion": text,
        "completion_ids": ids,
        "finish_reason": "stop",
        "logprob_base": float(np.log(probability)),
        "logprob_sampler": float(np.log(probability)),
        "num_tokens": len(ids),
        "entropy": 0.1 * (len(text) % 5),
        "certainty": 0.3 * (len(text) % 7),
        "answer": answer(text),
        "correct": answer(text) == right,
        "seed": 0,
        "model": "none",
    }


def draws(laws: list[tuple[Law, str]], n: int, seed: int) -> list[list[dict]]:
    """N draws of each prompt from its law, behind the greedy response: the second."""
    rng, groups = np.random.default_rng(seed), []
    for place, (law, right) in enumerate(laws):
        texts, weights = list(law), np.array(list(law.values()))
        greedy = sorted(law, key=lambda text: -law[text])[min(1, len(law) - 1)]
        drawn = rng.choice(len(texts), n, p=weights / weights.sum())
        each = [(GREEDY, greedy), *((i, texts[j]) for i, j in enumerate(drawn))]
        groups.append([record(place, i, text, law[text], right) for i, text in each])
    return groups


def write(path: Path, groups: list[list[dict]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_lines(path, [line for group in groups for line in group])


def modes(laws: list[tuple[Law, str]]) -> list[dict[str, Any]]:
    """What an exact search says of the laws: the maximiser, and all that are tied."""
    lines = []
    for place, (law, right) in enumerate(laws):
        top = max(law.values())
        ties = sorted(text for text in law if law[text] == top)
        lines.append(
            record(place, 0, ties[0], top, right)
            | {
                "logprob": float(np.log(top)),
                "exact": True,
                "gap": 0.0,
                "rounding": 1e-6,
                "mass_lower": top,
                "mass_upper": top * len(ties),
                "ties": [[ord(c) for c in text] + [0] for text in ties],
            }
        )
    return lines
