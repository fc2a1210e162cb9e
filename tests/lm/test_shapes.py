"""Buckets of padded sizes."""

from jsharp.lm.shapes import bucket


def test_buckets_double():
    assert [bucket(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 8]
    assert [bucket(n, 16) for n in (1, 16, 17)] == [16, 16, 32]
    assert [bucket(n, 3) for n in (0, 3, 4, 7)] == [3, 3, 6, 12]
