"""The language-model engine against torch on the same weights, work and cores.

    python -m experiments.benchmarks.engine                      about an hour
    python -m experiments.benchmarks.engine --sizes small --work sample --profile
    python -m experiments.benchmarks.engine --quick              a smoke test

Every side has a process of its own, because two thread pools in one process get in each
other's way and because only so is a peak of memory one side's. The processes of a work
are started, then run in turn, one at a time on the same cores; a ratio is the median of
the ratios of paired runs, after a run that does not count. The speed of matrix products
and of memory is measured in the same turns, so that the limit has the same weather.
Peers need `pip install "jsharp[hf]"`, trl for its trainer and peft for LoRA; those
missing are left out by name. Writes engine.json and engine.md beside this file, or as
--out says, after each work; killed and run again, it goes on behind the last written.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.benchmarks import engine_jax, engine_model
from experiments.benchmarks.engine_goals import Group, groups
from experiments.benchmarks.engine_model import SIZES, Size
from experiments.benchmarks.engine_report import (
    MIB,
    Bound,
    Found,
    Limit,
    Memory,
    Profile,
    agreement,
    page,
)
from experiments.benchmarks.engine_worker import Here, Worker
from experiments.benchmarks.side_by_side import Seconds, compare, cores, keep_to
from jsharp.files import read_json, write_json, write_text
from jsharp.provenance import surroundings

Sizes = Literal["tiny", "small", "medium", "bigvocab"]
Works = Literal["sample", "score", "train"]
RESULTS = Path(__file__).with_suffix(".json")
LIMITS = ("limit: jax matmul", "limit: torch matmul", "limit: copy")
ROOFLINE = "limit: roofline"
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # of what the sides must agree on


@dataclass(frozen=True)
class Config:
    """What to measure; the sizes are in `engine_model`."""

    sizes: tuple[Sizes, ...] = ("small", "medium", "bigvocab")
    work: tuple[Works, ...] = ("sample", "score", "train")
    cores: int = 1
    repeats: int = 3
    dtype: Literal["float32", "bfloat16"] = "float32"
    peers: bool = True
    profile: bool = False  # a trace of each of jsharp's programs, by part
    together: bool = False  # all in this process: quicker, but memory is nobody's
    seed: int = 0


QUICK = Config(sizes=("tiny",), repeats=1, peers=False, together=True)


class Sides(NamedTuple):
    """What answers for each side of a group: its process, or this one."""

    workers: dict[str, Worker | Here]
    limits: tuple[str, ...]

    def ask(self, side: str, what: str, **more: Any) -> dict[str, Any]:
        return self.workers[side].ask({"do": what, "side": side, **more})


def missing(peer: str) -> str | None:
    """The package that a peer needs and that is not installed."""
    needed = ["torch", "transformers"] + ["trl", "datasets"] * peer.startswith("TRL")
    needed += ["peft"] * peer.startswith("PEFT")
    absent = (name for name in needed if importlib.util.find_spec(name) is None)
    return next(absent, None)


@contextlib.contextmanager
def started(config: Config, job: dict[str, Any], group: Group, notes: list[str]):
    """The group's sides, ready to run; peers that cannot start are noted."""
    ours = [side for side, _ in group.ours.values()]
    with contextlib.ExitStack() as stack:

        def start(module: str, *sides: str) -> dict[str, Worker | Here]:
            worker = (Here if config.together else Worker)(
                module, {**job, "sides": sides}
            )
            stack.callback(worker.close)
            return dict.fromkeys(sides, worker)

        workers = {}
        limits = [LIMITS[0], LIMITS[2]]
        alone = [[side] for side in ours] + [limits]
        for sides in [ours + limits] if config.together else alone:
            workers |= start("jax", *sides)
        for peer in [*group.peers, LIMITS[1]] if config.peers else []:
            if package := missing(peer):
                notes.append(f"{peer}: left out, {package} is not installed")
                continue
            try:
                workers |= start("torch", peer)
            except RuntimeError as error:
                notes.append(f"{peer}: left out, {error}")
        yield Sides(workers, tuple(name for name in workers if name in LIMITS))


def measure(
    sides: Sides, size: Size, group: Group, notes: list[str], *, repeats: int
) -> Seconds:
    """Seconds per token, flop or byte of each side, in turns, the first left out.

    A peer that fails is noted and left out.
    """
    amount = dict.fromkeys(sides.workers, float(group.tokens))
    for name in sides.limits:
        amount[name] = 2.0 * size.matmul**3
    amount["limit: copy"] = 8.0 * size.copied  # read and written, 4 bytes each
    spent: dict[str, list[float]] = {name: [] for name in sides.workers}
    for i in range(repeats + 1):
        for name in list(spent):
            try:
                seconds = sides.ask(name, "run", i=i)["seconds"]
            except RuntimeError as error:
                if name not in group.peers:
                    raise
                notes.append(f"{name}: left out, {error}")
                del spent[name]
            else:
                spent[name].append(seconds / amount[name])
    return {name: np.array(found[1:]) for name, found in spent.items()}


def run_group(
    config: Config, job: dict[str, Any], name: str, group: Group, found: Found
) -> None:
    """One group's rows, memory and checks, added to what was found."""
    size, notes = Size(**job["size"]), found.notes
    work = f"{name}: {', '.join(group.ours)}"
    print(f"{work} ...", file=sys.stderr, flush=True)
    with started(config, job, group, notes) as sides:
        seconds = measure(sides, size, group, notes, repeats=config.repeats)
        done = [x for x in seconds if x not in sides.limits]
        memory = {x: Memory(name, x, **sides.ask(x, "memory")) for x in done}
        checks = {x: sides.ask(x, "check")["values"] for x in done}
        if config.profile:
            for way, (side, _) in group.ours.items():
                parts = sides.ask(side, "profile")["parts"]
                found.profiles.append(Profile(f"{name}: {way}", parts))
    products = [seconds[x] for x in sides.limits if "matmul" in x]
    flops, bandwidth = 1 / np.min(products, axis=0), 1 / seconds["limit: copy"]
    for way, (side, phases) in group.ours.items():
        pairs = zip(flops, bandwidth, strict=True)
        least = [engine_model.seconds(phases, *pair) / group.tokens for pair in pairs]
        beside = {x: seconds[x] for x in (side, *group.peers) if x in seconds}
        beside[ROOFLINE] = np.array(least)
        aims = dict(group.peers)
        if group.roofline is not None:
            aims[ROOFLINE] = group.roofline
        found.rows += compare(f"{name}: {way}", "tokens", beside, aims, ours=side)
        if not config.together:
            found.bounds += bounds(f"{name}: {way}", side, group, memory)
    if not config.together:
        found.memory += memory.values()
    within = TOLERANCE[config.dtype]
    found.checks += agreement(name, checks, within, distances="sampling" in group.ours)
    found.limits.append(
        Limit(work, float(np.median(flops)), float(np.median(bandwidth)))
    )


def bounds(
    work: str, side: str, group: Group, memory: Mapping[str, Memory]
) -> Iterator[Bound]:
    """What jsharp's memory should not exceed, beside the peers that ran."""
    for peer, most in group.peak.items():
        if peer in memory:
            ratio = memory[side].whole / memory[peer].whole
            yield Bound(work, f"whole peak over {peer}'s", ratio, most, ratio <= most)
    if group.extra is not None:
        extra, most = memory[side].extra / MIB, group.extra / MIB
        yield Bound(work, "MiB above the loaded model", extra, most, extra <= most)


def sized(name: Sizes) -> Size:
    """A GPU needs more to reach its limits."""
    size = SIZES[name]
    if jax.default_backend() == "cpu":
        return size
    return replace(size, matmul=8192, copied=2**28, peer_batch=4 * size.peer_batch)


def earlier(config: Config, out: Path | None) -> tuple[Found, float]:
    """What `out` holds of this configuration, and the seconds that it took.

    Raises ValueError where it holds figures of another one.
    """
    if out is None or not out.exists():
        return Found(), 0.0
    raw = read_json(out)
    for key, wanted in asdict(config).items():
        same = raw["config"][key] == wanted
        if not same and key not in ("sizes", "work"):  # they say which, not how
            raise ValueError(
                f"{out}: {key}: expected {wanted!r}, found {raw['config'][key]!r}; "
                "remove the file or choose another --out"
            )
    return Found.from_dict(raw), raw["seconds"]


def run(config: Config, out: Path | None) -> Found:
    """All works in turn; after each the figures so far are written to `out`.

    Works whose figures are there already are not measured again.
    """
    found, spent = earlier(config, out)
    began = time.perf_counter() - spent
    measured = {row.work for row in found.rows}
    facts = {**surroundings(), "cores": cores(), "config": asdict(config)}
    facts["seconds"] = round(spent, 1)
    facts["versions"] |= peer_versions()
    item = 2 if config.dtype == "bfloat16" else 4
    for name in config.sizes:
        size = sized(name)
        with tempfile.TemporaryDirectory() as directory:
            model = engine_model.transformer_config(size, config.dtype)
            engine_jax.prepare(Path(directory), model, size, config.seed)
            job = {"size": asdict(size), "dtype": config.dtype, "seed": config.seed}
            job |= {"directory": directory, "cores": cores()}
            for group in (g for work in config.work for g in groups(size, work, item)):
                if {f"{name}: {way}" for way in group.ours} <= measured:
                    continue
                run_group(config, job, name, group, found)
                facts["seconds"] = round(time.perf_counter() - began, 1)
                if out is not None:
                    write_json(out, {**facts, **found.as_dict()})
                    write_text(out.with_suffix(".md"), page(found, **facts))
    print(page(found, **facts))
    missed = ", ".join(found.missed()) or "none"
    print(f"{facts['seconds']} s; goals missed: {missed}")
    return found


def peer_versions() -> dict[str, str]:
    names = ("torch", "transformers", "trl", "peft")
    here = (name for name in names if importlib.util.find_spec(name))
    return {name: metadata.version(name) for name in here}


def main(config: Config, quick: bool = False, out: Path | None = None) -> None:
    """Measure, print the page, write it beside its numbers.

    Args:
        config: what to measure.
        quick: a tiny size without peers: a smoke test, no measurement; written only
            where `out` says.
        out: where the numbers go, the page beside them; default engine.json here.
    """
    # jax would otherwise take three quarters of a GPU for each process.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["HF_HUB_OFFLINE"] = "1"
    keep_to(config.cores)
    run(QUICK if quick else config, out if quick else out or RESULTS)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
