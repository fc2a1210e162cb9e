"""The arrows of the design: who may import whom, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import from the project only what its longest matching row allows; an
# entry covers the module itself and everything below it.
ALGORITHMS = ["sft", "ada_sft", "rlhf", "xpo", "rloo"]
TYPES = ["jsharp.policy"]
PARTS = [
    *(f"jsharp.{name}" for name in ("algorithm", "policy", "reward", "selection")),
    *(f"jsharp.{name}" for name in ("loss", "update")),
]
ALLOWED = {
    "jsharp": [],
    "jsharp.policy": [],
    "jsharp.tabular": TYPES,
    "jsharp.reward": TYPES,
    "jsharp.selection": [],
    "jsharp.loss": [],
    "jsharp.stats": [],
    "jsharp.algorithm": [],
    "jsharp.update": TYPES,
    **{f"jsharp.{name}": PARTS for name in ALGORITHMS},
    "jsharp.loop": ["jsharp.algorithm", *TYPES],
    "jsharp.evaluate": ["jsharp.selection", "jsharp.stats"],
    "jsharp.files": [],
    "jsharp.run_directory": ["jsharp.files"],
    "jsharp.lm": [*TYPES, "jsharp.lm", "jsharp.files"],
    "jsharp.provenance": [],
    "jsharp.__main__": ["jsharp.cli"],
    "jsharp.pretrain": [
        *PARTS,
        "jsharp.lm",
        "jsharp.tasks",
        "jsharp.pretrain",
        "jsharp.provenance",
        "jsharp.files",
        "jsharp.preemption",
        "jsharp.run_directory",
    ],
    "jsharp.tasks": ["jsharp.tasks"],
    "jsharp.heap": [],
    "jsharp.preemption": [],
    "jsharp.train": [
        *PARTS,
        "jsharp.train",
        "jsharp.commands",
        "jsharp.lm",
        "jsharp.files",
        "jsharp.preemption",
        "jsharp.provenance",
        "jsharp.run_directory",
    ],
    "jsharp.commands": [
        *TYPES,
        "jsharp.commands",
        "jsharp.evaluate",
        "jsharp.lm",
        "jsharp.reward",
        "jsharp.selection",
        "jsharp.stats",
        "jsharp.tasks",
        "jsharp.files",
        "jsharp.provenance",
        "jsharp.run_directory",
    ],
    "jsharp.cli": ["jsharp", "theory", "experiments"],
    "theory": ["jsharp", "theory"],
    "experiments": ["jsharp", "theory", "experiments"],
}
NOBODY_IMPORTS = ["jsharp.cli"]  # but its own __main__


def modules() -> dict[str, Path]:
    found = {}
    for package in ("jsharp", "theory", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Every project module that the file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return {name for name in found if name in MODULES}


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def rule_of(name: str) -> list[str]:
    rules = [parent for parent in ALLOWED if below(name, parent)]
    return ALLOWED[max(rules, key=len)]


def forbidden(name: str, target: str) -> bool:
    allowed = any(below(target, parent) for parent in rule_of(name))
    closed = name != "jsharp.__main__" and target in NOBODY_IMPORTS
    return not allowed or closed


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_arrows(name):
    wrong = {target for target in imports(MODULES[name]) if forbidden(name, target)}
    assert not wrong, f"{name} may not import {sorted(wrong)}"


def test_no_circle():
    arrows = {name: imports(path) - {name} for name, path in MODULES.items()}
    settled: set[str] = set()
    while len(settled) < len(arrows):
        free = {n for n, to in arrows.items() if n not in settled and to <= settled}
        assert free, f"a circle among {sorted(set(arrows) - settled)}"
        settled |= free


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("jsharp.sft", "jsharp.rlhf"),  # never each other
        ("jsharp.sft", "jsharp.tabular"),  # never a kind of policy
        ("jsharp.xpo", "jsharp.lm.transformer"),
        ("jsharp.stats", "theory.laws"),
        ("theory.laws", "experiments.demo"),
        ("experiments.demo", "jsharp.cli"),
        ("jsharp.tasks.game24", "jsharp.lm.tokenizer"),
        ("jsharp.reward", "jsharp.selection"),
    ],
)
def test_the_rule_refuses(name, target):
    assert forbidden(name, target)


def test_the_library_starts_without_the_heavy_parts():
    """`import jsharp` and the toy half need neither flax nor a tokenizer."""
    light = ["policy", "tabular", "sft", "xpo", "stats", "selection", "loop"]
    for name in light:
        tree = ast.parse(MODULES[f"jsharp.{name}"].read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            heavy = {"flax", "tokenizers", "orbax", "safetensors", "transformers"}
            assert not {n.split(".")[0] for n in names} & heavy
