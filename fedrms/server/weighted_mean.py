"""The weighted mean of a stack of client models, at the speed at which memory is read.

A sum over all clients in float32 loses digits with every client, and turning the stack into
float64 costs several times the sum itself. So float32 stacks are summed over groups of clients
in float32, by a matrix-vector product, and the groups in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedrms.server.columns import over_columns
from fedrms.server.row_blocks import RowBlocks, Stack, blocks_of

GROUP = 64
"""Most clients that are summed in float32."""
FEW = 16
"""Cohorts below this are summed in float64 alone."""
WIDTH = 1 << 15
"""Columns handled at a time: the groups' sums stay in a core's cache."""
CONVERTED = 16
"""Clients that are turned into float64 at a time."""


def mean(parameters: Stack, received: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k w_k (x_k - received); weights that sum to 1 give the weighted mean.

    Float64 stacks, and cohorts of fewer than :data:`FEW` clients, are summed in float64. Larger
    float32 stacks have an error of at most
    ``2^-24 (GROUP + 2) sum_k w_k (|x_k| + |received|)``, besides the rounding of the result: it
    does not grow with the cohort, and in practice the groups' errors average out. A parameter
    that the first client returned as it was is summed in float64 in any case, so that one
    which nobody trains stays what it is, to the bit.

    Parameters
    ----------
    parameters : Tensor or RowBlocks
        ``[clients, parameters]``; blocks of rows are read one after the other, beside one
        float64 sum ``[parameters]``.
    received : Tensor
        ``[parameters]``.
    weights : Tensor
        ``[clients]`` float64.
    """
    grouped = parameters.dtype == torch.float32 and len(weights) >= FEW
    if grouped:
        weights = weights.float().double()
    total = weights.sum()
    if isinstance(parameters, RowBlocks):
        running = received.double() * -total
        untouched: Tensor | None = None
        for rows, block in blocks_of(parameters):
            untouched = block[0] == received if untouched is None else untouched
            _add_block(running, block, weights[rows], untouched, grouped)
        return running.to(received.dtype)

    step = torch.empty_like(received)

    def combine(columns: slice) -> None:
        block, base = parameters[:, columns], received[columns]
        running = base.double() * -total
        _add(running, block, weights, block[0] == base, grouped)
        step[columns] = running

    over_columns(combine, len(received), WIDTH)
    return step


def _add_block(
    running: Tensor, block: Tensor, weights: Tensor, untouched: Tensor, grouped: bool
) -> None:
    def add(columns: slice) -> None:
        _add(running[columns], block[:, columns], weights, untouched[columns], grouped)

    over_columns(add, len(running), WIDTH)


def _add(running: Tensor, block: Tensor, weights: Tensor, untouched: Tensor, grouped: bool) -> None:
    """Add ``weights @ block`` to a running sum ``[columns]`` in float64, in place."""
    exact = untouched.nonzero()[:, 0] if grouped and untouched.any() else None
    if not grouped or (exact is not None and 4 * len(exact) > len(running)):
        for rows in range(0, len(block), CONVERTED):
            some = slice(rows, rows + CONVERTED)
            running.addmv_(block[some].double().t(), weights[some])
        return
    kept = None if exact is None else running[exact]
    groups = -(-len(block) // GROUP)
    sums = torch.empty(groups, len(running), dtype=torch.float32)
    single = weights.float()
    for group, row, weight in zip(
        block.tensor_split(groups), sums, single.tensor_split(groups), strict=True
    ):
        torch.mv(group.t(), weight, out=row)
    running.addmv_(sums.double().t(), torch.ones(groups, dtype=torch.float64))
    if exact is not None and kept is not None:
        running[exact] = kept.addmv_(block.index_select(1, exact).double().t(), weights)
