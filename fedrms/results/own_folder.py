"""A folder that one run takes for itself before the first byte is written to it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from pathlib import Path
from typing import Final, Self

from fedrms.errors import ConfigError

OUTPUTS: Final = Path("outputs")
RUN_KEY: Final = "hydra.run.dir"

WANDBS: Final = "wandb"
"""The folder that wandb makes in a run's own, with links to its latest logs."""

PARTS: Final = (".hydra", "checkpoint", WANDBS)
"""The folders in a run's own."""

BUSY: Final = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class OwnFolder:
    """A folder, and the lock by which no second run writes into it.

    The system lets go of the lock when the process ends, however it ends; without a handle somebody
    else holds it for this process. Of the folders that were ``made`` for it those that are empty in
    the end are removed.
    """

    def __init__(self, path: Path, handle: int | None = None, made: tuple[Path, ...] = ()) -> None:
        self.path = path
        self._handle = handle
        self._made = made

    def release(self) -> None:
        """Let others have the folder; what was made for it and stayed empty is removed."""
        for path in self._made:
            with contextlib.suppress(OSError):
                path.rmdir()
        self._made = ()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def keep(self) -> None:
        """Stay taken by what this process becomes by ``exec``."""
        if self._handle is not None:
            os.set_inheritable(self._handle, True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take_named(pattern: str, path: Path, key: str = RUN_KEY) -> OwnFolder:
    """Take the folder that a configuration names: if the clock names it, the next free one."""
    return take_free(path, key) if "${now:" in pattern else take(path, key)


def take(path: Path, key: str = RUN_KEY, patience: float = 0.0) -> OwnFolder:
    """Take a folder, made if it is not there, that no other run has, and that can be written to.

    A ``resume`` must be there and hold no links, by which a run would write elsewhere. Whoever has
    the folder may end within ``patience`` seconds: the processes of a server that was killed do.
    """
    if key == "resume" and not path.is_dir():
        raise ConfigError(
            key,
            f"there is no run in {path}",
            "give the folder of one run, such as outputs/DATE/TIME",
        )
    if key == "resume":
        _refuse_links(path)
    deadline = time.monotonic() + patience
    while (own := _try(path, key)) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if own is None:
        raise ConfigError(
            key, f"a run is under way in {path}", "wait for it or stop it, or choose another folder"
        )
    return own


def _refuse_links(folder: Path) -> None:
    """Refuse a folder with links; what wandb keeps below its own is its own, and holds some."""
    for path in folder.rglob("*"):
        if WANDBS in path.relative_to(folder).parent.parts:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(
                "resume",
                f"{path} is no file but a link, a pipe or a device, and a run writes none",
                "look where it leads, and put a file in its place, or remove it",
            )


def by_the_clock(outputs: Path = OUTPUTS) -> Path:
    """Return the folder that a run has where nobody names one."""
    return outputs / time.strftime("%Y-%m-%d/%H-%M-%S")


def take_free(path: Path, key: str = RUN_KEY) -> OwnFolder:
    """Take a folder that is nobody's: `path`, or if that is taken or used ``path-2`` and so on."""
    for number in itertools.count(1):
        own = _try(path if number == 1 else path.with_name(f"{path.name}-{number}"), key)
        if own is None:
            continue
        if not any(own.path.iterdir()):
            return own
        own.release()
    raise AssertionError("there is always a next number")


def _try(path: Path, key: str) -> OwnFolder | None:
    """Take a folder, ``~`` read as a shell would; None if it is taken."""
    with contextlib.suppress(RuntimeError):  # nobody's home: a name like others
        path = path.expanduser()
    try:
        os.fspath(path.absolute()).encode()
    except UnicodeEncodeError as fault:  # Arrow and safetensors find no such file
        raise ConfigError(
            key, f"{path.absolute()} is no UTF-8 text", "rename that folder, or choose another"
        ) from fault
    for part in (path, *path.parents):
        if part.name in PARTS and (part.parent / ".hydra" / "config.yaml").exists():
            raise ConfigError(
                key, f"{path} is a part of the run in {part.parent}", "choose another"
            )
    try:
        while True:
            made = tuple(itertools.takewhile(lambda each: not each.exists(), (path, *path.parents)))
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            handle = _lock(path)
            if handle is None or _is_still(path, handle):
                return OwnFolder(path, handle, made)
            os.close(handle)  # whoever had made it removed it in the meantime
    except BlockingIOError:
        return None
    except OSError as error:
        raise ConfigError(key, f"cannot be written to: {error}", "choose another") from error


def under_way(folder: Path) -> bool:
    """Say whether some process is running a run in a folder; False where that cannot be told."""
    try:
        handle = _lock(folder, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if handle is not None:
        os.close(handle)
    return False


def _lock(path: Path, *, shared: bool = False) -> int | None:
    """Return a descriptor that holds the folder; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            os.close(handle)
            raise BlockingIOError from error
        # Some network file systems cannot hold folders: go on without.
    return handle


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
