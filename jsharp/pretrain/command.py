"""`jsharp pretrain`: train a base model from scratch on a task's demonstrations.

    loss = - sum_b log pi(y_b | x_b) / sum_b |y_b|     end token included, prompts free

Batch t is a pure function of (seed, t), and a checkpoint holds all the rest, so a run
that is killed at any instant and started again with the same command goes on where it
was and ends in the same weights, bit for bit. `output_dir` gets config.json,
metrics.jsonl, checkpoints/<step> and, at the end, hf/ (the model in the Hugging Face
layout).
"""

import math
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import tyro
from jaxtyping import Array
from rich import progress
from rich.console import Console

import jsharp.tasks
from jsharp import run_directory
from jsharp.lm import checkpoint, huggingface
from jsharp.lm.config import TransformerConfig
from jsharp.lm.language_model import greedy_decoder, transformer_policy
from jsharp.lm.tokenizer import Tokenizer
from jsharp.policy import Params, Policy, Prompts, Response
from jsharp.preemption import stop_on_signal
from jsharp.pretrain import demonstrations, recipe
from jsharp.pretrain.config import Config, check, command, identity
from jsharp.provenance import surroundings
from jsharp.update import Update, UpdateInfo, UpdateState, gradient

CHECKPOINTS = "checkpoints"
END = 0  # `word_tokenizer` gives the end token id 0; it also pads


class Run(NamedTuple):
    """Everything that the config alone determines."""

    config: Config
    lessons: tuple[demonstrations.Lesson, ...]
    tokenizer: Tokenizer
    model: TransformerConfig
    policy: Policy
    schedule: optax.Schedule
    update: Update
    grade: recipe.Grade


def prepare(config: Config) -> Run:
    """Check the config and build what it describes; ValueError names the field."""
    check(config)
    tasks = tuple(jsharp.tasks.load(name) for name in config.tasks)
    horizon = config.max_completion_length
    tokenizer = demonstrations.tokenizer_of(tasks)
    for task in tasks:
        demonstrations.check_horizon(task, tokenizer, horizon)
        if config.eval_prompts > (most := len(task.held_out)):
            raise ValueError(
                f"eval_prompts: expected at most the {most} held-out problems of "
                f"{task.name}, got {config.eval_prompts}"
            )
    lessons = tuple(demonstrations.lesson(task, tokenizer) for task in tasks)
    longest = horizon + max(each.prompt_length for each in lessons)
    model = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_attention_heads,
        max_position_embeddings=max(128, -(-longest // 64) * 64),
        tie_word_embeddings=True,
        eos_token_id=END,
        pad_token_id=END,
    )
    policy = transformer_policy(model, horizon=horizon, end=(END,), pad=END)
    greedy = greedy_decoder(model, horizon=horizon, end=(END,), pad=END)
    grade = recipe.grader(policy, greedy, tokenizer, end=END, n=config.num_generations)
    schedule, update = _optimizer(config)
    return Run(config, lessons, tokenizer, model, policy, schedule, update, grade)


def _optimizer(config: Config) -> tuple[optax.Schedule, Update]:
    """AdamW on a linear warm-up and a cosine to a tenth; decay on matrices only."""
    ramp = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.max_steps,
        end_value=0.1 * config.learning_rate,
    )
    schedule = lambda count: ramp(count + 1)  # a first step at rate 0 teaches nothing
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    adamw = optax.adamw(
        schedule, b2=0.95, weight_decay=config.weight_decay, mask=matrices
    )
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    return schedule, gradient(optax.chain(clip, adamw))


def batch(run: Run, step: int) -> tuple[Prompts, Response]:
    """The demonstrations of one step, a function of the config's seed and the step."""
    config = run.config
    return demonstrations.batch(
        step,
        run.lessons,
        run.tokenizer,
        seed=config.seed,
        weights=config.weights,
        batch_size=config.batch_size,
        end=END,
    )


def make_step(run: Run) -> Callable[..., tuple[UpdateState, UpdateInfo]]:
    """step(state, prompts, response) -> (state, info), jitted; it donates the state."""

    def step(state: UpdateState, prompts: Prompts, response: Response):
        def loss(params: Params) -> Array:
            return -run.policy.log_prob(params, prompts, response).sum()

        return run.update.step(state, loss, count=response.length.sum())

    return jax.jit(step, donate_argnums=0)


def init(run: Run) -> UpdateState:
    """The state before the first step; data need nothing but the step's number."""
    return run.update.init(run.policy.init(jax.random.key(run.config.seed)))


def main(argv: Sequence[str] | None = None) -> int:
    """`jsharp pretrain` on these arguments; the exit status."""
    return pretrain(tyro.cli(Config, args=argv, prog="jsharp pretrain"))


def pretrain(config: Config) -> int:
    """Train to the end, or until told to stop; the exit status.

    0 done, 1 failed at work, 2 refused, 143 told to stop (130: by Ctrl-C).
    """
    try:
        run = prepare(config)
        run_directory.claim(config.output_dir, identity(config), resume=config.resume)
        state = init(run)
        saved = checkpoint.restore(config.output_dir / CHECKPOINTS, state)
        step, state = saved or (0, state)
    except (ValueError, OSError) as error:
        print(f"jsharp pretrain: {error}", file=sys.stderr)
        return 2
    run_directory.forget_after(config.output_dir, step)
    try:
        with stop_on_signal() as stop:
            step, state = train(run, step, state, stop)
    except FloatingPointError as error:
        print(f"jsharp pretrain: {error}", file=sys.stderr)
        return 1
    if step < config.max_steps:
        print(f"saved at step {step}; run the same command to go on", file=sys.stderr)
        return stop.status
    export(run, step, state.params, config.output_dir / "hf")
    return 0


def train(
    run: Run, step: int, state: UpdateState, stop: threading.Event
) -> tuple[int, UpdateState]:
    """Steps up to max_steps, or until `stop` is set; ends with a checkpoint.

    Raises FloatingPointError, naming the step, where the loss or its gradient is not
    finite.
    """
    config, advance = run.config, make_step(run)
    clock = run_directory.started()
    with _progress() as bar:
        row = bar.add_task("pretrain", total=config.max_steps, completed=step)
        while step < config.max_steps and not stop.is_set():
            prompts, response = batch(run, step)
            state, info = advance(state, prompts, response)
            step += 1
            if not math.isfinite(info.loss + info.grad_norm):
                raise FloatingPointError(
                    f"step {step}: the loss is {info.loss} and its gradient's norm "
                    f"{info.grad_norm}; the last checkpoint is from before"
                )
            clock = clock.tick(int(prompts.length.sum() + response.length.sum()))
            clock = _report(run, step, state, info, clock)
            bar.update(row, completed=step, description=f"loss {info.loss:.4f}")
    _save(config, step, state)
    return step, state


def _report(
    run: Run,
    step: int,
    state: UpdateState,
    info: UpdateInfo,
    clock: run_directory.Clock,
) -> run_directory.Clock:
    """Log, evaluate and save, each where it is due after this step."""
    config = run.config
    due = lambda every: step % every == 0 or step == config.max_steps
    if due(config.logging_steps):
        line = {
            "step": step,
            "loss": float(info.loss),
            "learning_rate": float(jnp.asarray(run.schedule(step - 1))),
            "grad_norm": float(info.grad_norm),
            **clock.read(),
        }
        run_directory.append(config.output_dir, line)
        clock = run_directory.started()
    if due(config.eval_steps):
        line = {"step": step, **_evaluate(run, state.params)}
        run_directory.append(config.output_dir, line)
        clock = run_directory.started()
    if due(config.save_steps):
        _save(config, step, state)
    return clock


def export(run: Run, step: int, params: Params, directory: Path) -> None:
    """The model, its tokenizer, its recipe and its card, in the Hugging Face layout."""
    config = run.config
    huggingface.save(directory, run.model, params, end=(END,), pad=END)
    run.tokenizer.save(directory)
    key = jax.random.key(config.seed)
    held_out = {
        each.task.name: {
            "prompts": len(each.task.held_out),
            "n": config.num_generations,
            **run.grade(key, params, each, each.task.held_out),
        }
        for each in run.lessons
    }
    made = {
        "command": command(config),
        "seed": config.seed,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "training_seconds": round(run_directory.training_seconds(config.output_dir)),
        "held_out": held_out,
        **surroundings(),
    }
    recipe.write(directory, made)


def _save(config: Config, step: int, state: UpdateState) -> None:
    directory, keep = config.output_dir / CHECKPOINTS, config.save_total_limit
    checkpoint.save(directory, step, state, keep=keep)


def _evaluate(run: Run, params: Params) -> dict[str, float]:
    key, count = jax.random.key(run.config.seed), run.config.eval_prompts
    grades = {
        each.task.name: run.grade(key, params, each, each.task.held_out[:count])
        for each in run.lessons
    }
    return {f"eval/{t}/{k}": v for t, at in grades.items() for k, v in at.items()}


def _progress() -> progress.Progress:
    return progress.Progress(
        *progress.Progress.get_default_columns(),
        progress.MofNCompleteColumn(),
        console=Console(stderr=True),
    )
