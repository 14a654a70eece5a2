"""A process that outlives its parent only to end what the parent leaves behind.

Who is killed cannot stop what it has started. This one waits at the end of a pipe: it closes when
the parent ends, however that is, and unless a word came first, everything that lives in the
parent's private home is ended, and the home, keys and all, is removed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fedrms.deployment.programs import end_all, living_in

ALL_IS_WELL = b"all is well"


@contextmanager
def undertaker(home: str) -> Iterator[None]:
    """Have a home looked after for the time of a ``with`` block, whatever becomes of this process.

    Flower's programs find the folder in ``FLWR_HOME``.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __name__, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as waiting:
        try:
            yield
        finally:
            waiting.communicate(ALL_IS_WELL)


def main(home: str) -> None:
    """Wait for the parent's end, and clear up after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == ALL_IS_WELL:
        return
    while family := living_in(home):
        end_all(family, ask_at_once=True)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
