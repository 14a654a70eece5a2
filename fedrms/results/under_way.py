"""Whether a run is at work in a folder: it holds a lock there for as long as it lives."""

from __future__ import annotations

import os
from pathlib import Path


def under_way(folder: Path) -> bool:
    """Say whether some process is running a run in a folder; False where that cannot be told."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False
