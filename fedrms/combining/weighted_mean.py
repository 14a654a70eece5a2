"""The weighted mean of a stack of client models, at the speed at which memory is read.

A sum over all clients in float32 loses digits with every client, and turning the stack into
float64 costs several times the sum itself. So float32 stacks are summed over groups of clients
in float32, by a matrix-vector product, and the groups in float64. Of a few clients with large
models the updates are summed, in float32: they are small beside the models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import Scratch, over_columns
from fedrms.combining.own_memory import empty_model
from fedrms.combining.row_blocks import RowBlocks, Stack, blocks_of

GROUP = 64
"""Most clients that are summed in float32."""
FEW = 16
"""Cohorts below this are one group."""
LARGE = 1 << 16
"""Parameters from which the time that summing a few clients in float64 takes is noticed."""
AT_ONCE = 4
"""Groups whose sums are kept before they are added up."""
WIDTH = 1 << 16
"""Most columns handled at a time: fewer calls, and the groups' sums still stay in caches."""
EXACT_CELLS = 1 << 18
"""Numbers that are turned into float64 at a time where all are: they stay in the caches."""
UPDATE_CELLS = 1 << 20
"""Numbers of updates that are made at a time."""
WIDE_CELLS = 1 << 26
"""Numbers of a stack on a GPU that are turned into float64 at a time."""
CONVERTED = 16
"""Clients that are turned into float64 at a time."""
ONES = torch.ones(AT_ONCE, dtype=torch.float64)


def mean(parameters: Stack, received: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k w_k (x_k - received); weights that sum to 1 give the weighted mean.

    Float64 stacks, and cohorts of fewer than :data:`FEW` clients, are summed in float64; such a
    cohort's float32 models of :data:`LARGE` parameters and more are not, and have an error of at
    most ``2^-24 (FEW + 2) sum_k w_k |x_k - received|``. Larger float32 stacks have one of at most
    ``2^-24 (GROUP + 2) sum_k w_k (|x_k| + |received|)``, besides the rounding of the result: it
    does not grow with the cohort, and in practice the groups' errors average out. A parameter
    that the first client returned as it was is summed in float64 in any case, so that one
    which nobody trains stays what it is, to the bit.

    Parameters
    ----------
    parameters : Tensor or RowBlocks
        ``[clients, parameters]``; blocks of rows that are made when they are read are
        read one after the other, beside one float64 sum ``[parameters]``.
    received : Tensor
        ``[parameters]``.
    weights : Tensor
        ``[clients]`` float64.
    """
    grouped = parameters.dtype == torch.float32 and len(weights) >= FEW
    if grouped:
        weights = weights.float().double()
    total, scratch = float(weights.sum()), Scratch()
    blocks = parameters.held if isinstance(parameters, RowBlocks) else None
    if isinstance(parameters, RowBlocks) and blocks is None:
        running = received.to(torch.float64, copy=True).mul_(-total)
        untouched: np.ndarray | None = None
        for rows, block in blocks_of(parameters):
            untouched = _equal(block[0], received) if untouched is None else untouched
            _Rows(block, weights[rows], grouped).add_all(running, untouched, scratch)
        return running.to(received.dtype)

    step = empty_model(received)
    few = len(weights) < FEW and parameters.dtype == torch.float32 and len(received) >= LARGE
    if few and isinstance(parameters, Tensor):
        share = weights.float()

        def add_updates(columns: slice) -> None:
            models = parameters[:, columns]
            updates = torch.from_numpy(scratch.array("updates", models.shape, np.float32))
            torch.sub(models, received[columns], out=updates)
            torch.mv(updates.t(), share, out=step[columns])

        over_columns(add_updates, parameters.shape, UPDATE_CELLS // len(weights))
        return step
    if isinstance(parameters, Tensor):
        parts = [_Rows(parameters, weights, grouped)]
    else:
        parts = [_Rows(block, weights[rows], grouped) for rows, block in blocks or ()]

    def combine(columns: slice) -> None:
        base = received[columns]
        running = torch.from_numpy(scratch.array("running", (len(base),), np.float64))
        running.copy_(base).mul_(-total)
        untouched = _equal(parts[0].block[0, columns], base) if grouped else None
        for part in parts:
            if untouched is None:
                part.add_exactly(running, columns, scratch)
            else:
                part.add(running, columns, untouched, scratch)
        step[columns] = running

    width = WIDTH if grouped else max(256, EXACT_CELLS // min(CONVERTED, max(1, len(weights))))
    over_columns(combine, parameters.shape, width)
    return step


def mean_where_it_lies(parameters: Tensor, received: Tensor, weights: Tensor) -> Tensor:
    """Return :func:`mean` of a stack on a GPU, computed there in float64: only the step leaves it.

    The received model ``[parameters]`` and the weights ``[clients]`` are float64, in main memory.
    """
    share = weights.to(parameters.device)
    width = max(1, WIDE_CELLS // max(1, len(weights)))
    sums = [share @ block.double() for block in parameters.split(width, 1)]  # type: ignore[no-untyped-call]
    step = torch.cat(sums).to(received.device) - weights.sum() * received.double()
    return step.to(received.dtype)


class _Rows:
    """Rows of a stack with their weights, ready to be added to a running sum."""

    def __init__(self, block: Tensor, weights: Tensor, grouped: bool) -> None:
        self.block, self._weights, self._grouped = block, weights, grouped
        count = -(-len(block) // GROUP) if grouped else 0
        self._groups = list(
            zip(
                torch.tensor_split(block, count),
                torch.tensor_split(weights.float(), count),
                strict=True,
            )
            if grouped
            else ()
        )

    def add_all(self, running: Tensor, untouched: np.ndarray, scratch: Scratch) -> None:
        """Add ``weights @ block`` to a sum ``[parameters]`` in float64, in place."""

        def add(columns: slice) -> None:
            self.add(running[columns], columns, untouched[columns], scratch)

        over_columns(add, self.block.shape, WIDTH)

    def add(self, running: Tensor, columns: slice, untouched: np.ndarray, scratch: Scratch) -> None:
        """Add some columns of ``weights @ block`` to their sums in float64, in place."""
        exact = torch.from_numpy(np.flatnonzero(untouched)) if untouched.any() else None
        if not self._grouped or (exact is not None and 4 * len(exact) > len(running)):
            self.add_exactly(running, columns, scratch)
            return
        kept = None if exact is None else running[exact]
        sums = torch.from_numpy(scratch.array("sums", (AT_ONCE, len(running)), np.float32))
        wide = torch.from_numpy(scratch.array("wide", (AT_ONCE, len(running)), np.float64))
        for some in range(0, len(self._groups), AT_ONCE):
            groups = self._groups[some : some + AT_ONCE]
            for (group, weight), row in zip(groups, sums, strict=False):
                torch.mv(group[:, columns].t(), weight, out=row)
            used = wide[: len(groups)].copy_(sums[: len(groups)])
            running.addmv_(used.t(), ONES[: len(groups)])
        if exact is not None and kept is not None:
            models = self.block[:, columns].index_select(1, exact)
            running[exact] = kept.addmv_(models.double().t(), self._weights)

    def add_exactly(self, running: Tensor, columns: slice, scratch: Scratch) -> None:
        """Add some columns of ``weights @ block`` to their sums, all of it in float64, in place."""
        for rows in range(0, len(self.block), CONVERTED):
            some = slice(rows, rows + CONVERTED)
            models = self.block[some, columns]
            wide = torch.from_numpy(scratch.array("models", tuple(models.shape), np.float64))
            running.addmv_(wide.copy_(models).t(), self._weights[some])


def _equal(one: Tensor, other: Tensor) -> np.ndarray:
    if one.dtype != torch.float32:
        return np.zeros(len(one), dtype=bool)  # summed in float64 anyway
    return np.asarray(one.numpy() == other.numpy())  # NumPy's is several times as fast
