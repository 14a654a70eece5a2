"""A list of messages that are made when somebody asks for them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from flwr.app import Message


class LazyMessages(Sequence[Message]):
    """A sequence whose messages are made when they are first read, and then stay the same."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._made: dict[int, Message] = {}

    @abstractmethod
    def _make(self, position: int) -> Message:
        """Make one message."""

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position not in self._made:
            self._made[position] = self._make(position)
        return self._made[position]

    def __iter__(self) -> Iterator[Message]:
        return (self[i] for i in range(len(self)))
