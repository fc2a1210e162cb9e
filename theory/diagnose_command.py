"""`jsharp diagnose MODEL PROMPTS`: the theory on a real model, before it is trained."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tyro

from jsharp import files
from jsharp.commands import model, results, run
from jsharp.commands.stream import Record
from theory import diagnose_report, prediction
from theory.diagnose_config import Check, Config
from theory.diagnose_jobs import MODES, PILOT, Asked, prepare
from theory.diagnosis import unique
from theory.findings import Options, findings
from theory.pilot import Known, Pilot, drawn, known, pilot, read
from theory.prices import Goal

DIAGNOSIS = "diagnosis.json"
INTERRUPTED = 130


def main(args: Sequence[str]) -> int:
    """`jsharp diagnose` on these arguments; the exit status (see `run.run`)."""
    args = list(args)
    if "--check" in args:
        args.remove("--check")
        config = tyro.cli(Check, args=args, prog="jsharp diagnose --check")
        return _guarded(lambda: _check(config), 2)
    config = tyro.cli(Config, args=args, prog="jsharp diagnose")
    asked = functools.cache(lambda: prepare(config))
    status = run.run("diagnose", lambda: asked().pilot)
    if not status and (job := asked().modes) is not None:
        status = run.run("diagnose", lambda: job)
    return status or _guarded(lambda: _conclude(config, asked()), 1)


def _guarded(work: Callable[[], None], status: int) -> int:
    """Do the work; its status where it fails, as in `run.run`."""
    try:
        work()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"jsharp diagnose: {error}", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _conclude(config: Config, asked: Asked) -> None:
    """Everything behind the draws, written and shown; the same from the same files."""
    path = config.output_dir / PILOT
    draws, modes = drawn(path), None
    if asked.modes is not None:
        modes = list(files.read_lines(config.output_dir / MODES))
    everything = known(draws, modes)
    options = Options(
        goal=Goal(
            config.eps, config.delta, config.rho, config.log_class, config.dimension
        ),
        gamma=config.gamma,
        level=config.level,
        seed=config.seed,
        log_responses=asked.log_responses,
    )
    found = findings(
        draws,
        everything,
        results.scores(read(path).samples),
        mode_marks(draws, everything, modes),
        options,
    )
    content = {
        "options": _options(config),
        "questions": asked.questions.identity,
        "model": model.fingerprint(model.directory(config.model_name_or_path)),
        **found,
        "maximisers": _maximisers(draws, everything),
    }
    files.write_json(config.output_dir / DIAGNOSIS, plain(content))
    diagnose_report.draw(config.output_dir, found)
    diagnose_report.show(found, options, config.output_dir)


def _options(config: Config) -> dict[str, Any]:
    names = ("model_name_or_path", "prompts", "part", "max_completion_length", "eps")
    names += ("mode_budget", "delta", "rho", "gamma", "log_class", "dimension")
    given = {name: getattr(config, name) for name in (*names, "level", "seed")}
    return given | {"draws": config.num_generations}


def _maximisers(draws: Pilot, known: Known) -> dict[str, dict[str, list[int]]]:
    """y* of each prompt where it is certain and not tied, by id."""
    found = zip(
        *(draws.ids, draws.prompts, known.maximiser, unique(known)), strict=True
    )
    return {
        id: {"prompt_ids": list(prompt), "completion_ids": list(tokens)}
        for id, prompt, tokens, sure in found
        if sure
    }


def mode_marks(
    draws: Pilot, known: Known, modes: Sequence[Record] | None
) -> np.ndarray | None:
    """Whether y* is right [B]: 1, 0, or NaN where it is not certain, or is tied.

    None where no answers are known.
    """
    if draws.correct is None or draws.greedy_correct is None:
        return None
    marks = np.full(len(draws.ids), np.nan)
    found = {record["id"]: record for record in modes or ()}
    for i in np.flatnonzero(unique(known)).tolist():
        best = known.maximiser[i]
        mark = {draws.greedy[i]: bool(draws.greedy_correct[i])}
        mark |= dict(zip(draws.tokens[i], draws.correct[i].tolist(), strict=True))
        if best not in mark:
            mark[best] = found[draws.ids[i]]["correct"]
        marks[i] = mark[best]
    return marks


def plain(value: Any) -> Any:
    """Arrays to lists; JSON has no infinity, so that becomes null."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _check(config: Check) -> None:
    table, maximisers, content = prediction.load(config.diagnosis)
    options = content["options"]
    path = config.eval_dir / results.RESPONSES
    answers = pilot(read(path))
    same = prediction.compare_runs(content, path)
    measured = prediction.measure(
        answers,
        maximisers if same else {},
        level=options["level"],
        seed=options["seed"],
    )
    n = options["draws"] if config.num_generations is None else config.num_generations
    found = prediction.check(table, measured, draws=n)
    prompts = prediction.identified(answers)
    matched = sum(prompt in maximisers for prompt in prompts) if same else None
    diagnose_report.show_check(found, n, len(prompts), matched)
