"""The false-alarm budget covers every statistical assert in the suite."""

import ast
from pathlib import Path

from levels import LEVEL, STATISTICAL_ASSERTS, SUITE_FALSE_ALARM

TESTS = Path(__file__).parent


def cases(function: ast.FunctionDef) -> int:
    """How often pytest runs a statistical test: the product of its parametrisations."""
    count = 1
    for node in function.decorator_list:
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            "parametrize"
        ):
            values = node.args[1]
            assert isinstance(values, ast.List | ast.Tuple), (
                f"{function.name}: write the cases of a statistical test out as a list"
            )
            count *= len(values.elts)
    return count


def statistical(path: Path) -> dict[str, int]:
    """Asserts at LEVEL in the file's tests marked statistical, times their cases."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = [ast.unparse(d) for d in node.decorator_list]
        if "pytest.mark.statistical" not in marks:
            continue
        passing = [
            n
            for n in ast.walk(node)
            if isinstance(n, ast.Compare)
            and "LEVEL" in ast.unparse(n.comparators[0])
            and isinstance(n.ops[0], ast.Gt | ast.GtE)
        ]
        assert passing, f"{path.name}:{node.name} has no assert `p > LEVEL`"
        found[node.name] = len(passing) * cases(node)
    return found


def test_the_budget_covers_the_asserts():
    from toys import TOYS

    counts = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        found = statistical(path)
        counts |= {f"{path.name}:{name}": n for name, n in found.items()}
    # The contract test runs once per policy.
    counts["test_policy.py:test_samples_follow_log_prob"] *= len(TOYS)
    assert sum(counts.values()) <= STATISTICAL_ASSERTS, counts
    assert len(counts) >= 4
    assert LEVEL * STATISTICAL_ASSERTS <= SUITE_FALSE_ALARM
