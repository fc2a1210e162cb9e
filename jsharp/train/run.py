"""The rounds of a run: collect, fit, evaluate, save; taken up again at any step."""

import functools
import itertools
import math
import threading
import time
from collections.abc import Iterator

import jax
from rich.console import Console

from jsharp import files, run_directory
from jsharp.commands import model
from jsharp.commands.responses import Speaker
from jsharp.commands.stream import Record
from jsharp.lm import checkpoint, huggingface, peft, tokenizer_files, weights
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Params
from jsharp.train import collect, metrics, progress
from jsharp.train.collect import Asked, Interrupted
from jsharp.train.config import Config, Xpo
from jsharp.train.evaluation import evaluate
from jsharp.train.examples import batch
from jsharp.train.fit import State, make_step, start
from jsharp.train.optimizer import optimizer, schedule
from jsharp.train.plan import Plan
from jsharp.train.rounds import (
    Base,
    Work,
    collected,
    is_made,
    path_of,
    policy,
    write_examples,
)

# What is folded into the run's key for other purposes; a round folds its number in.
_ADAPTERS, _EVALUATION = 2**31, 2**31 + 1


def load(plan: Plan, identity: Record) -> Work:
    """Read the weights and the last checkpoint; nothing is drawn or trained yet.

    Raises ValueError or OSError on a bad checkpoint or model.
    """
    config, directory = plan.config, plan.directory
    found = huggingface.load(directory, **config.weights)
    tokenizer = Tokenizer.load(directory)
    sizes = config.max_completion_length, config.sample_batch_size
    speaker = Speaker(found.config, tokenizer, found.end, found.pad, *sizes)
    rate = schedule(config, plan.total)
    tx = optimizer(config, rate)
    key = jax.random.key(config.seed)
    own = jax.random.fold_in(key, _ADAPTERS)
    fresh = lambda: start(key, plan.trainee.init(own, found.params), tx)
    # Only its shapes: two states would need twice the memory of one.
    like = jax.eval_shape(fresh)
    saved = checkpoint.restore(config.output_dir / "checkpoints", like)
    state = saved[1] if saved else fresh()
    is_step = lambda line: "loss" in line
    run_directory.forget_after(config.output_dir, int(state.step), keep=is_step)
    return Work(
        plan,
        identity,
        Base(functools.partial(_read_base, plan), found.params),
        speaker,
        tx,
        make_step(
            found.config, plan.trainee, plan.recipe, tx, rate, remat=config.remat
        ),
        state,
        metrics.sinks(config.report_to, config.output_dir, identity),
    )


def _read_base(plan: Plan) -> Params:
    """The base once more; ValueError where its files are no longer those of before."""
    if model.fingerprint(plan.directory) != plan.fingerprint:
        raise ValueError(f"{plan.directory}: the base's files changed during the run")
    return huggingface.load(plan.directory, **plan.config.weights).params


def is_finished(config: Config) -> bool:
    """Whether the whole model is there, which is written last."""
    found = config.output_dir / "hf"
    return any((found / name).is_file() for name in (weights.WHOLE, weights.INDEX))


def go(work: Work, stop: threading.Event) -> None:
    """Every round from the state's on; ends with the exported model.

    Raises Interrupted, once a checkpoint is written, when `stop` is set, and
    FloatingPointError, naming step and examples, where a loss is not finite.
    """
    plan, state = work.plan, work.state
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with progress.shown(console, plan.total, int(state.step)) as shown:
            for after in _phases(work, stop, shown):
                state = after
    except Interrupted:
        _save(work, state)
        raise
    finally:
        for sink in work.sinks:
            sink.close()
    export(work, state)
    console.print(f"{plan.total} steps; the model is {plan.config.output_dir / 'hf'}")


def export(work: Work, state: State) -> None:
    """hf/, the whole model with its tokenizer, and adapter/ where there is one."""
    plan, config, speaker = work.plan, work.plan.config, work.speaker
    target = config.output_dir / "hf"
    whole, ends = policy(work, state), {"end": speaker.end, "pad": speaker.pad}
    tokenizer_files.copy(plan.directory, target)
    if config.lora_r:
        peft.save(
            config.output_dir / "adapter",
            speaker.config,
            state.params,
            alpha=config.adapter_alpha,
            base=config.model_name_or_path,
        )
    huggingface.save(target, speaker.config, whole, **ends)  # the last: all is there


def _phases(
    work: Work, stop: threading.Event, shown: progress.Shown
) -> Iterator[State]:
    """The state after each round; Interrupted between two chunks or steps."""
    plan, state = work.plan, work.state
    for r, (first, last) in enumerate(itertools.pairwise(plan.starts)):
        if int(state.step) >= last:
            continue
        if int(state.step) == first:
            _begin(work, state, r, stop, shown)
        elif not is_made(work, r):  # by a config that was changed since
            _draw(work, state, r, stop, shown)
        state = _fit(work, state, r, stop, shown)
        yield state
        if int(state.step) < last:
            raise Interrupted
    _evaluate(work, state, stop, shown)


def _begin(
    work: Work, state: State, r: int, stop: threading.Event, shown: progress.Shown
) -> None:
    """Evaluate what the round begins with, where that is due, and collect."""
    plan, config = work.plan, work.plan.config
    offline = not (plan.recipe.single or plan.recipe.keeps)
    if r == 0 or offline or _is_due(config, int(state.step)):
        _evaluate(work, state, stop, shown)
    if config.rebase and r:
        _save(work, state)  # the draws are those of these very weights
    _draw(work, state, r, stop, shown)


def _draw(
    work: Work, state: State, r: int, stop: threading.Event, shown: progress.Shown
) -> None:
    """The round's examples, to their file, and a line that sums them up."""
    drawn, made = collected(work, state, r, stop, shown)
    write_examples(work, r, made)
    found = collect.summary(drawn, made, own=work.plan.recipe.own)
    config = work.plan.config
    if isinstance(config, Xpo):
        found |= collect.objective(drawn, made, beta=config.beta)
    _log(work, {"step": int(state.step), "round": r, **found})


def _is_due(config: Config, step: int) -> bool:
    return config.eval_steps > 0 and step % config.eval_steps == 0


def _fit(
    work: Work, state: State, r: int, stop: threading.Event, shown: progress.Shown
) -> State:
    """The round's steps from the state's on; fewer once `stop` is set."""
    plan, config = work.plan, work.plan.config
    lines = _examples(work, r)
    frozen = work.base.params if plan.trainee.adapts else {}
    if not (plan.trainee.adapts or plan.recipe.own):
        work.base.drop()  # nobody asks for it before the round has ended
    arrays = functools.partial(
        batch,
        size=config.batch_size,
        parts=config.gradient_accumulation_steps,
        width=plan.recipe.width,
        pad=work.speaker.pad,
    )
    pace = progress.Pace(config.output_dir)
    for step in range(int(state.step) + 1, plan.starts[r + 1] + 1):
        try:
            if step - 1 > plan.starts[r] and _is_due(config, step - 1):
                _evaluate(work, state, stop, shown)
        except Interrupted:
            break
        if stop.is_set():
            break
        began = time.perf_counter()
        some = [lines[i] for i in plan.rows(r, step - 1, len(lines))]
        state, values = work.step(state, frozen, arrays(some))
        found = {name: float(x) for name, x in jax.device_get(values).items()}
        _check_finite(work, step, found, some)
        pace.tick(step, found["num_tokens"], time.perf_counter() - began)
        if step % config.logging_steps == 0 or step == plan.starts[r + 1]:
            line = {"step": step, "round": r, "epoch": plan.epoch(r, step), **found}
            _log(work, line, pace.last)
        if step % config.save_steps == 0 or step == plan.total:
            _save(work, state)
        shown.step(step, found["loss"], pace.tokens_per_second)
    return state


def _examples(work: Work, r: int) -> list[Record]:
    """Those of the round or, where rounds add up, of all rounds so far."""
    rounds = range(r + 1) if work.plan.recipe.keeps else [r]
    paths = [path_of(work.plan.config, i, "examples") for i in rounds]
    return [line for path in paths for line in files.read_lines(path)]


def _check_finite(
    work: Work, step: int, found: dict[str, float], some: list[Record]
) -> None:
    """FloatingPointError unless the step may be kept."""
    watched = {name: found[name] for name in ("loss", "grad_norm", "param_norm")}
    if all(map(math.isfinite, watched.values())):
        return
    directory = work.plan.config.output_dir / "checkpoints"
    steps = [int(each.name) for each in directory.glob("*") if each.name.isdigit()]
    last = directory / str(max(steps)) if steps else "none"
    raise FloatingPointError(
        f"step {step}: {', '.join(f'{k} is {v}' for k, v in watched.items())}, on the "
        f"examples of prompts {', '.join(repr(line['id']) for line in some)}; "
        f"last good checkpoint: {last}"
    )


def _evaluate(
    work: Work, state: State, stop: threading.Event, shown: progress.Shown
) -> None:
    """Held-out samples of the state, streamed to eval/<step>.jsonl, and their means."""
    plan, config, step = work.plan, work.plan.config, int(state.step)
    if plan.held_out is None:
        return
    name = config.output_dir.resolve().name
    values = evaluate(
        jax.random.fold_in(jax.random.key(config.seed), _EVALUATION),
        config.output_dir / "eval" / f"{step}.jsonl",
        {"command": "train: eval", "step": step, **work.identity},
        Asked(work.speaker, plan.held_out, config.seed, name),
        policy(work, state),
        work.base.params,
        n=config.eval_generations,
        chunk=config.chunk_size,
        tick=shown.evaluating(step, len(plan.held_out.entries)),
        stopped=stop.is_set,
        replace=config.allow_changes,
    )
    _log(work, {"step": step, **values})
    shown.evaluated(step, values)


def _save(work: Work, state: State) -> None:
    config = work.plan.config
    directory, keep = config.output_dir / "checkpoints", config.save_total_limit
    checkpoint.save(directory, int(state.step), state, keep=keep)


def _log(work: Work, line: Record, times: dict[str, float] | None = None) -> None:
    """To metrics.jsonl and the sinks; `times` go to the sinks alone."""
    run_directory.append(work.plan.config.output_dir, line)
    for sink in work.sinks:
        sink.write(line["step"], line | (times or {}))
