"""What a run changes in its process, given back as it was found."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fedrms.experiment.run_state import generators_state, restore_generators

_one_run = threading.RLock()

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def left_as_found() -> Iterator[None]:
    """Have this process to oneself, and give it back with the settings that it had.

    Random generators, the number of threads of an operation, loggers and signal handlers are
    one a process: a run draws from them and sets them, and so would a second run in another
    thread, which therefore waits its turn.
    """
    with _one_run:
        generators, threads = generators_state(), torch.get_num_threads()
        loggers, handlers = _loggers(), _handlers()
        try:
            yield
        finally:
            restore_generators(generators)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            for logger, (level, propagate, filters, attached) in loggers.items():
                if logger.level != level:  # each setting empties the caches of all loggers
                    logger.setLevel(level)
                logger.propagate, logger.filters[:] = propagate, filters
                logger.handlers[:] = attached
                for handler, own in attached.items():
                    handler.setLevel(own)
            for number, former in handlers.items():
                if signal.getsignal(number) is not former:
                    signal.signal(number, former)


def _loggers() -> dict[logging.Logger, tuple[int, bool, list[Any], dict[logging.Handler, int]]]:
    named = list(logging.root.manager.loggerDict.values())
    there = [logging.root, *(each for each in named if isinstance(each, logging.Logger))]
    return {
        each: (
            *(each.level, each.propagate, list(each.filters)),
            {handler: handler.level for handler in each.handlers},
        )
        for each in there
    }


def _handlers() -> dict[int, Any]:
    """Return who handles signals; only the main thread may set it, so nobody else changes it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not None}
