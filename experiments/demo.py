"""`jsharp demo`: the paper's story on real input, in under 3 minutes on 2 CPU cores.

claims verified -> 16 responses to held-out prompts of the embedded model -> selection
compared -> a short SFT-sharpening -> compared again -> m against eps -> one HTML page.

    jsharp demo                      everything, into demo-out/index.html
    jsharp demo --quick              a quarter of the prompts and steps, for CI

Each stage writes its file whole; run again after an interruption, it goes on behind the
last finished one and ends with the same bytes.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import demo_figures, page
from experiments.generate import SCORED, Model, generate, samples
from experiments.stages import Stages, claim_directory
from jsharp import files, loop, update
from jsharp.evaluate import best_of_k_curve, compare, paired_gain
from jsharp.lm import embedded, huggingface
from jsharp.policy import freeze
from jsharp.sft import sft
from jsharp.stats import loglog_slope
from jsharp.tasks import load as load_task
from theory import curves, verdicts, verify

LEVEL = 0.05  # every interval of the demo is a 95% interval


@dataclasses.dataclass(frozen=True)
class Config:
    """Verify the claims, sharpen the embedded model, show it all on one page."""

    output_dir: Annotated[Path, tyro.conf.Positional] = Path("demo-out")
    task: str = "game24"  # or arithmetic: any task the embedded model knows
    seed: int = 0
    prompts: int = 128  # held-out problems to evaluate on
    num_generations: int = 16  # N, responses per prompt
    max_completion_length: int = 40  # tokens; longer responses are cut and wrong
    max_steps: int = 24  # of SFT-sharpening, each on fresh training prompts
    batch_size: int = 32  # prompts per step and per sampling call
    updates_per_step: int = 4  # gradient steps on each batch of selected responses
    learning_rate: float = 1e-4  # its peak: a tenth is warm-up, then a cosine to 0
    quick: bool = False  # a quarter of the prompts and of the steps

    def resolved(self) -> "Config":
        """The configuration that runs: sizes quartered under `quick`."""
        if not self.quick:
            return self
        return dataclasses.replace(
            self,
            prompts=-(-self.prompts // 4),
            max_steps=-(-self.max_steps // 4),
            batch_size=-(-self.batch_size // 4),
        )


LIMITS = {  # field: least and largest value that makes sense
    "prompts": (1, 10**6),
    "max_steps": (1, 10**6),
    "batch_size": (1, 10**4),
    "updates_per_step": (1, 10**4),
    "num_generations": (2, 10**4),
    "max_completion_length": (1, 512),
    "seed": (0, 2**31 - 1),
}


def check(config: Config) -> None:
    """Refuse what cannot run, before anything does."""
    for name, (least, most) in LIMITS.items():
        if not least <= (value := getattr(config, name)) <= most:
            raise ValueError(f"{name}: expected {least} to {most}, found {value}")
    if not 0 < config.learning_rate < np.inf:
        raise ValueError(
            f"learning_rate: expected a finite number above 0, found "
            f"{config.learning_rate}"
        )
    held_out = len(load_task(config.task).held_out)
    if config.prompts > held_out:
        raise ValueError(
            f"prompts: {config.task} has {held_out} held-out problems, "
            f"found {config.prompts}"
        )
    if config.prompts % config.batch_size:
        raise ValueError(
            f"prompts: expected a multiple of batch_size={config.batch_size}, "
            f"found {config.prompts}"
        )


def write_claims(path: Path, config: Config) -> None:
    """Verify the claims; their table goes to standard output."""
    records = [verify.record(report) for report in verify.run(config.seed)]
    Console().print(verdicts.table(records))
    files.write_json(path, records)


def write_responses(
    path: Path, config: Config, model: Model, params: Any, stages: Stages
) -> None:
    """Sample held-out prompts from `params`, scored under the base; JSONL."""
    task = load_task(config.task)
    # The same uniforms for both models: their difference is a paired one.
    key = jax.random.key(config.seed)
    problems = task.held_out[: config.prompts]
    with stages.track("  prompts", len(problems)) as progress:

        def records():
            for some in generate(
                key,
                model,
                params,
                task,
                problems,
                n=config.num_generations,
                batch=config.batch_size,
            ):
                yield from some
                progress.advance(progress.task_ids[0], config.batch_size)

        files.write_lines(path, records())


def sharpen(directory: Path, config: Config, model: Model, stages: Stages) -> None:
    """SFT-sharpening on training prompts; writes the model, and its log inside."""
    task = load_task(config.task)
    rng = np.random.default_rng((config.seed, 1))
    size = config.batch_size
    chosen = rng.permutation(len(task.train))[: config.max_steps * size]
    problems = [task.train[i] for i in chosen]
    batches = [
        model.prompts(task, problems[start : start + size])
        for start in range(0, len(problems), size)
    ]
    total = config.max_steps * config.updates_per_step
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(total // 10, 1), total
    )
    tune = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
    algorithm = sft(
        model.policy,
        freeze(model.policy, model.params),
        update.gradient(tune, steps=config.updates_per_step),
        n=config.num_generations,
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    state = algorithm.init(model.params, batches[0])
    log = []
    with stages.track("  steps", len(batches)) as progress:
        for step, new, info in loop.iterate(key, algorithm, state, batches):
            state = new
            log.append(
                {"step": step} | {k: float(v) for k, v in info._asdict().items()}
            )
            progress.advance(progress.task_ids[0])
    partial = directory.with_name(directory.name + ".partial")
    huggingface.save(partial, model.config, state.params, end=model.end, pad=model.pad)
    model.tokenizer.save(partial)
    files.write_lines(partial / "training.jsonl", log)
    partial.rename(directory)


def write_metrics(path: Path, config: Config, base: Path, sharpened: Path) -> None:
    """Every comparison with its interval, from the two response files alone."""
    before, after = (samples(list(files.read_lines(p))) for p in (base, sharpened))
    kind = {"level": LEVEL, "seed": config.seed}
    rows = lambda s: [
        {
            "name": row.name,
            "accuracy": row.mean["accuracy"],
            "lift_over_greedy": row.gain,
            "log_prob": row.mean["log_prob"].estimate
            if "log_prob" in row.mean
            else None,
        }
        for row in compare(s, **kind)
    ]
    curve = best_of_k_curve(before, SCORED[0], **kind)
    gain = lambda get: paired_gain(get(before), get(after), **kind)
    files.write_json(
        path,
        {
            "level": LEVEL,
            "base": rows(before),
            "sharpened": rows(after),
            "gain": {
                "one sample, accuracy": gain(lambda s: s.correct.mean(1)),
                "greedy, accuracy": gain(lambda s: s.greedy_correct),
                "one sample, log pi_base": gain(lambda s: s.log_prob.mean(1)),
            },
            "best_of_k": {
                "k": curve.k.tolist(),
                "accuracy": curve.accuracy,
                "log_prob": curve.log_prob.tolist(),
            },
        },
    )


def write_curve(path: Path) -> None:
    """m against eps on the exact laws, fixed and adaptive N, and both slopes."""
    eps = np.logspace(-1, -3, 9)
    goal = {"c_cov": 10.0, "delta": 0.1, "class_size": 1024.0, "rho": 0.05}
    with jax.enable_x64(True):
        curve = jax.tree.map(
            np.asarray, curves.queries_against_eps(jnp.asarray(eps), **goal)
        )
    slope = lambda cost: loglog_slope(curve.eps, cost.m, level=LEVEL)
    files.write_json(
        path,
        {
            "goal": goal,
            "eps": curve.eps.tolist(),
            "fixed": {"m": curve.fixed.m.tolist(), "N": curve.fixed.N.tolist()},
            "adaptive": {
                "m": curve.adaptive.m.tolist(),
                "N": curve.adaptive.N.tolist(),
            },
            "slope": {
                "level": LEVEL,
                "fixed": slope(curve.fixed),
                "adaptive": slope(curve.adaptive),
                "theory": [curves.FIXED_SLOPE, curves.ADAPTIVE_SLOPE],
            },
        },
    )


def show(metrics: dict[str, Any]) -> None:
    """Print how often each way of picking is right, and what sharpening changed."""
    table = Table(
        title="held-out accuracy, 95% intervals over prompts",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("policy, picked by", no_wrap=True)
    for name in ("accuracy, %", "minus greedy", "log pi"):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in ("base", "sharpened"):
        table.add_row(f"[bold]{policy}")
        for row in metrics[policy]:
            table.add_row(
                f" {row['name']}",
                page.percent(row["accuracy"]),
                page.percent(row["lift_over_greedy"]),
                "" if row["log_prob"] is None else f"{row['log_prob']:.2f}",
            )
    console = Console(highlight=False)
    console.print(table)
    for name, gain in page.gains(metrics):
        console.print(f"sharpened minus base, {name}: {gain}", markup=False)


def run(config: Config, console: Console) -> Path:
    """All stages in order; returns the page."""
    stages = Stages(config.output_dir, console)
    stages.run("claims.json", "Claims", lambda p: write_claims(p, config))
    model = Model.load(embedded.directory(), horizon=config.max_completion_length)
    base = stages.run(
        "responses-base.jsonl",
        f"{config.num_generations} responses to each of {config.prompts} prompts",
        lambda p: write_responses(p, config, model, model.params, stages),
    )
    sharpened_dir = stages.run(
        "sharpened",
        f"SFT-sharpening, {config.max_steps} steps of {config.batch_size} prompts",
        lambda p: sharpen(p, config, model, stages),
    )
    params = huggingface.load(sharpened_dir).params
    sharpened = stages.run(
        "responses-sharpened.jsonl",
        "The same prompts to the sharpened model",
        lambda p: write_responses(p, config, model, params, stages),
    )
    metrics = stages.run(
        "metrics.json",
        "Comparison",
        lambda p: write_metrics(p, config, base, sharpened),
    )
    show(files.read_json(metrics))
    stages.run("curve.json", "Queries against eps, exact laws", write_curve)
    stages.run("figures", "Figures", lambda p: demo_figures.draw(config.output_dir, p))
    return stages.run("index.html", "Page", lambda p: page.write(p, config.output_dir))


def main(args: list[str]) -> int:
    """Entry of `jsharp demo`; 2 where the request is refused."""
    config = tyro.cli(Config, prog="jsharp demo", description=__doc__, args=args)
    console = Console(stderr=True)
    start = time.monotonic()
    try:
        check(config)
        config = config.resolved()
        check(config)
        identity = dataclasses.asdict(config)
        del identity["output_dir"]  # a folder may move
        claim_directory(config.output_dir, identity)
    except (ValueError, OSError) as error:
        print(f"jsharp demo: {error}", file=sys.stderr)
        return 2
    index = run(config, console)
    print(f"{index} after {time.monotonic() - start:.0f} s")
    return 0
