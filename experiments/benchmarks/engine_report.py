"""What the engine's benchmark found, and its page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.side_by_side import Row, table

MIB = 2**20


class Memory(NamedTuple):
    """Bytes of one side: the most while it started, when ready, the most at work."""

    work: str
    side: str
    start: int
    ready: int
    peak: int

    @property
    def whole(self) -> int:
        return max(self.start, self.peak)

    @property
    def extra(self) -> int:
        return self.peak - self.ready


class Bound(NamedTuple):
    """A number that should not be exceeded."""

    work: str
    what: str
    value: float
    most: float
    met: bool


class Check(NamedTuple):
    """The number that a side found, which every way of the work must find."""

    work: str
    side: str
    values: list[float]
    agrees: bool


class Limit(NamedTuple):
    """The speeds measured beside a work."""

    work: str
    flops: float  # a second, of the faster matrix product
    bandwidth: float  # bytes a second


class Profile(NamedTuple):
    """The seconds of one run of a work, by part."""

    work: str
    parts: dict[str, float]


@dataclass
class Found:
    """What a run of the benchmark found, in the order of its works."""

    rows: list[Row] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: each record by its fields."""
        plain = lambda x: x if isinstance(x, str) else x._asdict()
        return {name: list(map(plain, value)) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Found":
        """What `as_dict` wrote."""
        kinds = {
            **{"rows": Row, "memory": Memory, "bounds": Bound, "checks": Check},
            **{"limits": Limit, "profiles": Profile},
        }
        made = {name: [kind(**x) for x in raw[name]] for name, kind in kinds.items()}
        return cls(**made, notes=list(raw["notes"]))

    def missed(self) -> list[str]:
        """The goals not met and the sides that did not do the same work."""
        rows = [f"{r.work} beside {r.peer}" for r in self.rows if r.met is False]
        bounds = [f"{b.work}, {b.what}" for b in self.bounds if not b.met]
        return (
            rows + bounds + [f"check of {c.side}" for c in self.checks if not c.agrees]
        )


def agreement(
    work: str, values: Mapping[str, list[float]], within: float, *, distances: bool
) -> Iterator[Check]:
    """Whether each side's values are the first side's, or are near 0 as distances."""
    first = np.array(next(iter(values.values())))
    for side, found in values.items():
        gap = np.abs(found) if distances else np.abs(found / first - 1)
        yield Check(work, side, found, bool(np.all(gap <= within)))


REPORT = """\
# The language-model engine beside torch

{device}, {cores} core(s) for each side, {config[dtype]}, medians of {config[repeats]}
alternating runs, commit {commit}; {packages}.
Made by `python -m experiments.benchmarks.engine`.

{table}

`sampling` counts new tokens, all other works count the tokens of whole sequences,
prompts included. Every side scores and trains on the responses only. In rows `prefix
shared` a prompt is computed once for all of its responses, which the peers cannot do;
rows `independent` score the same texts as so many prompts of one response each, the
same work as the peers'. The pair loss shares the prompt of its pair. A row `gradient`
is scoring, forward and backward to all parameters; `SFT`, `LoRA SFT` and `pair loss`
are whole steps with AdamW, LoRA of rank 16 on every projection of the layers from the
same adapters on each side. `limit: roofline` is the least time for the matrix products
and the memory traffic at the speeds below, and its ratio the share that is reached of
them. Of N numbers in kernels it counts, for each token that passes them, 6 N operations
for a step on all of them and 4 N for LoRA, whose kernels need no gradient, with 6 for
each number of an adapter; and those of attention.

## Memory, MiB

{memory}

`starting`: the most while the process imported, loaded the model and compiled. `ready`:
after that, before the first run. `peak`: the most in all runs. `extra`: peak - ready.

{bounds}

## Limits in the same turns

{limits}

## The same work

Every side must find the same mean log-prob of a token, the same norm of the gradient or
the same first two losses; when sampling, the log-probs that it returns must be those of
its own model run on the whole texts (the largest difference, a token).

{checks}
{profiles}{notes}"""


def markdown(heads: str, rows: Sequence[Sequence[Any]]) -> str:
    """A table with these heads, divided by |."""
    lines = [f"| {heads} |", "|---" * (heads.count("|") + 1) + "|"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def page(found: Found, **facts: Any) -> str:
    """The page, with what `facts` say of the run."""
    named = ("jax", "torch", "transformers", "trl", "peft")
    known = {x: facts["versions"][x] for x in named if x in facts["versions"]}
    mib = lambda x: f"{x / MIB:,.0f}"
    yes = {True: "yes", False: "NO"}
    memory = [
        (m.work, m.side, *map(mib, (m.start, m.ready, m.peak, m.extra)))
        for m in found.memory
    ]
    bounds = [
        (b.work, b.what, f"{b.value:.3g}", f"<= {b.most:.3g}", yes[b.met])
        for b in found.bounds
    ]
    limits = [
        (x.work, f"{x.flops * 1e-9:,.0f}", f"{x.bandwidth * 1e-9:,.1f}")
        for x in found.limits
    ]
    checks = [
        (c.work, c.side, ", ".join(f"{v:.7g}" for v in c.values), yes[c.agrees])
        for c in found.checks
    ]
    notes = "".join(f"- {note}\n" for note in found.notes)
    return REPORT.format(
        **facts,
        packages=", ".join(f"{name} {version}" for name, version in known.items()),
        table=table(found.rows),
        memory=markdown("work | side | starting | ready | peak | extra", memory),
        bounds=markdown("work | what | found | goal | met", bounds),
        limits=markdown("work | matrix product, GFLOP/s | copy, GB/s", limits),
        checks=markdown("work | side | found | agrees", checks),
        profiles="".join(map(_profile, found.profiles)),
        notes=f"\n## Notes\n\n{notes}" if notes else "",
    )


def _profile(profile: Profile) -> str:
    whole = sum(profile.parts.values())
    rows = [
        (part, f"{seconds:.3f}", f"{seconds / whole:.1%}")
        for part, seconds in profile.parts.items()
    ]
    return f"\n## Where it goes: {profile.work}\n\n" + (
        markdown("part | seconds | share", rows) + "\n"
    )
