"""Work on blocks of columns, which fit a core's caches, on as many threads as torch may use."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from fedrms.one_thread import one_thread_an_operation

LEAST = 1 << 24
"""Numbers of a stack from which threads are worth starting: a mean of them takes 3 ms."""


def over_columns(work: Callable[[slice], None], shape: Sequence[int], width: int) -> None:
    """Call ``work`` once for every block of a stack's columns, ``width`` at most and of like size.

    Blocks are the same whatever the number of threads, so results are too. A large stack's are on
    several threads.
    """
    clients, columns = shape
    count = -(-columns // width)
    step = min(width, 64 * -(-columns // (64 * count))) if count else width
    blocks = [slice(at, min(at + step, columns)) for at in range(0, columns, step)]
    allowed = torch.get_num_threads()
    threads = min(allowed, len(blocks)) if clients * columns >= LEAST else 1
    if threads <= 1:
        with one_thread_an_operation():
            for block in blocks:
                work(block)
        return
    # The threads' own operations must not part into threads again.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(work, blocks):
            pass


class Scratch(threading.local):
    """Arrays that every thread keeps from block to block.

    The pages of fresh memory cost more than what is done in them.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Return the array of this name with this shape; what is in it is of no account."""
        size = math.prod(shape)
        kept = self._arrays.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._arrays[name] = np.empty(size, dtype=dtype)
        return kept[:size].reshape(shape)
