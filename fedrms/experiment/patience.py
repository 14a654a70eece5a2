"""Wait for somebody else's server, and not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def within(seconds: float | None, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns, or raise `TimeoutError` and leave it to itself.

    It runs in a thread that does not keep the process alive; without a limit, in this one.
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
