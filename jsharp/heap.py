"""How this process treats memory that is freed, where XLA runs on the CPU.

XLA asks for all temporaries of a program in one piece at each call and frees them after
it. glibc gives so large a piece back to the system, which hands it out anew page by
page, each fault zeroing 4 KiB: of a training step with 600 MiB of them, 15%.
"""

import ctypes
import sys

# The parameters of mallopt(3), by the numbers of malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keep freed memory in the process for its next use; True where that is possible.

    With glibc only: one heap for all threads, grown but never shrunk. Call it before
    the first program runs, in a process that runs the same large programs again and
    again: its memory stays at the most that it ever needed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)
    return all(mallopt(*setting) == 1 for setting in settings)
