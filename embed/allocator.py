"""Lets the C library keep what tensors free.

glibc gives each block of over 128 KiB to 32 MiB back to the system as it is freed and asks for it anew, zeroed page by
page, for the next tensor of the same size. A convolution on a CPU spends more time on that than on arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # malloc.h
KEPT = 1 << 30
"""Bytes free at the end of the heap that are kept; and the size from which a block is given back as ever."""
AHEAD = 64 << 20
"""Bytes that the heap grows by at least."""


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory for the next tensors of this process; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    asked = ((MMAP_THRESHOLD, KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, AHEAD))
    taken = [mallopt(name, value) == 1 for name, value in asked]
    return all(taken)
