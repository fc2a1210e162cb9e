"""The jitted simulator against NumPy on the same work, on the same cores.

    python -m experiments.benchmarks.simulator              about a minute
    python -m experiments.benchmarks.simulator --quick      a smoke test

Both sides run in this process, alternately, after a warm-up; a ratio is the median of
the ratios of paired runs. On a machine with a GPU the simulator runs there and NumPy
beside it. Writes simulator.json and simulator.md beside this file, or as --out says.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks import simulator_numpy as peers
from experiments.benchmarks.side_by_side import (
    Row,
    Seconds,
    Side,
    compare,
    cores,
    keep_to,
    measure,
    table,
)
from jsharp.files import write_json, write_text
from jsharp.provenance import surroundings
from jsharp.tabular import prompts_of
from theory import simulator


@dataclass(frozen=True)
class Config:
    """Sizes of the work; the table and N are those of the project's goals."""

    prompts: int = 64
    responses: int = 1024
    n: int = 64
    growth: tuple[int, ...] = (1, 16, 256, 4096, 65536)
    delta: float = 0.05  # adaptive stopping at mu = ln(2/delta)
    trials: int = 4096  # of the simulator, per run
    loop_trials: int = 32  # of the loops that draw everything
    fit_responses: int = 64  # 64 x 64 cells
    members: int = 4096
    data: int = 1024  # prompts of one replication
    replications: int = 512
    runs: int = 256  # of XPO
    rounds: int = 64
    run_prompts: int = 8
    run_responses: int = 32
    run_members: int = 1024
    repeats: int = 7
    cores: int = 1
    seed: int = 0


QUICK = Config(
    prompts=4,
    responses=32,
    growth=(1, 65536),
    trials=64,
    loop_trials=4,
    fit_responses=8,
    members=48,
    data=64,
    replications=16,
    runs=8,
    rounds=4,
    run_prompts=2,
    run_responses=4,
    run_members=8,
    repeats=5,
)


RESULTS = Path(__file__).with_suffix(".json")


def _generator(config: Config) -> np.random.Generator:
    return np.random.default_rng(config.seed)


def _table(config: Config, x: int, y: int) -> np.ndarray:
    """A heavy-tailed table [X Y], sorted by nothing."""
    return _generator(config).dirichlet(np.full(y, 0.3), size=x).astype(np.float32)


def _keyed(config: Config, function: Callable) -> Callable:
    """jit function(key, *arrays) as run(i, *arrays), with a key for each run."""
    return jax.jit(
        lambda i, *arrays: function(
            jax.random.fold_in(jax.random.key(config.seed), i), *arrays
        )
    )


def best_of_n(config: Config) -> list[Row]:
    """One trial is one best-of-N response to each prompt."""
    pi = _table(config, config.prompts, config.responses)
    tables, rng = peers.prepare(pi), _generator(config)
    ranked = jax.jit(simulator.rank)(pi, pi)
    shape, many, few = pi.shape[:1], config.trials, config.loop_trials
    draw = _keyed(
        config, lambda key, table, n: simulator.best_of_n(key, table, n=n, trials=many)
    )
    alone = _keyed(
        config, lambda key: jax.random.exponential(key, (*shape, many), jnp.float32)
    )
    sides = {
        "simulator": Side(lambda i: draw(i, ranked, float(config.n)), many),
        "NumPy, order statistic": Side(
            lambda i: peers.order_statistic(rng, tables, config.n, many), many
        ),
        "NumPy, least of N uniforms": Side(
            lambda i: peers.least_of_uniforms(rng, tables, config.n, few), few
        ),
        "NumPy, draw loop": Side(
            lambda i: peers.draw_loop(rng, tables, config.n, few), few
        ),
        "limit: its uniforms alone": Side(alone, many),
    }
    seconds = measure(sides, repeats=config.repeats)
    goals = {"NumPy, draw loop": 100.0}
    rows = compare(f"best of {config.n}", "trials", seconds, goals)
    at = lambda n: Side(lambda i: draw(i, ranked, float(n)), many)
    grown = measure({str(n): at(n) for n in config.growth}, repeats=config.repeats)
    return rows + _growth(grown, config)


def _growth(seconds: Seconds, config: Config) -> list[Row]:
    """The cost at each N over that at the first, which must not exceed 1.1."""
    one, *others = map(str, config.growth)
    rows = []
    for n in others:
        cost = compare("", "", seconds, ours=one)
        row = next(r for r in cost if r.peer == n)
        met = row.ratio <= 1.1
        rate = float(1 / np.median(seconds[n]))
        rows.append(
            Row(
                f"cost at N = {n}", "trials", rate, f"N = {one}", row.rate, row.ratio
            )._replace(goal="ratio <= 1.1", met=met)
        )
    return rows


def adaptive(config: Config) -> list[Row]:
    """One trial is one response and one N_mu for each prompt."""
    pi = _table(config, config.prompts, config.responses)
    mu, rng = float(np.log(2 / config.delta)), _generator(config)
    tables = peers.prepare(pi)
    rule = peers.prepare_rule(tables, mu)
    prepared = jax.jit(lambda pi: simulator.stopping(pi, mu_threshold=mu))(pi)
    many, few = config.trials, config.loop_trials
    draw = _keyed(config, lambda key, rule: simulator.adaptive(key, rule, trials=many))
    shape = (2, len(pi), many)
    alone = _keyed(config, lambda key: jax.random.uniform(key, shape, jnp.float32))
    sides = {
        "simulator": Side(lambda i: draw(i, prepared), many),
        "NumPy, inversion": Side(
            lambda i: peers.adaptive_inversion(rng, tables, rule, many), many
        ),
        "NumPy, records only": Side(
            lambda i: peers.adaptive_records(rng, tables, rule, 8 * few), 8 * few
        ),
        "NumPy, blocks of draws": Side(
            lambda i: peers.adaptive_blocks(rng, tables, rule, few, block=64), few
        ),
        "limit: its uniforms alone": Side(alone, many),
    }
    seconds = measure(sides, repeats=config.repeats)
    rows = compare("adaptive stopping", "trials", seconds)
    goal = {"goal": ">= 30,000 trials/s", "met": rows[0].rate >= 30_000}
    return [
        row._replace(**goal) if row.peer == "NumPy, records only" else row
        for row in rows
    ]


def exact_laws(config: Config) -> list[Row]:
    """One law is pi^BoN_N of all prompts, from sorted tables and from scratch."""
    pi = _table(config, config.prompts, config.responses)
    tables, n = peers.prepare(pi), float(config.n)
    on_device = jnp.asarray(pi)
    ranked = jax.jit(simulator.rank)(pi, pi)
    law = jax.jit(lambda table, n: simulator.best_of_n_places(table, n=n))
    fresh = jax.jit(
        lambda pi, n: simulator.best_of_n_places(simulator.rank(pi, pi), n=n)
    )
    add = jax.jit(lambda table: table.low + table.height + table.share)
    times = range(16)
    sides = {
        "simulator": Side(lambda i: [law(ranked, n) for _ in times], len(times)),
        "NumPy": Side(lambda i: [peers.law(tables, n) for _ in times], len(times)),
        "limit: its bytes, added": Side(
            lambda i: [add(ranked) for _ in times], len(times)
        ),
    }
    rows = compare(
        "exact law, sorted",
        "laws",
        measure(sides, repeats=config.repeats),
    )
    sides = {
        "simulator": Side(lambda i: fresh(on_device, n), 1),
        "NumPy": Side(lambda i: peers.law(peers.prepare(pi), n), 1),
    }
    seconds = measure(sides, repeats=config.repeats)
    return rows + compare("exact law, unsorted", "laws", seconds)


def _class(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A base table, the members' tables near it, and mu, uniform."""
    rng, y = _generator(config), config.fit_responses
    pi = _table(config, config.prompts, y)
    noise = rng.normal(size=(config.members, *pi.shape)).astype(np.float32)
    members = jax.nn.softmax(np.log(pi + 1e-6) + noise / 2)
    mu = np.full(config.prompts, 1 / config.prompts, np.float32)
    return pi, np.asarray(members), mu


def likelihood(config: Config) -> list[Row]:
    """One fit is one maximum-likelihood member; replications also draw their data."""
    pi, members, mu = _class(config)
    rng, count = _generator(config), config.replications
    rank = jax.jit(simulator.rank)
    table, prompts = rank(pi, pi), rank(mu[None], mu[None])
    logs = simulator.log_likelihoods(jnp.asarray(members))
    loss = jnp.linspace(0.0, 1.0, config.members)
    sizes = {"n": config.data, "draws": float(config.n)}
    one = lambda key: simulator.counts(key, table, prompts, **sizes)
    seen = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), count))
    fit = jax.jit(simulator.maximum_likelihood)
    bare = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    host_seen, host_logs = np.asarray(seen), np.asarray(logs)
    sides = {
        "simulator": Side(lambda i: fit(seen, logs), count),
        "limit: its matrix product": Side(lambda i: bare(seen, logs), count),
        "NumPy": Side(lambda i: (host_seen @ host_logs).argmax(1), count),
    }
    seconds = measure(sides, repeats=config.repeats)
    goals = {"limit: its matrix product": 0.95}
    rows = compare(f"fit of {config.members} members", "fits", seconds, goals)

    replicate = _keyed(
        config,
        lambda key, *arrays: simulator.replicate_sft(
            key, *arrays, **sizes, replications=count
        ),
    )
    places = np.asarray(simulator.best_of_n_places(table, n=float(config.n)))
    cells = np.zeros_like(pi, np.float64)
    np.put_along_axis(cells, np.asarray(table.response), places[:, : pi.shape[1]], 1)
    cells = (mu[:, None] * cells).ravel() / (mu[:, None] * cells).sum()
    arrays = (table, prompts, logs, loss)
    sides = {
        "simulator": Side(lambda i: replicate(i, *arrays), count),
        "NumPy, multinomial of the exact law": Side(
            lambda i: peers.multinomial_fit(rng, cells, host_logs, config.data, count),
            count,
        ),
    }
    seconds = measure(sides, repeats=config.repeats)
    (row,) = compare("SFT replications", "replications", seconds)
    ten = 10_000 / row.rate
    goal = "10,000 within 10 s"
    return [*rows, row._replace(goal=goal, met=ten <= 10)]


def xpo(config: Config) -> list[Row]:
    """One run is T rounds of Alg 1 over K members."""
    rng, runs = _generator(config), config.runs
    shape = (config.run_prompts, config.run_responses)
    base = _table(config, *shape) + np.float32(1e-6)
    alpha, beta = 0.1, 0.5
    noise = rng.normal(size=(config.run_members, *shape)).astype(np.float32)
    members = np.asarray(jax.nn.softmax(np.log(base) * (1 + 1 / beta) + noise))
    x = rng.integers(config.run_prompts, size=config.rounds)
    prompts = jax.vmap(prompts_of)(jnp.asarray(x, jnp.int32)[:, None])
    rates = {"alpha": alpha, "beta": beta}
    run = _keyed(
        config,
        lambda key, *arrays: (
            simulator.xpo_runs(jax.random.split(key, runs), *arrays, **rates)[0].params
        ),
    )
    total = jnp.zeros((runs, config.run_members), jnp.float32)
    passes = jax.jit(
        lambda total, step: jax.lax.fori_loop(
            0, config.rounds, lambda _, all_: all_ + step, total
        )
    )
    sides = {
        "simulator": Side(lambda i: run(i, base, members, prompts), runs),
        "NumPy, all runs at once": Side(
            lambda i: peers.xpo_runs(rng, base, members, x, **rates, runs=runs), runs
        ),
        "limit: adding up the losses": Side(lambda i: passes(total, total + i), runs),
    }
    seconds = measure(sides, repeats=config.repeats)
    return compare("XPO runs", "runs", seconds)


REPORT = """\
# The simulator beside NumPy

{device}, {cores} core(s) for either side, float32, medians of {repeats} alternating
runs, commit {commit}. A trial is one response to each of {prompts} prompts with
{responses} responses. Made by `python -m experiments.benchmarks.simulator`.

{table}

In rows `cost at N` the ratio is the time at that N over the time at the first. Rows
`limit` measure, in the same run, a part that cannot be saved: the ratio is the share of
its speed that the simulator reaches. What the simulator does, and so what limits it:

- best of N: one uniform, one log1p and log2 Y = {probes} probes of a sorted row for a
  draw, whatever N. A row of 4 Y bytes stays in the first cache, so that the chain of
  dependent probes, not bandwidth, takes what the uniforms leave.
- adaptive stopping: two uniforms, four logarithms and exponentials and two searches for
  each draw, whatever mu and 1/P*.
- exact law: three numbers read and one written, exp and expm1 for each cell; unsorted,
  XLA's sort comes first, which on a CPU is slower than NumPy's. A table is sorted once.
- fit: 2 C K = {gflop:.3g} GFLOP as one matrix product, C = X Y, then K comparisons.
- SFT replications: two searches and one scattered addition for each of {data} prompts,
  then a fit. The multinomial peer pays for cells instead of prompts.
- XPO runs: for each member and round two look-ups, one square and an argmin. XLA looks
  up one number at a time, on a CPU close to half of the work; NumPy copies whole rows.
"""


def run(config: Config, out: Path | None) -> list[Row]:
    """All works in turn, written to `out` and, as a page, beside it."""
    if jax.default_backend() != "cpu":
        # A GPU is not busy with less.
        config = replace(config, trials=16 * config.trials)
    started = time.perf_counter()
    rows = []
    for part in (best_of_n, adaptive, exact_laws, likelihood, xpo):
        rows += part(config)
    found = {**surroundings(), "config": asdict(config), "cores": cores()}
    found["seconds"] = round(time.perf_counter() - started, 1)
    page = REPORT.format(
        **{**asdict(config), **found},
        table=table(rows),
        probes=(config.responses - 1).bit_length(),
        gflop=2e-9 * config.prompts * config.fit_responses * config.members,
    )
    if out is not None:
        write_json(out, {**found, "rows": [row._asdict() for row in rows]})
        write_text(out.with_suffix(".md"), page)
    print(page)
    missed = [f"{r.work} beside {r.peer}" for r in rows if r.met is False]
    print(f"{found['seconds']} s; goals missed: {', '.join(missed) or 'none'}")
    return rows


def main(quick: bool = False, out: Path | None = None) -> None:
    """Measure, print the table, write it beside its numbers.

    Args:
        quick: tiny sizes: a smoke test, no measurement; written only where `out` says.
        out: where the numbers go, the page beside them; default simulator.json here.
    """
    config = QUICK if quick else Config()
    keep_to(config.cores)
    run(config, out if quick else out or RESULTS)


if __name__ == "__main__":
    tyro.cli(main)
