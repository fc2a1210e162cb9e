"""`jsharp verify`: attack every claim, print what holds, what fails and how tightly.

A claim known to be false as printed must fail, its repaired form must hold, and every
planted bug must be caught: anything else is an exit status of 1.
"""

import difflib
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from jsharp import files
from jsharp.provenance import surroundings
from theory import hardness, s3_limits, s4_mle, s4_rlhf, s4_sampling, s4_sft
from theory.claim import QUICK, ROUNDING, Claim, Report, examine
from theory.witness import load, replay, save

CLAIMS: tuple[Claim, ...] = (
    *s3_limits.CLAIMS,
    *s4_sampling.CLAIMS,
    *s4_mle.CLAIMS,
    *s4_sft.CLAIMS,
    *s4_rlhf.CLAIMS,
    *hardness.CLAIMS,
)


@dataclass(frozen=True)
class Config:
    """Check the paper's claims numerically: exact laws, adversarial search, witnesses.

    The exit status is 0 when every claim comes out as known, including those that are
    false as printed, and every planted bug is caught; 1 otherwise; 2 on bad input.

    Example: jsharp verify --claims "Lem 4.1'" "Thm D.1" --out verified
    """

    claims: tuple[str, ...] = ()
    """Ids from the table; a number of the paper takes all its parts. Default: all."""
    seed: int = 0
    """Seed of the searches, of the random instances and of the Monte Carlo claims."""
    json: bool = False
    """Print JSON instead of the table; an infinite value is the string "inf"."""
    out: Path | None = None
    """Folder for verify.json and the tightest instance of each claim (npz)."""
    replay: Path | None = None
    """Judge this one saved instance again, and compare both sides with the file."""


def select(names: Sequence[str]) -> tuple[Claim, ...]:
    """The claims with these ids or paper numbers, all of them for no name.

    Raises ValueError for a name that selects nothing.
    """
    known = {claim.id for claim in CLAIMS} | {claim.paper_id for claim in CLAIMS}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (perhaps {near[0]!r})" if near else ""
            raise ValueError(
                f"expected claims among {sorted(known)}, found {name!r}{hint}"
            )
    chosen = lambda claim: {claim.id, claim.paper_id} & set(names)
    return tuple(claim for claim in CLAIMS if not names or chosen(claim))


def run(
    seed: int,
    claims: Sequence[Claim] = CLAIMS,
    *,
    on_done: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Examine each claim in float64; a claim's key depends on its id and the seed only.

    `on_done` hears of each report as it comes.
    """
    reports = []
    with jax.enable_x64(True):
        for claim in claims:
            tag = zlib.crc32(claim.id.encode())
            key = jax.random.fold_in(jax.random.key(seed), tag)
            reports.append(examine(key, claim, effort=QUICK))
            on_done(reports[-1])
    return reports


def record(report: Report) -> dict[str, Any]:
    """A report as plain JSON values."""
    claim, verdict = report.claim, report.verdict
    return {
        "claim": claim.id,
        "statement": claim.statement,
        "kind": claim.kind,
        "repairs": claim.repairs,
        "expected": claim.expected,
        "outcome": verdict.outcome,
        "as_expected": report.as_expected,
        "left": _finite(verdict.left),
        "right": _finite(verdict.right),
        "tightness": _finite(verdict.tightness),
        "level": verdict.level,
        "instances": verdict.instances,
        "queries": verdict.queries,
        "twins": {
            twin.name: {
                "expected": twin.expected,
                "outcome": report.twins[twin.name].outcome,
                "tightness": _finite(report.twins[twin.name].tightness),
            }
            for twin in claim.twins
        },
    }


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def table(reports: Sequence[Report]) -> Table:
    """One row a claim, at most 80 columns wide.

    `known` is the outcome it should have, left/right is taken at the tightest of the
    instances tried, `twins` counts the planted bugs caught and the controls kept.
    """
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("claim", "known", "verdict"):
        rows.add_column(name, overflow="fold")
    for name in ("left/right", "tried", "level", "twins"):
        rows.add_column(name, justify="right", overflow="fold")
    for report in reports:
        claim, verdict = report.claim, report.verdict
        colour = "green" if report.as_expected else "bold red"
        rows.add_row(
            claim.id,
            claim.expected,
            f"[{colour}]{verdict.outcome}[/]",
            f"{verdict.tightness:.4g}",
            str(verdict.instances),
            f"{verdict.level:.0e}" if verdict.level else "exact",
            f"{report.twins_as_expected}/{len(claim.twins)}",
        )
    return rows


def main(args: list[str]) -> int:
    """Run the command; usage errors and --help leave by SystemExit, as tyro does it."""
    config = tyro.cli(Config, args=args, prog="jsharp verify")
    try:
        if config.replay is not None:
            return _replay(config.replay)
        claims = select(config.claims)
        if not 0 <= config.seed < 2**31:
            raise ValueError(f"--seed must be 0 to 2^31 - 1, found {config.seed}")
        if config.out is not None:  # before the work, whose results it must hold
            config.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"jsharp verify: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    reports = _with_progress(config.seed, claims)
    summary = {
        "config": {"claims": list(config.claims), "seed": config.seed},
        **surroundings(),
        "seconds": round(time.perf_counter() - start, 2),
        "as_expected": all(report.as_expected for report in reports),
        "claims": [record(report) for report in reports],
    }
    if config.out is not None:
        _write(config.out, reports, summary)
    if config.json:
        print(json.dumps(summary, indent=2, allow_nan=False))
    else:
        _print(reports, summary["seconds"])
    return 0 if summary["as_expected"] else 1


def _with_progress(seed: int, claims: Sequence[Claim]) -> list[Report]:
    progress = Progress(
        TextColumn("verify"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=len(claims))
        done = lambda report: progress.update(
            task, advance=1, description=f"{report.claim.id}: {report.verdict.outcome}"
        )
        return run(seed, claims, on_done=done)


def _print(reports: Sequence[Report], seconds: float) -> None:
    console = Console(highlight=False)
    console.print(table(reports))
    surprises = [report.claim.id for report in reports if not report.as_expected]
    console.print(
        f"{len(reports)} claims in {seconds:.1f} s; "
        + (f"NOT as expected: {', '.join(surprises)}" if surprises else "all as known.")
    )
    if any(report.claim.expected == "fails" for report in reports):
        console.print("Counterexamples and repairs: theory/errata.md")


def _write(folder: Path, reports: Sequence[Report], summary: dict[str, Any]) -> None:
    for report in reports:
        save(folder / witness_name(report.claim), report.claim.id, report.verdict)
    files.write_json(folder / "verify.json", summary)


def witness_name(claim: Claim) -> str:
    """A file name for the claim's witness: `Lem 4.1' (loss)` is lem_4_1_prime_loss."""
    plain = claim.id.lower().replace("'", " prime")
    kept = "".join(c if c.isalnum() else " " for c in plain)
    return "_".join(kept.split()) + ".npz"


def _replay(path: Path) -> int:
    saved = load(path)
    claim = next((claim for claim in CLAIMS if claim.id == saved.claim_id), None)
    if claim is None:
        raise ValueError(f"{path}: expected a claim's id, found {saved.claim_id!r}")
    with jax.enable_x64(True):
        left, right = replay(claim, saved.witness)
    same = all(
        math.isclose(now, then, rel_tol=ROUNDING)
        for now, then in ((left, saved.left), (right, saved.right))
    )
    print(f"{claim.id}: {claim.statement}")
    print(f"left  {left!r}  (saved {saved.left!r})")
    print(f"right {right!r}  (saved {saved.right!r})")
    print("the same" if same else "NOT the same")
    return 0 if same else 1
