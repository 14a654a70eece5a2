"""All inner products between the updates of a cohort, from which all its distances follow."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fedrms.server.row_blocks import Stack, slabs_of

WIDTH = 1 << 10
"""Columns multiplied at a time, and so the most products that are summed in one go."""
CELLS = 1 << 17
"""Most numbers handled at a time where only some rows are wanted."""


def gram(parameters: Stack, received: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Return ``[clients, clients]`` float64 inner products of the updates u_k = x_k - received.

    Parameters
    ----------
    parameters : Tensor or RowBlocks
        ``[clients, parameters]``.
    received : Tensor
        ``[parameters]``.
    dtype : torch.dtype
        In which the products within a block of columns are summed; blocks are summed in
        float64. See :func:`gram_error`.
    """
    clients = parameters.shape[0]
    total = np.zeros((clients, clients))
    for block in _updates(parameters, received, WIDTH, dtype):
        with np.errstate(over="ignore", invalid="ignore"):  # a far liar's squares may overflow
            total += block @ block.T  # NumPy sees the transpose and computes one half only
    return total


def gram_error(dtype: torch.dtype) -> float:
    """Return a bound on the error of an entry of :func:`gram`, as a share of ``|u_i| |u_j|``.

    Ten times the root of the number of roundings: under random rounding an error beyond that
    has a probability below 1e-20 (Higham and Mary 2019, SIAM J. Sci. Comput. 41).
    """
    return 5.0 * float(torch.finfo(dtype).eps) * math.sqrt(WIDTH)


def gram_rows(
    parameters: Stack, received: Tensor, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return some rows ``[rows, clients]`` of the Gram matrix, and its diagonal, in float64."""
    clients = parameters.shape[0]
    total, norms = np.zeros((len(rows), clients)), np.zeros(clients)
    for block in _updates(parameters, received, max(64, CELLS // clients), torch.float64):
        total += block[rows] @ block.T
        norms += np.einsum("kp,kp->k", block, block)
    return total, norms


def _updates(
    parameters: Stack, received: Tensor, width: int, dtype: torch.dtype
) -> Iterator[np.ndarray]:
    """Yield the updates in blocks ``[clients, columns]``, each in the memory of the last."""
    memory = torch.empty(parameters.shape[0] * width, dtype=dtype)
    for columns, slab in slabs_of(parameters):
        base = received[columns]
        for models, model in zip(
            torch.split(slab, width, dim=1), torch.split(base, width), strict=True
        ):
            block = memory[: models.numel()].view(models.shape)
            if models.dtype == dtype:
                torch.sub(models, model, out=block)
            else:
                block.copy_(models).sub_(model)
            yield block.numpy()
