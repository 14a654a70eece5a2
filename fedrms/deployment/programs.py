"""Start a program, and later stop it with everything that it started."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from fedrms.errors import ConfigError

GRACE = 6.0
"""Seconds that processes have to end, half of them after they were told to."""


def find_program(name: str) -> str:
    """Return the path of a program that was installed beside this Python."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ConfigError(
            "installation", f"there is no program {name}", "reinstall flwr with constraints.txt"
        )
    return found


class Program:
    """A running program; leaving the ``with`` block stops it within ``grace`` seconds.

    It has a session of its own, so that Ctrl-C reaches this process alone, which then stops its
    programs in order.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        grace: float = 8.0,
    ) -> None:
        self.log = log
        self._home = environment["FLWR_HOME"]
        self._grace = grace
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                words,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit status, minus the signal that ended it; None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 15) -> str:
        """Return the end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to end, insist after the grace, and end what it left behind."""
        if self.ended is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(self._grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # Also what has lost its parent, and what has just been started.
        while family := living_in(self._home):
            end_all(family, min(2 * self._grace, GRACE), ask_at_once=self._grace < GRACE / 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class NewLines:
    """The complete lines that a file has gained since it was looked at."""

    def __init__(self, path: Path, read: int = 0) -> None:
        self._path, self._read = path, read

    def __call__(self) -> list[bytes]:
        """Return them; none while there is no file."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete)
        return complete.splitlines()


def living_in(home: str) -> list[psutil.Process]:
    """Return the processes whose home is a certain one: all that one of Flower's programs began."""
    return [process for process in psutil.process_iter() if _lives_in(process, home)]


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_all(
    processes: Sequence[psutil.Process], grace: float = GRACE, *, ask_at_once: bool = False
) -> None:
    """Wait for processes that are about to end, unless they are not; end those that do not."""
    alive = list(processes)
    if not ask_at_once:
        alive = _still_alive(alive, grace / 2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            _signal(process, number)
        alive = _still_alive(alive, grace / 2)


def _still_alive(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, for so many seconds at most; return those that have not.

    Who has ended and has a parent that does not look, as in a container, is not waited for.
    """
    deadline = time.monotonic() + seconds
    while alive := [one for one in processes if one.is_running() and is_alive(one.pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def _lives_in(process: psutil.Process, home: str) -> bool:
    try:
        at_home = bool(process.environ().get("FLWR_HOME") == home)
        return at_home and bool(process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OSError):  # another user's, or gone
        return False


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
