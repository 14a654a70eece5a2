"""All inner products between the updates of a cohort, from which all its distances follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import LEAST, Scratch
from fedrms.combining.row_blocks import Stack, slabs_of
from fedrms.one_thread import one_thread_an_operation

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Result = TypeVar("Result")

WIDTH = 1 << 12
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
    total = np.zeros((parameters.shape[0], parameters.shape[0]))

    def product(block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # a far liar's squares may overflow
            return np.asarray(block @ block.T)  # NumPy sees the transpose: one half is computed

    for part in _over_updates(product, parameters, received, WIDTH, dtype):
        total += part
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

    def products(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return block[rows] @ block.T, np.einsum("kp,kp->k", block, block)

    width = max(64, CELLS // clients)
    for part, squares in _over_updates(products, parameters, received, width, torch.float64):
        total += part
        norms += squares
    return total, norms


def _over_updates(
    work: Callable[[np.ndarray], Result],
    parameters: Stack,
    received: Tensor,
    width: int,
    dtype: torch.dtype,
) -> Iterator[Result]:
    """Yield ``work`` of the updates, in blocks ``[clients, columns]`` from the first column on.

    As many threads as torch may use work on a block each. A BLAS that parts every product among
    threads of its own is held to one: they wait for each other, for milliseconds a block where a
    core is busy.
    """
    scratch = Scratch()
    number = np.float64 if dtype == torch.float64 else np.float32

    def of(models: Tensor, model: Tensor) -> Result:
        memory = scratch.array("updates", tuple(models.shape), number)
        block = torch.from_numpy(memory)
        if models.dtype == dtype:
            torch.sub(models, model, out=block)
        else:
            block.copy_(models).sub_(model)
        return work(memory)

    threads = torch.get_num_threads() if math.prod(parameters.shape) >= LEAST else 1
    with _blas().limit(limits=1), _mapping(threads) as mapped:
        for columns, slab in slabs_of(parameters):
            blocks = list(
                zip(
                    torch.split(slab, width, dim=1),
                    torch.split(received[columns], width),
                    strict=True,
                )
            )
            for at in range(0, len(blocks), threads):
                yield from mapped(lambda block: of(*block), blocks[at : at + threads])


@contextmanager
def _mapping(threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Give a ``map`` over some threads; one alone would wait for another at every block."""
    if threads == 1:
        with one_thread_an_operation():
            yield map
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


@cache
def _blas() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController  # only the robust rules need it

    return ThreadpoolController().select(user_api="blas")
