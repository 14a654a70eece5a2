"""The memory of a cohort's stack, used again in the next round."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.own_memory import LARGE, own_memory
from fedrms.engines.allocator import give_back_free_memory

ALIGNED = 64
"""Bytes of a cache line, at which PyTorch's own tensors begin, and every row of a stack.

A product that adds to weights which lie across cache lines takes up to 2.3 times as long.
"""
HELD_BY_NOBODY = 2
"""References to the memory while no tensor lies in it: ours, and the one that asks."""


class StackMemory:
    """Memory for one stack on a CPU; a new one is taken while anybody still holds the last.

    A stack may be most of what a round takes. Freed and taken anew it would be cut up by smaller
    pieces in between, and the next one would lie beside it.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def empty(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return ``[rows, columns]`` of the dtype and on the device of ``like``, not filled.

        On a CPU a row may end with unused bytes, so that the next one begins at a cache line.
        """
        row_bytes = -(-columns * like.element_size() // ALIGNED) * ALIGNED
        size = rows * row_bytes
        if like.device.type != "cpu" or not size:
            return like.new_empty(rows, columns)
        if sys.getrefcount(self._bytes) > HELD_BY_NOBODY or len(self._bytes) < size + ALIGNED:
            self._bytes = np.empty(0, np.uint8)  # let go of before the next is taken
            if size >= LARGE:
                give_back_free_memory()
            self._bytes = own_memory(size + ALIGNED)
        start = -self._bytes.ctypes.data % ALIGNED
        lines = torch.from_numpy(self._bytes[start : start + size].reshape(rows, row_bytes))
        return lines.view(like.dtype)[:, :columns]
