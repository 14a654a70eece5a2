"""A stack of client models in blocks of rows, for cohorts that do not fit in memory.

Rules take a :data:`Stack`: one tensor ``[clients, parameters]``, or :class:`RowBlocks`. Those
that sum over clients read one block after the other; those that need all clients at a
coordinate read slabs of columns, each assembled from the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

SLAB = 1 << 28
"""Most bytes of a slab of columns that is assembled from blocks."""


@dataclass(frozen=True)
class _Piece:
    """A block and its place: row ``rows[i]`` of what is made is row ``places[i]`` of the stack."""

    made: Tensor | Callable[[], Tensor]
    rows: np.ndarray | None
    places: np.ndarray

    def read(self) -> Tensor:
        block = self.made if isinstance(self.made, Tensor) else self.made()
        return block if self.rows is None else block[torch.from_numpy(self.rows)]


class RowBlocks:
    """Blocks of rows that together are a stack ``[clients, parameters]``.

    Parameters
    ----------
    blocks : sequence of Tensor or callable
        Each ``[clients_i, parameters]``, in memory, or a function that makes it. A function
        is called once for every pass over the stack: one to check the numbers, one to clip,
        one for a mean; rules that go by coordinate make one pass for each :data:`SLAB`.
    rows : sequence of int, optional
        ``clients_i`` of every block; needed where blocks are made on demand.
    columns : int, optional
        Number of parameters, likewise.
    dtype : torch.dtype
        Of the blocks that are made on demand.

    Examples
    --------
    >>> stack = RowBlocks([torch.zeros(2, 3), torch.ones(1, 3)])
    >>> stack.shape, stack[:, 0:1].tolist()
    ((3, 3), [[0.0], [0.0], [1.0]])
    """

    def __init__(
        self,
        blocks: Sequence[Tensor | Callable[[], Tensor]],
        rows: Sequence[int] | None = None,
        columns: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        made = [block for block in blocks if isinstance(block, Tensor)]
        if rows is None or columns is None:
            if len(made) < len(blocks) or not made:
                raise ValueError("blocks made on demand need their rows and columns stated")
            rows, columns = [len(block) for block in made], made[0].shape[1]
        ends = np.cumsum(rows)
        self._pieces = [
            _Piece(block, None, np.arange(end - count, end))
            for block, count, end in zip(blocks, rows, ends, strict=True)
        ]
        self.shape = (int(ends[-1]) if len(ends) else 0, columns)
        self.dtype = made[0].dtype if made else dtype

    def __len__(self) -> int:
        """Return the number of clients."""
        return self.shape[0]

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield every block ``[clients_i, parameters]`` with the rows it holds ``[clients_i]``."""
        for piece in self._pieces:
            if len(piece.places):
                yield piece.places, piece.read()

    @property
    def held(self) -> list[tuple[np.ndarray, Tensor]] | None:
        """The blocks with the rows that they hold, where no block is made for every pass."""
        pieces = [piece for piece in self._pieces if len(piece.places)]
        if any(not isinstance(piece.made, Tensor) or piece.rows is not None for piece in pieces):
            return None
        return [(piece.places, piece.read()) for piece in pieces]

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: tuple[slice, slice]) -> Tensor: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> RowBlocks: ...
    def __getitem__(self, index: int | tuple[slice, slice] | np.ndarray) -> Tensor | RowBlocks:
        """Return one row, all rows of some columns ``[:, a:b]``, or the rows with these numbers."""
        if isinstance(index, int | np.integer):
            for piece in self._pieces:
                place = np.flatnonzero(piece.places == index % len(self))
                if place.size:
                    return piece.read()[int(place[0])]
            raise IndexError(index)
        if isinstance(index, np.ndarray):
            return self._like([_taken(piece, index) for piece in self._pieces], len(index))
        everyone, columns = index
        if everyone != slice(None):
            raise IndexError("columns are read for all clients: use [:, columns]")
        start, stop, _ = columns.indices(self.shape[1])
        slab = torch.empty(len(self), max(0, stop - start), dtype=self.dtype)
        for places, block in self:
            slab[torch.from_numpy(places)] = block[:, columns].to("cpu")
        return slab

    def map(self, change: Callable[[np.ndarray, Tensor], Tensor]) -> RowBlocks:
        """Return the stack whose blocks are ``change(rows, block)``, made when they are read."""

        def changed(piece: _Piece) -> _Piece:
            return _Piece(lambda: change(piece.places, piece.read()), None, piece.places)

        return self._like([changed(piece) for piece in self._pieces], len(self))

    @classmethod
    def join(cls, stacks: Sequence[RowBlocks]) -> RowBlocks:
        """Return the rows of several stacks, one after the other."""
        pieces: list[_Piece] = []
        clients = 0
        for stack in stacks:
            pieces += [_Piece(p.made, p.rows, p.places + clients) for p in stack._pieces]
            clients += len(stack)
        return stacks[0]._like(pieces, clients)

    def to(self, device: torch.device | str) -> RowBlocks:
        """Return the stack with its blocks moved to a device as they are read."""
        held = self.held
        if held is not None and all(block.device == torch.device(device) for _, block in held):
            return self
        return self.map(lambda _, block: block.to(device))

    def _like(self, pieces: list[_Piece], clients: int) -> RowBlocks:
        other = RowBlocks([], [], self.shape[1], self.dtype)
        other._pieces = pieces
        other.shape = (clients, self.shape[1])
        return other


Stack = Tensor | RowBlocks
"""What every rule combines: ``[clients, parameters]``."""


def blocks_of(stack: Stack) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of rows with their row numbers; a tensor is one block."""
    if isinstance(stack, Tensor):
        yield torch.arange(len(stack)), stack
    else:
        for places, block in stack:
            yield torch.from_numpy(places), block


def slabs_of(stack: Stack) -> Iterator[tuple[slice, Tensor]]:
    """Yield slabs of columns with all clients; a tensor is one slab."""
    clients, columns = stack.shape
    if isinstance(stack, Tensor):
        yield slice(0, columns), stack
        return
    width = max(1, SLAB // max(1, clients * stack.dtype.itemsize))
    for start in range(0, columns, width):
        columns_here = slice(start, min(start + width, columns))
        yield columns_here, stack[:, columns_here]


def take_rows(stack: Stack, rows: np.ndarray) -> Stack:
    """Return the stack of the rows with these numbers, in their order."""
    if isinstance(stack, Tensor):
        return stack[torch.from_numpy(rows).to(stack.device)]
    return stack[rows]


def join_stacks(stacks: Sequence[Stack]) -> Stack:
    """Return the stack of all rows of these stacks, one after the other."""
    tensors = [stack for stack in stacks if isinstance(stack, Tensor)]
    if len(tensors) == len(stacks):
        return torch.cat(tensors)
    parts = [stack if isinstance(stack, RowBlocks) else RowBlocks([stack]) for stack in stacks]
    return RowBlocks.join(parts)


def _taken(piece: _Piece, rows: np.ndarray) -> _Piece:
    """Keep of a block the rows that ``rows`` names, in the order in which it names them."""
    inside = {int(place): row for row, place in enumerate(piece.places)}
    places = np.array([at for at, row in enumerate(rows) if int(row) in inside], dtype=np.int64)
    chosen = np.array([inside[int(rows[at])] for at in places], dtype=np.int64)
    if len(chosen) == len(piece.places) and (chosen == np.arange(len(chosen))).all():
        return _Piece(piece.made, piece.rows, places)
    kept = chosen if piece.rows is None else piece.rows[chosen]
    return _Piece(piece.made, kept, places)
