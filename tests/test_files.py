"""Result files appear whole or not at all."""

import pytest

from jsharp import files


def test_lines_round_trip(tmp_path):
    path = tmp_path / "deep" / "r.jsonl"
    files.write_lines(path, [{"a": 1.5}, {"a": "é\n"}])
    assert list(files.read_lines(path)) == [{"a": 1.5}, {"a": "é\n"}]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_an_interrupted_write_leaves_no_file(tmp_path):
    def records():
        yield {"a": 1}
        raise KeyboardInterrupt

    path = tmp_path / "r.jsonl"
    with pytest.raises(KeyboardInterrupt):
        files.write_lines(path, records())
    assert not path.exists()


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "v.json"
    files.write_json(path, {"old": True})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"new": float("nan")})
    assert files.read_json(path) == {"old": True}
