"""The results page: every experiment with its numbers, its making and what agrees.

REPORT_DIR/results/*.json, figures/*.png -> results.md -> results.html, which stands
alone. Figures, tables and judgements are of the numbers in the files, so a page can be
written anew without any run.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reproduce import markup, store
from experiments.reproduce.experiment import Check, Experiment
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.tables import markdown, number, plain
from jsharp import files

TITLE = "The figures of the sharpening paper, made again"
VERDICTS = {True: "agrees", False: "does not agree", None: "cannot tell"}
_ABOUT = """Huang et al., "Self-Improvement in Language Models: The Sharpening
Mechanism" (arXiv 2412.01951): its figures on the models below, and what was found
besides. Intervals are `estimate [low, high]`, at 95%, by bootstrap over prompts unless
a section says otherwise, and each is of its cell by itself. Whether a statement agrees
is computed from the numbers by the rule beside it, each time this page is written; a
verdict over several cells takes the number of cells into account. "cannot tell" is said
where the numbers do not decide."""


class Part(NamedTuple):
    """An experiment that was run."""

    experiment: Experiment
    content: dict[str, Any]  # as `store.read` gives it
    checks: list[Check]
    told: str  # Markdown
    spent: str  # its runs and their seconds, in words

    @property
    def heading(self) -> str:
        return f"{self.experiment.name}: {self.experiment.title}"

    @property
    def link(self) -> str:
        return f"[{self.experiment.name}](#{markup.anchor(self.heading)})"

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """Its runs by what they are: two experiments that read one have it both."""
        runs = self.content["made"]["runs"]
        return {json.dumps(run, sort_keys=True): run for run in runs}


def write(directory: Path) -> list[str]:
    """`directory`/results.md and results.html, of all result files that are there.

    Returns what the page could not show, and says so: files that are not of one
    another, or of another version of their experiment.
    """
    parts, refused = read(directory)
    known = {*refused, *(part.experiment.name for part in parts)}
    missing = [each.name for each in EXPERIMENTS if each.name not in known]
    text = "\n\n".join(
        [
            f"# {TITLE}",
            _ABOUT,
            *([f"Not run: {', '.join(missing)}."] if missing else []),
            *(f"Not shown: {name}: {plain(why)}." for name, why in refused.items()),
            "## What agrees with the paper and what does not",
            *_agreement(parts),
            "## The base models",
            *_bases(parts),
            "## How it was made",
            *_made(parts),
            *(text for part in parts for text in _section(directory, part, parts)),
        ]
    )
    files.write_text(directory / "results.md", text + "\n")
    files.write_text(directory / "results.html", markup.page(TITLE, text, directory))
    return [f"{name}: {why}" for name, why in refused.items()]


def read(directory: Path) -> tuple[list[Part], dict[str, str]]:
    """Every experiment that has a results file, and by name why one is not readable."""
    parts, refused = [], {}
    for each in EXPERIMENTS:
        try:
            content = store.read(directory, each.name)
            if content is not None:
                part = functools.partial(_part, each)
                parts.append(store.applied(directory, each.name, part, content))
        except (ValueError, OSError) as error:
            refused[each.name] = str(error)
    return parts, refused


def _part(experiment: Experiment, content: dict[str, Any]) -> Part:
    found = content["found"]
    return Part(
        experiment,
        content,
        checks=experiment.judge(found),
        told=experiment.tell(found),
        spent=_seconds(content["made"]["runs"]),
    )


def _agreement(parts: Sequence[Part]) -> list[str]:
    every = [(part, check) for part in parts for check in part.checks]
    if not every:
        return ["No experiment that judges a statement was run."]
    counts = Counter(check.agrees for _, check in every)
    summary = (
        f"{counts[True]} with {VERDICTS[True]!r}, {counts[False]} with "
        f"{VERDICTS[False]!r}, {counts[None]} with {VERDICTS[None]!r}"
    )
    rows = [
        {
            "statement": plain(check.statement),
            "verdict": VERDICTS[check.agrees],
            "rule": plain(check.rule),
            "evidence": plain(check.evidence),
            "in": part.link,
        }
        for part, check in every
    ]
    return [f"Of {len(every)} statements: {summary}.", markdown(rows)]


def _bases(parts: Sequence[Part]) -> list[str]:
    """A table of the recipes, and the commands that made them."""
    recipes = {
        json.dumps((name, recipe)): (name, recipe)
        for part in parts
        for name, recipe in part.content["made"]["bases"].items()
    }
    rows = [
        {
            "base": name,
            "parameters": recipe["parameters"],
            "task": task,
            "greedy, %": number(100 * found["greedy"], percent=True),
            "one sample, %": number(100 * found["one_sample"], percent=True),
            "best of n, %": number(100 * found["best_of_n"], percent=True),
            "any of n, %": number(100 * found["coverage"], percent=True),
            "n": found["n"],
            "steps": recipe["step"],
            "trained for": duration(recipe["training_seconds"]),
            "commit": recipe["commit"] or "unknown",
            "device": recipe["device"],
        }
        for name, recipe in recipes.values()
        for task, found in recipe["held_out"].items()
    ]
    if not rows:
        return ["None that `jsharp pretrain` made."]
    commands = "\n".join(f"# {name}\n{r['command']}" for name, r in recipes.values())
    return [
        "Accuracies on held-out prompts, as the command that trained the base found "
        "them: best of n is the likeliest of n samples.",
        markdown(rows),
        f"```\n{commands}\n```",
    ]


def _made(parts: Sequence[Part]) -> list[str]:
    """Every commit and device, with what was made there."""
    runs = {key: run for part in parts for key, run in part.runs.items()}
    where = lambda made: (made["commit"] or "unknown", made["device"])
    ran = Counter(where(run) for run in runs.values())
    measured = Counter(where(part.content["made"]) for part in parts)
    rows = [
        {
            "commit": at[0],
            "device": at[1],
            "runs": ran[at],
            "experiments measured": measured[at],
        }
        for at in sorted(ran.keys() | measured.keys())
    ]
    commits = sorted({row["commit"] for row in rows})
    said = [f"{_seconds(runs.values())}, each run counted once."]
    if len(commits) > 1:
        said.append(f"**Not all at one commit**: {', '.join(commits)}.")
    if any(commit.endswith("-dirty") or commit == "unknown" for commit in commits):
        said.append(
            "A commit that is dirty had changes beside it that are in none; an unknown "
            "one was no checkout."
        )
    versions = sorted(
        {
            ", ".join(f"{package} {v}" for package, v in made["versions"].items())
            for made in (*runs.values(), *(part.content["made"] for part in parts))
        }
    )
    listed = "\n".join(f"- {version}" for version in versions)
    return [" ".join(said), markdown(rows), "Versions:", listed] if rows else []


def _section(directory: Path, part: Part, parts: Sequence[Part]) -> list[str]:
    """Everything of one experiment, as blocks of Markdown."""
    experiment, content = part.experiment, part.content
    made = content["made"]
    commits = sorted({run["commit"] or "unknown" for run in made["runs"]})
    devices = sorted({run["device"] for run in made["runs"]})
    runs = [f"{part.spent}{_shared(part, parts)}."] + (
        [f"They ran at commit {', '.join(commits)} on {', '.join(devices)}."]
        if commits
        else []
    )
    measured = (
        f"The numbers were read from them in {duration(made['measuring_seconds'])} at "
        f"commit {made['commit'] or 'unknown'}."
    )
    return [
        f"## {part.heading}",
        f"{experiment.paper} of the paper."
        if experiment.paper
        else "Not in the paper.",
        *_figures(directory, experiment),
        part.told,
        *(
            ["\n".join(_judgement(check) for check in part.checks)]
            if part.checks
            else []
        ),
        f"```\n{content['command']}\n```",
        " ".join([*runs, measured]),
    ]


def _figures(directory: Path, experiment: Experiment) -> list[str]:
    """Its figures, none where it draws none."""
    if not store.drawn(directory, experiment.name):
        command = f"`jsharp reproduce {experiment.name} --report-only`"
        return [f"No figure: drawing failed or was stopped; {command} draws it."]
    names = [each.name for each in EXPERIMENTS]
    return [
        f"![{plain(f'{path.stem}: {experiment.title}')}](figures/{path.name})"
        for path in store.figures(directory, experiment.name, names)
    ]


def _judgement(check: Check) -> str:
    return (
        f"- **{VERDICTS[check.agrees]}**: {plain(check.statement)}. "
        f"Rule: {plain(check.rule)}. Found: {plain(check.evidence)}."
    )


def _seconds(runs: Iterable[dict[str, Any]]) -> str:
    """How many runs, and how long they took together."""
    runs = list(runs)
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    text = f"{count}, {duration(sum(run['seconds'] for run in runs))} in all"
    resumed = sum(run["resumed"] for run in runs)
    if resumed:
        were = "1 that was" if resumed == 1 else f"{resumed} that were"
        text += f" (of {were} stopped on the way, the time of the last process alone)"
    return text


def _shared(part: Part, parts: Sequence[Part]) -> str:
    """Which of its runs other experiments read too."""
    others = [p for p in parts if p is not part and p.runs.keys() & part.runs.keys()]
    if not others:
        return ""
    keys = part.runs.keys() & {key for other in others for key in other.runs}
    time = duration(sum(part.runs[key]["seconds"] for key in keys))
    names = ", ".join(other.experiment.name for other in others)
    return f"; {len(keys)} of them, {time}, shared with {names}"


def duration(seconds: float) -> str:
    """In words: 4.2 s, 3 min 05 s, 2 h 07 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
