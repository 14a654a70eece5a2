"""What a process and all that it has started have cost."""

from __future__ import annotations

import psutil


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    return [process, *process.children(recursive=True)]


def seconds(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of all that it has started."""
    times = [one.cpu_times() for one in family(process)]
    own = process.cpu_times()
    return sum(t.user + t.system for t in times) + own.children_user + own.children_system


def megabytes(process: psutil.Process) -> float:
    """Return the resident memory of a process and of all that it has started."""
    return sum(one.memory_info().rss for one in family(process)) / 2**20
