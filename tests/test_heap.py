"""Freed memory is used again, without asking the system for its pages."""

import subprocess
import sys

import pytest

# A buffer of 64 MiB, written and freed, three times; in a process of its own, because
# the setting is for good. Prints the page faults of the last time.
PROGRAM = """
import ctypes, resource, sys
from jsharp.heap import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    before = faults()
    buffer = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(ctypes.c_void_p(buffer), 1, 2**26)
    libc.free(buffer)
print(int(kept), faults() - before)
"""


def last_faults(way):
    run = [sys.executable, "-c", PROGRAM, way]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    return [int(x) for x in found.stdout.split()]


def test_kept_memory_has_no_new_pages():
    pytest.importorskip("resource")
    _, plain = last_faults("plain")
    kept, faults = last_faults("kept")
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 100 < plain  # of 4 KiB there are 16384, of 2 MiB 32
