"""`jsharp evaluate --compare`: two evaluations of the same prompts, paired."""

from collections.abc import Sequence
from pathlib import Path

from jsharp import files
from jsharp.commands import results, tables
from jsharp.commands.results import RESPONSES, Sampled
from jsharp.commands.stream import Record
from jsharp.evaluate import ACCURACY, Pick, changes, flips

COMPARISON = "comparison.json"


def show(first: Path, second: Path, output_dir: Path | None, *, level: float) -> None:
    """Print second minus first; write comparison.json where a directory is given."""
    found = compare(first, second, level=level)
    if output_dir is not None:
        files.write_json(output_dir / COMPARISON, found)
    tables.show_comparison(found)


def compare(first: Path, second: Path, *, level: float) -> Record:
    """Differences of every row, second minus first, with paired intervals.

    Raises ValueError or FileNotFoundError, naming what differs, unless both answered
    the same questions with as many samples.
    """
    if not 0 < level < 1:
        raise ValueError(f"--level must be between 0 and 1, found {level}")
    paths = locate(first), locate(second)
    one, two = (results.gather(path) for path in paths)
    _check_same(paths, one, two)
    runs = [_run(path) for path in paths]
    _check_marks(paths, runs)
    same_base = bool(_base(runs[0])) and _base(runs[0]) == _base(runs[1])
    before, after = (_comparable(sampled, same_base) for sampled in (one, two))
    greedy = None
    if ACCURACY in before[0].value:
        right = [picks[0].value[ACCURACY] > 0 for picks in (before, after)]
        greedy = flips(*right)._asdict()
    rows = changes(before, after, level=level, seed=results.SEED)
    return {
        "first": str(first),
        "second": str(second),
        "resampling": results.resampling(level),
        "num_generations": len(one.samples[0]),
        "prompts": len(one.greedy),
        "same_base": same_base,
        "greedy": greedy,
        "rows": list(map(results.row, rows)),
    }


def locate(run: Path) -> Path:
    """The responses of a directory of evaluate, of train (its last step), or a file."""
    if run.is_file():
        return run
    if (run / RESPONSES).is_file():
        return run / RESPONSES
    steps = [path for path in (run / "eval").glob("*.jsonl") if path.stem.isdigit()]
    if not steps:
        raise FileNotFoundError(
            f"--compare: expected a directory of `jsharp evaluate` or `jsharp train`, "
            f"found neither {run / RESPONSES} nor {run / 'eval' / 'STEP.jsonl'}"
        )
    return max(steps, key=lambda path: int(path.stem))


def _check_same(paths: Sequence[Path], one: Sampled, two: Sampled) -> None:
    _same(paths, "num_generations", *(len(x.samples[0]) for x in (one, two)))
    _same(paths, "a number of prompts", len(one.greedy), len(two.greedy))
    for a, b in zip(one.greedy, two.greedy, strict=True):
        _same(paths, "the id", a["id"], b["id"])
        for name in ("prompt", "prompt_ids"):
            _same(paths, f"of id {a['id']!r} the {name}", a[name], b[name])
    _same(paths, "marks", *(x.greedy[0]["correct"] is not None for x in (one, two)))


def _check_marks(paths: Sequence[Path], runs: Sequence[Record]) -> None:
    """The same answers are right, up to the same length, where both runs say so."""
    if all(run.get("command") == "evaluate" for run in runs):
        for name in ("marked_by", "questions"):
            _same(paths, name, *(run.get(name) for run in runs))
    longest = "max_completion_length"
    if all(longest in run for run in runs):
        _same(paths, longest, *(run[longest] for run in runs))


def _same(paths: Sequence[Path], what: str, one: object, two: object) -> None:
    if one != two:
        raise ValueError(
            f"--compare: expected the same questions: {paths[0]} has {what} {one!r}, "
            f"{paths[1]} has {two!r}"
        )


def _run(path: Path) -> Record:
    """What pins the responses; empty where nothing does."""
    beside = path.with_name(path.name + ".run.json")
    return files.read_json(beside)["run"] if beside.is_file() else {}


def _base(run: Record) -> Record:
    """The fingerprint of the model whose log-probability is the self-reward.

    A training run, whose policy has no files, has its base as its model.
    """
    prefix = "base/" if run.get("command") == "evaluate" else "model/"
    return {
        name.removeprefix(prefix): digest
        for name, digest in run.items()
        if name.startswith(prefix)
    }


def _comparable(sampled: Sampled, same_base: bool) -> list[Pick]:
    """The picks; without what is measured under the base, where that is another."""
    found = results.picks_of(sampled)
    if same_base:
        return found
    kept = lambda value: {k: v for k, v in value.items() if k != "logprob_base"}
    return [pick._replace(value=kept(pick.value)) for pick in found]
