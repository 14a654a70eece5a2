"""Replace a file in one step, so that a reader never sees half of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file aside in the same folder, force it to disk, and move it into place.

    A process killed at any moment leaves either the former file or the new one, and at most a
    hidden ``.<name>.part`` beside it, which the next write takes over. If writing fails, as on a
    full disk, the former file stays and nothing is left beside it.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.unlink(missing_ok=True)  # a link that a stranger has left would be written through
        with aside.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    os.replace(aside, path)  # noqa: PTH105 - the call whose atomicity is promised
    _sync_folder(path.parent)


def write_file(path: Path, text: str) -> None:
    """Write a text as :func:`replace_file` does: never through a link that stands in its place."""
    replace_file(path, lambda file: file.write(text.encode()))


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
