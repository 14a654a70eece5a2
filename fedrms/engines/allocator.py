"""Keep freed memory for the next step, instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

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
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))


def give_back_free_memory() -> None:
    """Give the system what is free now: pieces in which nothing large will fit again."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None where there is another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
