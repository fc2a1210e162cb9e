"""The peers do the same work as the simulator, and the script writes its figures."""

import functools
import json
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from levels import LEVEL

from experiments.benchmarks import simulator as script
from experiments.benchmarks import simulator_numpy as peers
from experiments.benchmarks.side_by_side import Row, Side, compare, measure, table
from jsharp.tabular import prompts_of
from theory import laws, simulator
from theory.claim import COMPILE_FAST, compiled

PI = np.array([[9, 4, 2, 1, 0.5], [3, 5, 1, 7, 2], [1, 20, 2, 3, 4]], np.float32)
PI /= PI.sum(1, keepdims=True)
N, MU, TRIALS = 4, 2.2, 4000

# Of XPO: six members, and a prompt for each of six rounds.
MEMBERS = np.random.default_rng(0).dirichlet(np.ones(5), (6, 3)).astype(np.float32)
X = np.array([0, 1, 2, 0, 1, 2])
RATES = {"alpha": 0.1, "beta": 0.5}


def exact():
    """The laws of the best of N, of the adaptive response and of N_mu, in float64."""
    with jax.enable_x64(True):
        pi = jnp.asarray(PI / PI.sum(1, keepdims=True), float)
        best = laws.best_of_n_law(pi, pi, n=float(N))
        response = laws.adaptive_law(pi, mu_threshold=MU).response
        k = jnp.arange(120.0)
        survival = laws.stopping_time_survival(pi, k, mu_threshold=MU)
        return tuple(map(np.asarray, (best, response, -np.diff(survival))))


def chi_square(found, law):
    """Of rows of integers against rows of laws, rare values pooled."""
    for row, expected in zip(found, law, strict=True):
        counts = np.bincount(np.asarray(row, int), minlength=len(expected))
        rare = expected * len(row) < 8
        fold = lambda a, rare=rare: np.append(a[~rare], a[rare].sum())
        counts, mean = fold(counts), fold(expected * len(row))
        kept = mean > 0
        yield ((counts - mean) ** 2 / mean.clip(1e-30))[kept].sum(), kept.sum() - 1


def statistics(*, n=N, mu=MU):
    """Every peer that draws, and XPO against the simulator's own runs."""
    rng, tables = np.random.default_rng(8), peers.prepare(PI)
    rule = peers.prepare_rule(tables, mu)
    best, response, time = exact()
    for way in (peers.draw_loop, peers.least_of_uniforms, peers.order_statistic):
        yield from chi_square(way(rng, tables, n, TRIALS), best)
    for way in (
        peers.adaptive_inversion,
        peers.adaptive_records,
        lambda *a: peers.adaptive_blocks(*a, block=3),
    ):
        found, draws = way(rng, tables, rule, TRIALS)
        yield from chi_square(found, response)
        yield from chi_square(draws - 1, time)
    yield from _fits(rng, best)
    yield from _runs(rng)


def _fits(rng, best):
    """The likeliest of 3 members on 5 prompts, against the simulator's choice."""
    cells = (best / best.sum()).ravel()
    logs, chosen = _simulated_fits()
    found = peers.multinomial_fit(rng, cells, np.asarray(logs), 5, 2000)
    yield _two_samples(found, chosen, 3)


def _runs(rng):
    found = peers.xpo_runs(rng, PI, MEMBERS, X, **RATES, runs=2000)
    yield _two_samples(found, _simulated_runs(), 7)


@functools.cache
def _simulated_fits():
    logs = simulator.log_likelihoods(jnp.stack([PI, PI[::-1], np.full_like(PI, 0.2)]))
    mu, pi = jnp.full((1, 3), 1 / 3), jnp.asarray(PI)
    sizes = {"n": 5, "draws": float(N), "replications": 2000, "batch": 500}
    replicate = compiled(partial(simulator.replicate_sft, **sizes))
    tables = compiled(simulator.rank)(pi, pi), compiled(simulator.rank)(mu, mu)
    return logs, replicate(jax.random.key(2), *tables, logs, jnp.arange(3.0))


@functools.cache
def _simulated_runs():
    prompts = jax.vmap(prompts_of)(jnp.asarray(X)[:, None])
    run = compiled(partial(simulator.xpo_runs, **RATES))
    keys = jax.random.split(jax.random.key(4), 2000)
    return run(keys, jnp.asarray(PI), jnp.asarray(MEMBERS), prompts)[0].params


def _two_samples(one, two, size):
    """Homogeneity of two samples of the same size, over the values that occur."""
    counts = np.stack(
        [np.bincount(np.asarray(a, int), minlength=size) for a in (one, two)]
    )
    counts = counts[:, counts.sum(0) >= 16]
    return ((counts[0] - counts[1]) ** 2 / counts.sum(0)).sum(), counts.shape[1] - 1


def p_value(**planted):
    total, freedom = map(sum, zip(*statistics(**planted), strict=True))
    return scipy.stats.chi2.sf(total, freedom)


@pytest.mark.statistical
def test_the_peers_do_the_same_work():
    assert p_value() > LEVEL


@pytest.mark.parametrize("planted", [{"n": N + 1}, {"mu": MU * 1.2}])
def test_other_work_is_seen(planted):
    assert p_value(**planted) < LEVEL


def test_both_exact_laws_agree():
    tables = peers.prepare(PI)
    pi = jnp.asarray(PI)
    ours = simulator.best_of_n_places(simulator.rank(pi, pi), n=64.0)[:, :5]
    np.testing.assert_allclose(peers.law(tables, 64.0), ours, rtol=1e-4, atol=1e-30)


def test_ratios_are_those_of_paired_runs():
    seconds = {
        "simulator": np.array([1.0, 2.0, 4.0]),
        "peer": np.array([3.0, 4.0, 20.0]),
        "other": np.array([1.0, 1.0, 1.0]),
    }
    first, second = compare("work", "trials", seconds, {"peer": 3.0})
    assert first == Row("work", "trials", 0.5, "peer", 0.25, 3.0, "ratio >= 3", True)
    assert second.ratio == 0.5 and second.met is None
    assert compare("w", "t", seconds, {"peer": 3.1})[0].met is False


def test_runs_alternate_and_the_first_does_not_count():
    calls = []
    sides = {
        name: Side(lambda i, name=name: calls.append((name, i)), 10) for name in "ab"
    }
    seconds = measure(sides, repeats=2)
    assert calls == [(name, i) for i in range(3) for name in "ab"]
    assert all(taken.shape == (2,) for taken in seconds.values())


def test_smoke(tmp_path, capsys, monkeypatch):
    """Every row at tiny sizes; the page and the numbers are written, on request."""
    monkeypatch.setattr(jax, "jit", partial(jax.jit, compiler_options=COMPILE_FAST))
    rows = script.run(script.QUICK, tmp_path / "simulator.json")
    found = json.loads((tmp_path / "simulator.json").read_text())
    assert [row["peer"] for row in found["rows"]] == [row.peer for row in rows]
    assert found["config"]["members"] == script.QUICK.members
    assert {"commit", "device", "versions", "cores"} <= set(found)
    page = (tmp_path / "simulator.md").read_text()
    assert table(rows) in page and page in capsys.readouterr().out
    works = {row.work for row in rows}
    assert {"best of 64", "adaptive stopping", "XPO runs", "cost at N = 65536"} <= works
    assert all(row.ratio > 0 and row.rate > 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is set on Linux only")
def test_the_process_starts_again_on_the_cores_asked_for():
    program = (
        "from experiments.benchmarks.side_by_side import cores, keep_to; "
        "keep_to(1); print(cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
