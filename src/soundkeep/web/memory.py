"""Memory for chunks is taken from the kernel once, not for each chunk.

A chunk of far sound is received into fresh memory and freed when it was sent. By itself glibc soon
gives so much back to the kernel, and takes it again a moment later: a page fault for every 4 KB,
which cost more than hashing them (docs/decisions/0008).
"""

from __future__ import annotations

import ctypes

KEPT_BYTES = 32 * 1024 * 1024  # free memory at the end of the heap that is not given back
LARGE_BYTES = 4 * 1024 * 1024  # what is larger is mapped for itself, and given back when freed

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_memory() -> None:
    """For this process. A C library that is not glibc has no such setting, and is left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
