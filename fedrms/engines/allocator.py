"""Keep freed memory for the next step, instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import functools
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``, see its manual page."""
KEPT = 1 << 30
"""Most bytes of free memory that the process keeps."""
LARGEST = 1 << 30
"""Allocations up to this size come from what is kept."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep up to a gigabyte that this process has freed; say whether it can.

    By default glibc returns large blocks to the system as soon as they are free and gets them back,
    page by page, in the next step of the same client: a fifth of a CNN's round. Concerns the whole
    process, so only engines that simulate call it; where there is no glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))
