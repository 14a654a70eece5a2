"""Wait for somebody else's server, and not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def within(seconds: float | None, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns; leave it to itself where it takes too long.

    Parameters
    ----------
    seconds : float or None
        How long to wait; None to wait as long as it takes, without a thread.
    call : callable
        Runs in a thread that does not keep the process alive.

    Raises
    ------
    TimeoutError
        If there is no answer in time.
    """
    if seconds is None:
        return call()
    future: Future[Answer] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # belongs to whoever waits
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise  # the call's own
        raise TimeoutError(f"no answer in {seconds:g} s") from error
