"""Where a compiled program spends its time, by the line of source that asked for it.

The profiler's trace gives the seconds of every instruction that XLA runs; the program's
text tells, for each, the stack of calls it was traced from. A fused instruction counts
for the call that its matrix product, or else its root, came from; one without a stack
(copies that XLA added) counts for its opcode.
"""

import collections
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

SHOWN = 14
OURS = ("jsharp", "optax")
TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
# Their time is that of the instructions inside.
CONTAINERS = ("while", "conditional", "call")
PRODUCTS = ("dot", "custom-call")


class Instruction(NamedTuple):
    opcode: str
    frame: int  # 0 for none
    op_name: str
    calls: str  # the computation of a fusion


def parts(run: Callable[[], Any], program: str) -> dict[str, float]:
    """Seconds of one run by part, of all cores together, the largest first."""
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            run()
        (path,) = Path(directory).rglob("*.xplane.pb")
        spent = _instruction_seconds(path)
    labels = _labels(program)
    found: collections.Counter[str] = collections.Counter()
    for name, seconds in spent.items():
        if name in labels:
            found[labels[name]] += seconds
    top = dict(found.most_common(SHOWN))
    rest = sum(found.values()) - sum(top.values())
    return {**top, "the rest": rest}


def _instruction_seconds(path: Path) -> collections.Counter[str]:
    """Of every event, by the instruction that it names."""
    spent: collections.Counter[str] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                # A GPU's kernels carry their instruction beside their own name.
                name = dict(event.stats).get("hlo_op", event.name)
                spent[str(name)] += event.duration_ns * 1e-9
    return spent


def _labels(program: str) -> dict[str, str]:
    """What each instruction counts for, by its name; containers are left out."""
    stacks = _stacks(program)
    computations = dict(_computations(program))
    labels = {}
    for body in computations.values():
        for name, instruction in body.items():
            if instruction.opcode in CONTAINERS:
                continue
            inner = computations.get(instruction.calls, {})
            labels[name] = _label(instruction, list(inner.values()), stacks)
    return labels


def _label(
    outer: Instruction, inner: list[Instruction], stacks: dict[int, list[str]]
) -> str:
    products = [i for i in (outer, *inner) if i.opcode in PRODUCTS and i.frame]
    framed = [i for i in (outer, *reversed(inner)) if i.frame]
    if not framed:
        return f"({outer.opcode if not inner else inner[-1].opcode}, of no call)"
    chosen = (products or framed)[0]
    names = stacks.get(chosen.frame, [])[-2:]
    backward = ", backward" if "transpose(" in chosen.op_name else ""
    kind = "product" if products else "elementwise"
    return f"{' / '.join(names) or 'the benchmark itself'}: {kind}{backward}"


def _stacks(program: str) -> dict[int, list[str]]:
    """The calls inside jsharp and optax, outermost first, of each stack frame."""
    tables = {name: dict(_table(program, name)) for name in TABLES}
    number = lambda text, key: int(re.findall(rf"{key}=(\d+)", text)[0])

    def walk(frame: int) -> list[str]:
        if frame not in tables["StackFrames"]:
            return []
        row = tables["StackFrames"][frame]
        place = tables["FileLocations"][number(row, "file_location_id")]
        file = tables["FileNames"][number(place, "file_name_id")].strip('"')
        name = tables["FunctionNames"][number(place, "function_name_id")].strip('"')
        # Printed one too high, so that a frame without a parent names itself.
        outer = number(row, "parent_frame_id") - 1
        own = [name.replace(".<locals>", "")] if _is_ours(file) else []
        return walk(outer) + own

    return {frame: walk(frame) for frame in tables["StackFrames"]}


def _is_ours(file: str) -> bool:
    return any(part in OURS for part in Path(file).parts[:-1])


def _table(program: str, name: str) -> Iterator[tuple[int, str]]:
    found = re.search(rf"^{name}\n(.*?)\n\n", program, re.DOTALL | re.MULTILINE)
    for line in found[1].splitlines() if found else []:
        key, value = line.split(" ", 1)
        yield int(key), value


def _computations(program: str) -> Iterator[tuple[str, dict[str, Instruction]]]:
    """Each computation's instructions by name, in order, its root last."""
    head = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
    body = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*?[\])}] ([a-z][\w\-]*)\(")
    name, found = "", {}
    for line in program.splitlines():
        if start := head.match(line):
            name, found = start[1], {}
        elif line.startswith("}"):
            yield name, found
        elif inside := body.match(line):
            found[inside[1]] = _instruction(inside[2], line)


def _instruction(opcode: str, line: str) -> Instruction:
    first = lambda pattern: (re.findall(pattern, line) or [""])[0]
    return Instruction(
        opcode=opcode,
        frame=int(first(r"stack_frame_id=(\d+)") or 0),
        op_name=first(r'op_name="([^"]*)"'),
        calls=first(r" calls=%?([\w.\-]+)"),
    )
