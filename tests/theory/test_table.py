"""A table is read exactly or refused with its row and field."""

import json

import numpy as np
import pytest

from theory.table import PromptTable, TableError, read_policy, read_table

PI = [[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]
MU = [0.25, 0.75]


def write_json(folder, content, name="table.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_npz(folder, name="table.npz", **fields):
    path = folder / name
    np.savez(path, **fields)
    return path


def test_both_formats_give_the_same_numbers(tmp_path):
    from_json = read_table(write_json(tmp_path, {"pi": PI, "mu": MU}))
    from_npz = read_table(write_npz(tmp_path, pi=np.array(PI), mu=np.array(MU)))
    for table in (from_json, from_npz):
        np.testing.assert_array_equal(table.pi, PI)
        np.testing.assert_array_equal(table.mu, MU)
        assert table.pi.dtype == table.mu.dtype == np.float64


def test_integers_are_numbers_and_sums_may_be_off_by_rounding(tmp_path):
    pi = [[1, 0, 0], [0.1, 0.2, 0.7000000005]]
    table = read_table(write_json(tmp_path, {"pi": pi, "mu": MU}))
    assert table.pi[1].sum() != 1.0  # accepted, and not renormalised
    np.testing.assert_array_equal(table.pi, pi)


def with_entry(value):
    return {"pi": [PI[0], [0.9, value, 0.0]], "mu": MU}


BAD_JSON = {
    "pi missing": ({"mu": MU}, "field 'pi' is missing; found mu"),
    "mu missing": ({"pi": PI}, "field 'mu' is missing; found pi"),
    "no field": ({}, "field 'pi' is missing; found no field"),
    "unknown field": ({"pi": PI, "mu": MU, "rewards": PI}, "unknown field 'rewards'"),
    "repeated field": ('{"pi": [[1]], "mu": [1], "pi": [[1]]}', "'pi' appears twice"),
    "negative": (with_entry(-0.1), r"pi\[1, 1\] = -0.1 must not be negative"),
    "NaN": (with_entry(float("nan")), r"pi\[1, 1\] = nan must be finite"),
    "infinite": (with_entry(float("inf")), r"pi\[1, 1\] = inf must be finite"),
    "beyond float64": (with_entry(10**400), r"pi\[1, 1\] = inf must be finite"),
    "subnormal": (with_entry(1e-310), r"pi\[1, 1\] = 1e-310 must be 0 or at least 2.2"),
    "text": (with_entry("0.1"), r"pi\[1, 1\] must be a number, found '0.1'"),
    "null": (with_entry(None), r"pi\[1, 1\] must be a number, found None"),
    "boolean": (with_entry(True), r"pi\[1, 1\] must be a number, found True"),
    "row sum": (with_entry(0.05), r"pi\[1\] must sum to 1 within 1e-09, .* is 0.95"),
    "row sum, barely": (with_entry(0.1 + 2e-9), r"pi\[1\] must sum to 1 within 1e-09"),
    "ragged": (
        {"pi": [[0.5, 0.5], [1.0]], "mu": MU},
        r"pi\[1\] has 1 entries, pi\[0\]",
    ),
    "mixed rank": ({"pi": [[1.0], 1.0], "mu": MU}, r"pi\[1\] must be a list like"),
    "mixed rank, reversed": ({"pi": [1.0, [1.0]], "mu": MU}, r"pi\[0\] must be a list"),
    "rank 1": ({"pi": [0.5, 0.5], "mu": MU}, r"'pi' must have shape \[X, Y\], found"),
    "rank 3": ({"pi": [[[1.0]]], "mu": [1.0]}, r"pi\[0, 0\] must be a number"),
    "scalar": ({"pi": 1.0, "mu": [1.0]}, "field 'pi' must be a list, found float"),
    "empty": ({"pi": [], "mu": []}, r"'pi' must have shape \[X, Y\], found \(0,\)"),
    "empty rows": ({"pi": [[], []], "mu": MU}, r"'pi' is empty, its shape is \(2, 0\)"),
    "mu empty": ({"pi": PI, "mu": []}, "field 'mu' is empty"),
    "mu of rank 2": ({"pi": PI, "mu": [MU]}, r"'mu' must have shape \[X\], found"),
    "mu too long": ({"pi": PI, "mu": [0.5, 0.3, 0.2]}, "expected 2, found 3"),
    "mu negative": ({"pi": PI, "mu": [1.5, -0.5]}, r"mu\[1\] = -0.5 must not be"),
    "mu sum": ({"pi": PI, "mu": [0.5, 0.4]}, "mu must sum to 1 .* its sum is 0.9"),
    "not JSON": ('{"pi": [[1]],\n "mu": [1}', "line 2, column 10: not JSON"),
    "truncated JSON": ('{"pi": [[0.5, 0.', "line 1, column 16: not JSON"),
    "nested too deeply": ('{"pi": ' + "[" * 10**5, "is not readable JSON: maximum"),
    "too many digits": ('{"pi": [[1' + "0" * 5000 + "]]}", "is not readable JSON"),
    "empty file": ("", "line 1, column 1: not JSON"),
    "a list": ([PI, MU], "expected an object with fields pi and mu, found list"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_refused(tmp_path, case):
    content, message = BAD_JSON[case]
    path = write_json(tmp_path, content)
    with pytest.raises(TableError, match=message) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")


BAD_NPZ = {
    "complex": (np.array(PI) + 0j, "must hold real numbers, found dtype complex128"),
    "strings": (np.array([["a"], ["b"]]), "must hold real numbers, found dtype <U1"),
    "boolean": (np.eye(2, dtype=bool), "must hold real numbers, found dtype bool"),
    "objects": (
        np.array([[None], [1]]),
        "is not a readable npz archive: Object arrays",
    ),
    "rank 3": (np.ones((2, 1, 1)), r"must have shape \[X, Y\], found \(2, 1, 1\)"),
    "single precision": (
        np.array(PI, np.float32),
        r"pi\[.\] must sum to 1 within 1e-09",
    ),
    "no columns": (np.ones((2, 0)), "field 'pi' is empty"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_is_refused(tmp_path, case):
    pi, message = BAD_NPZ[case]
    with pytest.raises(TableError, match=message):
        read_table(write_npz(tmp_path, pi=pi, mu=np.array(MU)))


def test_unreadable_files_are_refused(tmp_path):
    whole = write_npz(tmp_path, pi=np.array(PI), mu=np.array(MU))
    content = whole.read_bytes()
    broken = tmp_path / "broken.npz"
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        broken.write_bytes(content[:cut])
        with pytest.raises(TableError, match="is not a readable npz archive"):
            read_table(broken)
    np.save(tmp_path / "array.npy", np.array(PI))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(TableError, match="is one array, not an npz of pi and mu"):
        read_table(tmp_path / "array.npz")
    (tmp_path / "latin.json").write_bytes(b'{"pi": "\xe9"}')
    with pytest.raises(TableError, match="byte 8: not UTF-8"):
        read_table(tmp_path / "latin.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("absent.json", "absent.npz", "folder.json"):
        with pytest.raises(TableError, match=f"{name}: cannot be read"):
            read_table(tmp_path / name)
    with pytest.raises(
        TableError, match=r"expected a .npz or .json file, found '.csv'"
    ):
        read_table(tmp_path / "table.csv")


def test_a_second_policy_must_fit_the_base(tmp_path):
    base = PromptTable(np.array(PI), np.array(MU))
    other = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    found = read_policy(write_json(tmp_path, {"pi": other}), base)
    np.testing.assert_array_equal(found, other)
    read_policy(write_json(tmp_path, {"pi": other, "mu": MU}), base)
    refused = {
        "field 'pi' is missing": {"mu": MU},
        "differs from the base table's mu": {"pi": other, "mu": [0.5, 0.5]},
        r"shape \(2, 3\), found \(1, 3\)": {"pi": other[:1]},
        r"pi\[0\] must sum to 1": {"pi": [[1.0, 0.5, 0.0], other[1]]},
    }
    for message, content in refused.items():
        with pytest.raises(TableError, match=message):
            read_policy(write_json(tmp_path, content), base)
