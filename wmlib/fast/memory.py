"""Memory that torch frees, kept."""

from __future__ import annotations

import ctypes
import functools
import os
import sys


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep the blocks that torch frees, rather than hand the large ones back.

    Every step would get them from the system again, page by page: a fifth of M's training time.
    Trainings call it. It holds for the process; ``MALLOC_TRIM_THRESHOLD_`` in the environment, the
    system's own setting, wins.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        trim_threshold, mmap_threshold, gigabyte = -1, -3, 2**30
        mallopt(trim_threshold, gigabyte)
        mallopt(mmap_threshold, gigabyte)
