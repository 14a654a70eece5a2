"""C code that comes with the package, compiled for the processor at hand when it is first needed.

Where there is no compiler, or it fails, there is no library, and what is written in PyTorch does
the same work. A library is kept in the cache folder, under its source, compiler and processor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedrms.cache_folder import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("fedrms")

FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math"),
)
"""Nothing that changes what is computed of infinities and NaN."""
COMPILERS = ("cc", "gcc", "clang")
PATIENCE = 60
"""Seconds that a compiler may take."""
SOURCES = Path(__file__).with_name("native")


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return ``fedrms/native/NAME.c`` as a library, or None where it cannot be made.

    ``CC`` names another compiler than the system's; an empty one asks for none.
    """
    source = SOURCES / f"{name}.c"
    try:
        path = _compiled(source)
        return None if path is None else ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as problem:
        said = getattr(problem, "stderr", None) or str(problem)
        log.info("%s is not compiled, PyTorch does its work: %s", source.name, said.strip()[:300])
        return None


def pointer(memory: np.ndarray | Tensor | None) -> ctypes.c_void_p:
    """Return where an array or a tensor of this machine lies; null for None."""
    if memory is None:
        return ctypes.c_void_p()
    at = memory.ctypes.data if isinstance(memory, np.ndarray) else memory.data_ptr()
    return ctypes.c_void_p(at)


def _compiled(source: Path) -> Path | None:
    compiler = _compiler()
    if compiler is None:
        log.debug("%s is not compiled: there is no C compiler", source.name)
        return None
    told = [source.read_text(), *compiler, *FLAGS, _processor()]
    key = hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]
    folder = cache_folder()
    kept = folder / f"{source.stem}-{key}.so"
    if kept.exists() and kept.stat().st_uid == os.getuid():
        return kept
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, unfinished = tempfile.mkstemp(prefix=f"{source.stem}-", suffix=".tmp", dir=folder)
    except OSError:  # nothing can be kept: for this process alone
        handle, unfinished = tempfile.mkstemp(prefix=f"{source.stem}-", suffix=".so")
        kept = Path(unfinished)
    os.close(handle)
    command = [*compiler, *FLAGS, "-o", unfinished, str(source), "-lm"]
    try:
        subprocess.run(command, check=True, timeout=PATIENCE, text=True, capture_output=True)
        Path(unfinished).replace(kept)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    log.debug("compiled %s: %s", source.name, kept)
    return kept


def _compiler() -> list[str] | None:
    """Return the command of a C compiler, or None where there is none."""
    asked = os.environ.get("CC")
    if asked is not None:
        words = shlex.split(asked)
        return words if words and shutil.which(words[0]) else None
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    return None if found is None else [found]


def _processor() -> str:
    """Return what ``-march=native`` goes by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    marks = ("flags", "Features", "model name", "CPU part")
    own = [line for line in lines if line.startswith(marks)]
    return "\n".join([platform.machine(), *own[: len(marks)]])
