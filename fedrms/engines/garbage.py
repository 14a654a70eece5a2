"""Garbage collections that a strategy asks for, kept to what its rounds have made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled_objects() -> Iterator[None]:
    """Spare what exists already from garbage collection while the block runs.

    Some of Flower's strategies (``QFedAvg``, ``Bulyan`` of flwr 1.41) collect garbage once a
    reply, which looks through every object of every library: several times longer than a round
    of a small model takes. Objects that somebody has frozen before are left as they are.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
