"""Bound how far any one client can pull, before its update is scaled."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import over_columns
from fedrms.combining.row_blocks import Stack, blocks_of

CELLS = 1 << 18
"""Most numbers handled at a time: they stay in the caches."""
SUMMED = 1 << 12
"""Squares that are summed in float32; their sums are in float64."""
SAFE = (1e-24, 1e30)
"""Sums of squares in float32 between these lost nothing to numbers too small, or too large."""


def clip_factors(
    norms: np.ndarray, *, largest: float | None, times_median: float | None
) -> np.ndarray:
    """Return ``[clients]`` factors in (0, 1] that bring update norms under the limits.

    One is absolute, one relative to the cohort's median norm, which one liar cannot move far.
    """
    limit = np.inf if largest is None else largest
    if times_median is not None:
        limit = min(limit, times_median * float(np.median(norms)))
    over = norms > limit
    return np.asarray(np.divide(limit, norms, out=np.ones_like(norms), where=over))


def update_norms(parameters: Stack, received: Tensor) -> np.ndarray:
    """Return ``[clients]`` the L2 norms of the updates, good to about 1e-8.

    Squares of float32 are summed in float32 over a few thousand columns, and these in float64. A
    stack ``[clients, parameters]`` is measured where it lies.
    """
    if isinstance(parameters, Tensor):
        received = received.to(parameters.device)
    else:
        parameters = parameters.to(received.device)
    squares = np.empty(parameters.shape[0])
    for rows, block in blocks_of(parameters):
        parts: dict[int, np.ndarray] = {}

        def sum_squares(
            columns: slice, block: Tensor = block, parts: dict[int, np.ndarray] = parts
        ) -> None:
            parts[columns.start] = _sums_of_squares(block[:, columns] - received[columns])

        over_columns(sum_squares, block.shape, max(256, CELLS // len(block)))
        squares[rows.numpy()] = sum(parts[start] for start in sorted(parts))
    return np.sqrt(squares)


def _sums_of_squares(updates: Tensor) -> np.ndarray:
    """Return ``[clients]`` float64 of ``[clients, columns]``."""
    if updates.dtype != torch.float32:
        return np.asarray(updates.double().square_().sum(1).cpu().numpy())
    if updates.device.type == "cpu":
        numbers = updates.numpy()  # its dot products make no squares to be read again
        whole = numbers.shape[1] // SUMMED * SUMMED
        parts, rest = numbers[:, :whole].reshape(len(numbers), -1, SUMMED), numbers[:, whole:]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.vecdot(parts, parts).sum(1, dtype=np.float64) + np.vecdot(rest, rest)
    else:
        sums = updates.square().sum(1).double().cpu().numpy()
    doubtful = np.flatnonzero(~((sums > SAFE[0]) & (sums < SAFE[1])))
    if len(doubtful):
        wide = updates[torch.from_numpy(doubtful).to(updates.device)].double()
        sums[doubtful] = wide.square_().sum(1).cpu().numpy()
    return np.asarray(sums)


def clipped(parameters: Stack, received: Tensor, factors: np.ndarray) -> Stack:
    """Return the models whose updates are shortened by ``factors`` ``[clients]``."""

    def shorten(rows: np.ndarray, block: Tensor) -> Tensor:
        by = torch.from_numpy(factors[rows]).to(block.dtype)[:, None]
        return (block - received).mul_(by).add_(received)

    if isinstance(parameters, Tensor):
        return shorten(np.arange(len(parameters)), parameters)
    return parameters.map(shorten)
