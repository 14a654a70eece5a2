"""How every command begins and ends: what Flower is kept from, exit codes, one message."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from types import FrameType
from typing import NoReturn

from fedrms.errors import ConfigError, FedRMSError

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a program to end."""

BAD_INPUT, FAILED = 2, 1
"""Exit codes: a configuration that cannot run, a run that broke."""


def keep_flower_offline() -> None:
    """Switch off Flower's telemetry and its look for updates, unless the person chose."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def stop(program: str, error: FedRMSError) -> NoReturn:
    """End the program with an error that a person is meant to read."""
    if isinstance(error, ConfigError):
        error = error.configured or error
    print(f"{program}: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED)


class StoppedError(KeyboardInterrupt):
    """A signal has come that asks the program to end; what is right at Ctrl-C is right then."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stopping:
    """Handle signals that ask a program to end: the first interrupts, and results are saved.

    The second does not break that off; the third ends the program at once.
    """

    def __init__(self) -> None:
        self._came = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._came += 1
        if self._came == 1:
            raise StoppedError(number)
        if self._came == 2:
            os.write(2, b"saving what was computed; once more ends it at once\n")
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def stop_by_signals() -> None:
    """Have signals end this program as `Stopping` says, but for those that it is to ignore."""
    stopping = Stopping()
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stopping)


def stopped_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a program that a signal has stopped: 130, 143 or 129."""
    return 128 + (error.number if isinstance(error, StoppedError) else signal.SIGINT)


def next_command(*words: str) -> str:
    """Return the line that ends a command's output: the command that most people want next."""
    return f"next: {shlex.join(words)}"
