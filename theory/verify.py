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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jsharp import files, run_directory
from jsharp.provenance import source, surroundings
from theory import (
    hardness,
    lower_bounds,
    martingales,
    maxcut,
    potential,
    s3_limits,
    s4_linear,
    s4_mle,
    s4_packing,
    s4_pairs,
    s4_queries,
    s4_regression,
    s4_rlhf,
    s4_sample_complexity,
    s4_sampling,
    s4_sft,
    s4_xpo,
    s4_xpo_form,
    s4_xpo_steps,
)
from theory.claim import FULL, QUICK, ROUNDING, Claim, Effort, Report, examine
from theory.verdicts import Record, exponents, markdown, record, table
from theory.witness import load, replay, save

# In the order of the paper's table.
CLAIMS: tuple[Claim, ...] = (
    *s3_limits.CLAIMS,
    *lower_bounds.CLAIMS,
    *s4_mle.CLAIMS,
    *potential.CLAIMS,
    *martingales.CLAIMS,
    *s4_sft.CLAIMS,
    *s4_sample_complexity.CLAIMS,
    *s4_sampling.CLAIMS,
    *s4_queries.CLAIMS,
    *s4_rlhf.CLAIMS,
    *s4_pairs.CLAIMS,
    *s4_regression.CLAIMS,
    *s4_xpo.CLAIMS,
    *s4_xpo_form.CLAIMS,
    *s4_xpo_steps.CLAIMS,
    *s4_linear.CLAIMS,
    *s4_packing.CLAIMS,
    *maxcut.CLAIMS,
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
    full: bool = False
    """Search ten times as hard: about 5 minutes on 2 cores instead of one."""
    json: bool = False
    """Print JSON instead of the table; an infinite value is the string "inf"."""
    markdown: bool = False
    """Print the table as the README has it."""
    out: Path | None = None
    """Folder for verify.json and, for each claim as it is judged, its record (json) and
    its tightest instance (npz). A run that was killed goes on behind the last one."""
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


def examine_in_float64(seed: int, claim: Claim, *, effort: Effort = QUICK) -> Report:
    """Examine one claim; its key depends on its id and the seed only."""
    with jax.enable_x64(True):
        tag = zlib.crc32(claim.id.encode())
        key = jax.random.fold_in(jax.random.key(seed), tag)
        return examine(key, claim, effort=effort)


def run(seed: int, claims: Sequence[Claim] = CLAIMS) -> list[Report]:
    """Examine each claim at the quick effort."""
    return [examine_in_float64(seed, claim) for claim in claims]


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
            _pin(config.out, config)
    except (ValueError, OSError) as error:
        print(f"jsharp verify: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    records = _with_progress(config, claims)
    summary = {
        "config": {"claims": list(config.claims), "seed": config.seed}
        | {"full": config.full},
        **surroundings(),
        "as_expected": all(row["as_expected"] for row in records),
        "claims": records,
    }
    if config.out is not None:
        files.write_json(config.out / "verify.json", summary)
    if config.json:
        print(json.dumps(summary, indent=2, allow_nan=False))
    elif config.markdown:
        print(markdown(records), end="")
    else:
        _print(records, time.perf_counter() - start)
    return 0 if summary["as_expected"] else 1


def _pin(folder: Path, config: Config) -> None:
    """One folder holds the records of one seed, one effort and one program."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"seed": config.seed, "full": config.full, "source": source()}
    run_directory.claim(folder, identity, resume=True)


def _with_progress(config: Config, claims: Sequence[Claim]) -> list[Record]:
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
    records = []
    with progress:
        task = progress.add_task("", total=len(claims))
        for claim in claims:
            progress.update(task, description=claim.id)
            records.append(_judged(config, claim))
            progress.advance(task)
    return records


def _judged(config: Config, claim: Claim) -> Record:
    """The claim's record, from the folder if it is there, else made and kept."""
    kept = None if config.out is None else config.out / record_name(claim)
    if kept is not None and kept.exists():
        return files.read_json(kept)
    effort = FULL if config.full else QUICK
    report = examine_in_float64(config.seed, claim, effort=effort)
    made = record(report)
    if kept is not None:
        save(kept.with_suffix(".npz"), claim.id, report.verdict)
        files.write_json(kept, made)  # last: a record has its witness beside it
    return made


def _print(records: Sequence[Record], seconds: float) -> None:
    console = Console(highlight=False)
    console.print(table(records))
    if any(row["exponents"] for row in records):
        console.print(exponents(records))
    surprises = [row["claim"] for row in records if not row["as_expected"]]
    console.print(
        f"{len(records)} claims in {seconds:.1f} s; "
        + (f"NOT as expected: {', '.join(surprises)}" if surprises else "all as known.")
    )
    if any(row["expected"] == "fails" for row in records):
        console.print("Counterexamples and repairs: theory/errata.md")


def record_name(claim: Claim) -> str:
    """A file name for the claim's record: `Lem 4.1' (loss)` is lem_4_1_prime_loss."""
    plain = claim.id.lower().replace("'", " prime")
    kept = "".join(c if c.isalnum() else " " for c in plain)
    return "_".join(kept.split()) + ".json"


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
