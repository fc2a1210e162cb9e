"""Do the tests catch bugs?  python tests/mutations.py [--only NAME] [--jobs 2]

Plants each of `mutants.MUTANTS` in a temporary copy of the working tree, one at a time,
and runs the tests that should notice, up to the first failure. The same tests must pass
on the unchanged copy first. Writes mutations.md beside this file unless --only is
given; exits 1 when a mutant survives without an excuse.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from mutant import Mutant
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
TREES = ("jsharp", "theory", "experiments", "tests", "pyproject.toml")
LIMIT = 600  # seconds for the tests of one mutant
R = TypeVar("R")


class Result(NamedTuple):
    mutant: Mutant
    failed: str  # the first test that failed; empty where the mutant survived
    seconds: float


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """The file with the bug in it; ValueError unless `old` occurs exactly once."""
    text = (root / mutant.path).read_text(encoding="utf-8")
    found = text.count(mutant.old)
    if found != 1 or mutant.old == mutant.new:
        raise ValueError(
            f"{mutant.name}: expected the text once in {mutant.path}, found it "
            f"{found} times: {mutant.old}"
        )
    return text.replace(mutant.old, mutant.new)


def copy_tree(target: Path) -> Path:
    """A copy of what the tests need, without caches."""
    target.mkdir()
    for name in TREES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy2(source, target / name)
    return target


def run_tests(tests: Sequence[str], root: Path) -> str:
    """The first failing test, or "" when all pass.

    Raises RuntimeError where pytest did not run tests, as after a syntax error.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE"]
    # The copy comes first on the path, before any installed jsharp.
    own = os.pathsep.join([str(root), str(root / "tests")])
    environment = {**os.environ, "PYTHONPATH": own, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *tests],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"none in {LIMIT} s"
    if done.returncode == 0:
        return ""
    failed = re.search(
        r"^(?:FAILED|ERROR) (tests/\S+?::\S+)", done.stdout, re.MULTILINE
    )
    if done.returncode != 1 or failed is None:
        raise RuntimeError(f"pytest in {root}: {done.stdout[-3000:]}{done.stderr}")
    return failed.group(1)


def plant(mutant: Mutant, root: Path) -> Result:
    """Run the mutant's tests on a copy that contains it, then mend the copy."""
    path, started = root / mutant.path, time.perf_counter()
    healthy = path.read_text(encoding="utf-8")
    path.write_text(mutated(mutant, root), encoding="utf-8")
    try:
        failed = run_tests(mutant.tests, root)
    finally:
        path.write_text(healthy, encoding="utf-8")
    return Result(mutant, failed, time.perf_counter() - started)


def check_import(root: Path) -> None:
    """Tests in a copy import that copy, not an installed jsharp."""
    where = subprocess.run(
        [sys.executable, "-c", "import jsharp, theory; print(jsharp.__file__)"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if not where.startswith(str(root)):
        raise RuntimeError(f"expected the copy's jsharp, found {where}")


def plant_all(mutants: Sequence[Mutant], *, jobs: int) -> list[Result]:
    """Each mutant alone, `jobs` at a time, each worker in its own copy."""
    with tempfile.TemporaryDirectory() as folder:
        copies: queue.Queue[Path] = queue.Queue()
        for i in range(jobs):
            copies.put(copy_tree(Path(folder).resolve() / f"copy{i}"))

        def lend(work: Callable[[Path], R]) -> R:
            root = copies.get()
            try:
                return work(root)
            finally:
                copies.put(root)

        def healthy(test: str) -> None:
            if failed := lend(lambda root: run_tests([test], root)):
                raise RuntimeError(f"{failed} fails without any mutant")

        def one(mutant: Mutant) -> Result:
            result = lend(lambda root: plant(mutant, root))
            verdict = f"caught by {result.failed}" if result.failed else "SURVIVED"
            print(f"{result.seconds:5.0f} s  {mutant.name}: {verdict}", flush=True)
            return result

        lend(check_import)
        with ThreadPoolExecutor(jobs) as pool:
            tests = sorted({test for mutant in mutants for test in mutant.tests})
            list(pool.map(healthy, tests))
            return list(pool.map(one, mutants))


def summary(results: Sequence[Result]) -> str:
    caught = sum(bool(r.failed) for r in results)
    excused = sum(not r.failed and bool(r.mutant.excuse) for r in results)
    return f"{caught} of {len(results)} caught, {excused} survived with an excuse"


def page(results: Sequence[Result]) -> str:
    """The report in Markdown."""
    lines = [
        "# Planted bugs and the tests that catch them",
        "",
        f"{summary(results)}. Made by `python tests/mutations.py`, which plants each "
        "alone in a copy of the tree and runs the tests of its file.",
        "",
        "| bug | file | caught by |",
        "|---|---|---|",
    ]
    for r in results:
        by = f"`{r.failed}`" if r.failed else f"**survives**: {r.mutant.excuse or '?'}"
        name, by = (text.replace("|", "\\|") for text in (r.mutant.name, by))
        lines.append(f"| {name} | {r.mutant.path} | {by} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Do the tests catch bugs?")
    parser.add_argument("--only", help="part of a name, or of a file's path")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    only = asked.only or ""
    mutants = [m for m in MUTANTS if only in m.name or only in m.path]
    if not mutants or asked.jobs < 1:
        parser.error(f"expected a known name and jobs >= 1, found {asked}")
    for mutant in mutants:
        mutated(mutant)
    started = time.perf_counter()
    results = plant_all(mutants, jobs=asked.jobs)
    print(f"{summary(results)}, {time.perf_counter() - started:.0f} s")
    if not asked.only:
        REPORT.write_text(page(results), encoding="utf-8")
    return int(any(not r.failed and not r.mutant.excuse for r in results))


if __name__ == "__main__":
    sys.exit(main())
