"""Robust centres that go by coordinate: the weighted median and the trimmed mean.

Every coordinate's values are brought into a row and sorted by NumPy's vectorised sort of plain
numbers. Where weights differ, a float32 value becomes a float64 whose last 29 bits, which the value
leaves 0, hold its client's number: the order stays that of the values, and the same sort brings
the clients along.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import Scratch, over_columns
from fedrms.combining.row_blocks import Stack, slabs_of

CELLS = 1 << 17
"""Most numbers sorted at a time: with what is made of them, they stay in a CPU's caches."""
PAD = 16
"""Numbers between the rows of a block, so that rows do not fall on the same cache lines."""
TIE = 1e-9
"""Weights this near to one half count as one half."""
SPARE = np.int64((1 << 29) - 1)
"""The bits of a float64 that a float32 leaves 0."""

Centre = Callable[[np.ndarray, Scratch], Tensor]
"""From a block ``[clients, columns]`` to its centre ``[columns]`` in float64."""


def median(parameters: Stack, received: Tensor, weights: Tensor) -> Tensor:
    """Return the step to the weighted coordinate median (Yin et al. 2018, arXiv:1803.01498).

    The value at which half of the weight lies on either side; the midpoint of two values
    where exactly half lies below the first.
    """
    share = (weights / weights.sum()).numpy()
    last = len(share) - 1

    def middle_of_alike(block: np.ndarray, scratch: Scratch) -> Tensor:
        values = _rising(block, scratch)
        return _midpoint(values[:, last // 2], values[:, len(share) // 2])

    def middle(block: np.ndarray, scratch: Scratch) -> Tensor:
        ranked = _Ranked(block, scratch)
        below = ranked.weights(share, slice(None))
        torch.cumsum(torch.from_numpy(below), 1, out=torch.from_numpy(below))
        rows = np.arange(len(below))
        first = (below >= 0.5 - TIE).argmax(axis=1)
        second = first.copy()
        halved = np.flatnonzero(below[rows, first] <= 0.5 + TIE)
        second[halved] = np.minimum((below[halved] <= 0.5 + TIE).sum(axis=1), last)
        return _midpoint(ranked.values(rows, first), ranked.values(rows, second))

    alike = bool((share == share[0]).all())
    return _step(parameters, received, weights, middle_of_alike if alike else middle)


def trimmed_mean(
    parameters: Stack, received: Tensor, weights: Tensor, *, trim: float = 0.2
) -> Tensor:
    """Return the step to the weighted mean without the extremes (Yin et al. 2018).

    Parameters
    ----------
    trim : float
        Share of clients cut from each end of every coordinate, rounded down; below one
        half. Where only clients of weight 0 are left, they count alike.
    """
    cut = int(trim * len(weights))
    inside = slice(cut, len(weights) - cut)
    plain = weights.numpy()

    def centre_of_alike(block: np.ndarray, scratch: Scratch) -> Tensor:
        return torch.from_numpy(_rising(block, scratch)[:, inside]).double().mean(1)

    def centre(block: np.ndarray, scratch: Scratch) -> Tensor:
        ranked = _Ranked(block, scratch)
        kept = torch.from_numpy(ranked.weights(plain, inside))
        total = kept.sum(1)
        nobody = total <= 0.0
        if nobody.any():
            kept[nobody] = 1.0
            total = kept.sum(1)
        values = torch.from_numpy(ranked.values(slice(None), inside))
        return kept.mul_(values).sum(1) / total

    alike = bool((plain == plain[0]).all())
    return _step(parameters, received, weights, centre_of_alike if alike else centre)


def _step(parameters: Stack, received: Tensor, weights: Tensor, centre: Centre) -> Tensor:
    """Return the step from ``received`` to the centre of every coordinate."""
    step = torch.empty_like(received)
    total = float(weights.sum())
    scratch = Scratch()
    for columns, slab in slabs_of(parameters):
        base, part = received[columns], step[columns]

        def work(
            here: slice, slab: Tensor = slab, base: Tensor = base, part: Tensor = part
        ) -> None:
            block = slab[:, here]
            if block.dtype not in (torch.float32, torch.float64):
                block = block.float()
            part[here] = total * (centre(block.numpy(), scratch) - base[here].double())

        over_columns(work, slab.shape, max(64, CELLS // len(weights)))
    return step


def _rising(block: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return ``[columns, clients]`` every coordinate's values in rising order."""
    values = scratch.array("values", block.shape[::-1], block.dtype)
    values[...] = _compact(block, scratch).T
    values.sort(axis=1)
    return values


class _Ranked:
    """A block with every coordinate sorted, and who holds each rank."""

    def __init__(self, block: np.ndarray, scratch: Scratch) -> None:
        self._block, self._scratch = block, scratch
        self._packed = block.dtype == np.float32
        clients, columns = block.shape
        if not self._packed:
            self._order = np.argsort(block.T, axis=1, kind="stable")
            return
        keys = scratch.array("keys", (columns, clients), np.float64)
        keys[...] = _compact(block, scratch).T
        self._bits = keys.view(np.int64)
        self._bits |= np.arange(clients)
        keys.sort(axis=1)
        self._order = scratch.array("order", keys.shape, np.int64)
        np.bitwise_and(self._bits, SPARE, out=self._order)

    def weights(self, weights: np.ndarray, ranks: slice) -> np.ndarray:
        """Return ``[columns, ranks]`` the weights of those who hold these ranks."""
        order = self._order[:, ranks]
        held = self._scratch.array("weights", order.shape, np.float64)
        return weights.take(order, out=held, mode="clip")

    def values(self, columns: np.ndarray | slice, ranks: np.ndarray | slice) -> np.ndarray:
        """Return the values at these ranks in float64."""
        if not self._packed:
            return np.take_along_axis(self._block.T, self._order, axis=1)[columns, ranks]
        return (self._bits[columns, ranks] & ~SPARE).view(np.float64)


def _compact(block: np.ndarray, scratch: Scratch) -> np.ndarray:
    clients, columns = block.shape
    compact = scratch.array("compact", (clients, columns + PAD), block.dtype)[:, :columns]
    compact[...] = block
    return compact


def _midpoint(low: np.ndarray, high: np.ndarray) -> Tensor:
    return torch.from_numpy(0.5 * (low.astype(np.float64) + high.astype(np.float64)))
