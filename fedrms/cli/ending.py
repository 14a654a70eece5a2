"""How every command begins and ends: what Flower is kept from, exit codes, one message."""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from fedrms.errors import ConfigError, FedRMSError, RunError

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


@contextmanager
def ending_well(
    program: str, words: Sequence[str] = (), *, stopped: str = "what was computed is kept"
) -> Iterator[None]:
    """Begin as every command does, and end it with one message and its exit code.

    2 where it is asked for what cannot be, 1 where a run broke, and 130, 143 or 129 where a signal
    asked it to end; ``stopped`` is what is then said of the work. What nobody foresaw is shown as
    it is.
    """
    keep_flower_offline()
    # Hydra would print its errors and exit with 1; asked for the full error, it raises.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)  # Python would look for garbage among all that was imported
    stop_by_signals()
    try:
        yield
    except KeyboardInterrupt:
        _end_stopped(program, stopped)
    except BrokenPipeError:
        nobody_reads()
    except Exception as error:
        if stopped_by() is not None:  # what was interrupted made an error of its own of it
            if isinstance(error, RunError):
                print(f"{program}: {error}", file=sys.stderr)
            _end_stopped(program, stopped)
        if isinstance(error, FedRMSError):
            stop(program, error)
        if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf"):
            raise
        from fedrms.experiment.config import explain

        stop(program, explain(error, [word for word in words if not word.startswith("-")]))


def _end_stopped(program: str, stopped: str) -> NoReturn:
    print(f"{program}: stopped; {stopped}", file=sys.stderr)
    sys.exit(128 + (stopped_by() or signal.SIGINT))


def nobody_reads() -> NoReturn:
    """End as programs do whose output goes to one that has seen enough, such as ``head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
    sys.exit(128 + signal.SIGPIPE)


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
        self.first: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self._came += 1
        if self._came == 1:
            self.first = number
            raise StoppedError(number)
        if self._came == 2:
            os.write(2, b"saving what was computed; once more ends it at once\n")
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def stopped_by() -> int | None:
    """Return the first signal that asked this program to end; None if there was none."""
    handlers = (signal.getsignal(number) for number in STOPPING)
    firsts = (handler.first for handler in handlers if isinstance(handler, Stopping))
    return next((first for first in firsts if first is not None), None)


def stop_by_signals() -> None:
    """Have signals end this program as `Stopping` says, but for those that it is to ignore."""
    stopping = Stopping()
    for number in STOPPING:
        former = signal.getsignal(number)
        if former is not signal.SIG_IGN and not isinstance(former, Stopping):  # as nohup has it
            signal.signal(number, stopping)


def next_command(*words: str) -> str:
    """Return the line that ends a command's output: the command that most people want next."""
    return f"next: {shlex.join(words)}"
