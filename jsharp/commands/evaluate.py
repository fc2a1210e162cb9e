"""`jsharp evaluate`: how a policy does on held-out prompts, by every way to pick."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import tyro

from jsharp import files
from jsharp.commands import comparison, model, results, run, sharpened, tables
from jsharp.commands.pair import Pair, answer, check, find, load
from jsharp.commands.questions import Questions, Source, read
from jsharp.commands.results import RESPONSES, RESULTS, picks_of
from jsharp.commands.run import Job, Tick, Work
from jsharp.commands.settings import ModelSettings, require
from jsharp.commands.stream import Plan, Record
from jsharp.evaluate import summarise
from jsharp.provenance import source, surroundings

# They do not decide what is drawn; questions and models are pinned by their content.
_APART = (
    *("output_dir", "overwrite", "compare", "modes", "deltas", "level"),
    *("base_model_name_or_path", "task", "data", "prompts", "grader", "limit"),
)
_COUNTS = ("num_generations", "max_completion_length", "batch_size", "chunk_size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ModelSettings):
    """Judge a model on held-out prompts: greedy, one sample, best of k, coverage.

    Draws NUM_GENERATIONS samples at temperature 1 and a greedy response to each prompt,
    into OUTPUT_DIR/responses.jsonl (the fields of `jsharp sample`, answer, correct, and
    logprob, the evaluated model's own). Self-rewards, and logprob_base, are those of
    the base model; without --base-model-name-or-path it is the evaluated one.

    OUTPUT_DIR/results.json then has a row for greedy, for one sample, for the best of k
    by each self-reward and for coverage (is any of k right?), k = 1..N by the exact
    order-statistics estimator. Each is [estimate, low, high], paired bootstrap over
    prompts: accuracy, gain (minus greedy's), percent_lift (100 gain / greedy's; null
    where greedy is never right, an end where it may never be), logprob_base, logprob,
    num_tokens. majority is the vote of all N, ties shared; it and
    perplexity-consistency have k = N only, since they look at all N. Without answers
    there are log-probabilities and lengths alone.

    --modes takes what `jsharp mode` found for the base on the same prompts and adds
    pi(Y*|x), and the fraction of prompts where it is at least 1 - delta (Def 3.1).

    Killed at any instant, the same command goes on where it was; finished, it prints
    its table again. --compare judges two finished runs on the same prompts instead: the
    differences of every row, paired, the second's gain and lift over the first's
    greedy, and the greedy prompts won and lost.

    Example: jsharp evaluate --task game24 --output-dir before

    and of a model that was trained from it: jsharp evaluate --task game24 --output-dir
    after --model-name-or-path run/hf --base-model-name-or-path embedded

    and both: jsharp evaluate --compare before after
    """

    output_dir: Path | None = None
    """Where everything goes."""
    base_model_name_or_path: str | None = None
    """The checkpoint whose log-probability is the self-reward; by default the model."""
    task: str | None = None
    """Whose held-out problems: game24, arithmetic, prontoqa, sums; gsm8k, math,
    mmlu."""
    data: Path | None = None
    """The file of the task's held-out problems (gsm8k, math, mmlu)."""
    prompts: Path | None = None
    """Instead of a task: JSON lines, each {"prompt": text or messages, "answer"?}."""
    grader: str | None = None
    """How the field "answer" marks a response: exact, last_number, choice, math."""
    limit: int | None = None
    """Only the first LIMIT prompts."""
    num_generations: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """Samples to each prompt (N), besides the greedy response."""
    max_completion_length: int = 64
    """Tokens of a response, at most."""
    seed: int = 0
    """What all draws depend on."""
    batch_size: int = 64
    """Responses decoded, or scored, at once: memory grows with it."""
    chunk_size: int = 64
    """Prompts computed, then saved, together: what a kill can cost."""
    modes: Path | None = None
    """Output of `jsharp mode` for the base on the same prompts, as long a response."""
    deltas: tuple[float, ...] = (0.5, 0.1, 0.01)
    """Mass that may lie off the modes (Def 3.1), with --modes."""
    level: float = 0.05
    """Each interval misses with about this probability: a percentile bootstrap over
    prompts, too narrow where they are few, of no width where all agree."""
    compare: tuple[Path, Path] | None = None
    """Two finished runs: directories of evaluate or of train, or files of responses;
    with --output-dir, comparison.json is written there."""
    overwrite: bool = False
    """Start anew, whatever OUTPUT_DIR holds; without it a run goes on."""


class Evaluation(NamedTuple):
    """An evaluation that is fully checked."""

    responses: Job
    questions: Questions
    pair: Pair
    modes: list[sharpened.Known] | None


def main(args: Sequence[str]) -> int:
    """`jsharp evaluate` on these arguments; the exit status (see `run.run`)."""
    config = tyro.cli(Config, args=args, prog="jsharp evaluate")
    if (both := config.compare) is not None:
        return _guarded(lambda: _compare(config, *both), 2)
    checked = functools.cache(lambda: prepare(config))
    status = run.run("evaluate", lambda: checked().responses)
    if not status and config.modes is not None:
        status = run.run("evaluate", lambda: _masses_job(config, checked()))
    return status or _guarded(lambda: _finish(config, checked()), 1)


def _compare(config: Config, first: Path, second: Path) -> None:
    """Both runs are finished: an option that asks for work means nothing."""
    for field in dataclasses.fields(config):
        found = getattr(config, field.name)
        meant = field.name in ("compare", "output_dir", "level")
        require(
            field.name,
            meant or found == field.default,
            "left out with --compare",
            found,
        )
    comparison.show(first, second, config.output_dir, level=config.level)


def _guarded(work: Callable[[], None], failed: int) -> int:
    """Do the work; the exit status, `failed` where an error is the reason."""
    try:
        work()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"jsharp evaluate: {error}", file=sys.stderr)
        return failed
    except KeyboardInterrupt:
        return 130
    return 0


def prepare(config: Config) -> Evaluation:
    """Check everything but the weights; ValueError says what is wrong."""
    output_dir = _check(config)
    horizon = config.max_completion_length
    pair = find(config, config.base_model_name_or_path)
    asked = Source(
        config.task,
        "held_out",
        config.data,
        config.prompts,
        config.grader,
        config.limit,
    )
    questions = read(asked, config, pair.model, room=horizon, taken=())
    check(pair, config, questions, room=horizon)
    modes = config.modes and sharpened.read(
        config.modes, pair.base, questions.entries, horizon=horizon
    )
    options = dataclasses.asdict(config)
    identity = {
        "command": "evaluate",
        **{name: value for name, value in options.items() if name not in _APART},
        **questions.identity,
        **pair.fingerprint,
    }
    ids = [entry.id for entry in questions.entries]
    responses = Job(
        output=output_dir / RESPONSES,
        overwrite=config.overwrite,
        identity=identity,
        plan=Plan(ids, size=config.chunk_size, each=1 + config.num_generations),
        load=lambda: _load(config, pair, questions),
        summary=_summary,
    )
    return Evaluation(responses, questions, pair, modes)


def _check(config: Config) -> Path:
    """The output directory; ValueError for the first option out of its domain."""
    for name in _COUNTS:
        found = getattr(config, name)
        require(name, found >= 1, "at least 1", found)
    require("seed", 0 <= config.seed < 2**31, "0 to 2^31 - 1", config.seed)
    require("level", 0 < config.level < 1, "between 0 and 1", config.level)
    for delta in config.deltas:
        require("deltas", 0 < delta < 1, "between 0 and 1", delta)
    if (output_dir := config.output_dir) is None:
        raise ValueError("--output-dir must be given, unless --compare is")
    require("output_dir", not output_dir.is_file(), "a directory", output_dir)
    return output_dir


def _load(config: Config, pair: Pair, questions: Questions) -> Work:
    sizes = {"horizon": config.max_completion_length, "slots": config.batch_size}
    loaded = load(pair, config, **sizes)
    key = jax.random.key(config.seed)

    def work(places: range, tick: Tick) -> list[Record]:
        return answer(
            key,
            loaded,
            questions,
            places,
            config.num_generations,
            seed=config.seed,
            model=config.model_name_or_path,
            tick=tick,
        )

    return work


def _summary(lines: Iterable[Record]) -> str:
    count = tokens = 0
    for line in lines:
        count += 1
        tokens += line["num_tokens"]
    return f"{count:,} responses, {tokens / count:.1f} tokens each"


def _masses_job(config: Config, checked: Evaluation) -> Job:
    """How much the evaluated model gives to the modes of the base."""
    entries, modes = checked.questions.entries, checked.modes or []

    def load_one() -> Work:
        alone = Pair(checked.pair.model, checked.pair.model)
        sizes = {"horizon": config.max_completion_length, "slots": config.batch_size}
        loaded = load(alone, config, **sizes)

        def work(places: range, tick: Tick) -> list[Record]:
            some = slice(places.start, places.stop)
            lines = sharpened.masses(
                loaded.params, loaded.speaker, entries[some], modes[some]
            )
            tick(len(places), sum(len(tie) for x in lines for tie in x["ties"]))
            return lines

        return work

    job = checked.responses
    return job._replace(
        output=job.output.with_name(sharpened.MASSES),
        identity=job.identity | {"command": "evaluate: masses", **_modes(config)},
        plan=Plan(job.plan.ids, size=config.chunk_size),
        load=load_one,
        summary=sharpened.summary,
    )


def _modes(config: Config) -> Record:
    return {"modes": config.modes and model.digest(config.modes)}


def _finish(config: Config, checked: Evaluation) -> None:
    """Write results.json, unless it is there, and print its table."""
    job = checked.responses
    path = job.output.with_name(RESULTS)
    judged = {"level": config.level, "deltas": list(config.deltas), **_modes(config)}
    identity = job.identity | judged
    if config.overwrite or results.identity(path) != identity:
        sampled = results.gather(job.output)
        found = summarise(picks_of(sampled), level=config.level, seed=results.SEED)
        masses = job.output.with_name(sharpened.MASSES)
        known = config.modes and sharpened.summarise(
            list(files.read_lines(masses)), config.deltas, level=config.level
        )
        content = {
            "resampling": results.resampling(config.level),
            "num_generations": config.num_generations,
            "prompts": len(sampled.greedy),
            "rows": list(map(results.row, found)),
            "sharpened": known,
            "run": identity,
            "made": {**surroundings(), "source": source()},
        }
        files.write_json(path, content)
    tables.show(files.read_json(path))
