"""Memory of its own for what is as large as a model, apart from the heap."""

from __future__ import annotations

from mmap import ACCESS_COPY, mmap

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 24
"""Bytes from which it is worth it: taking memory from the system costs .25 ms a megabyte."""


def own_memory(size: int) -> np.ndarray:
    """Return ``[size]`` bytes that the system gets back when nobody holds them any more.

    In the heap, smaller pieces would settle where a model has been, and the next would lie beside.
    Less than :data:`LARGE` is of the heap all the same.
    """
    if size < LARGE:
        return np.empty(size, np.uint8)
    try:
        return np.frombuffer(mmap(-1, size, access=ACCESS_COPY), np.uint8)
    except OSError as error:
        raise MemoryError(f"{size} bytes: {error}") from error


def empty_model(like: Tensor) -> Tensor:
    """Return a model ``[parameters]`` like another, not filled."""
    if like.numel() * like.element_size() < LARGE or like.device.type != "cpu":
        return torch.empty_like(like)
    return torch.from_numpy(own_memory(like.nbytes)).view(like.dtype).view(like.shape)
