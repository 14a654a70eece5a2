"""How every command begins and ends: what Flower is kept from, exit codes, one message."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from fedrms.errors import ConfigError, FedRMSError

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""What asks a program to end."""

BAD_INPUT, FAILED, STOPPED = 2, 1, 130
"""Exit codes: a configuration that cannot run, a run that broke, a run that was stopped."""


def keep_flower_offline() -> None:
    """Switch off Flower's telemetry and its look for updates, unless the person chose."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def stop(program: str, error: FedRMSError) -> NoReturn:
    """End the program with an error that a person is meant to read."""
    print(f"{program}: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED)


def interrupt_once(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal as Ctrl-C, once: a second one does not break off what is ended and saved."""
    for again in STOPPING:
        signal.signal(again, signal.SIG_IGN)
    raise KeyboardInterrupt
