"""The three places where an in-process engine must touch Flower's private API.

Flower builds a ``Message`` only inside a process that knows its task, and only its own
transports may number messages. Everything else in fedrms uses Flower's public API; when
Flower changes one of these, ``tests/engines/test_flower_border.py`` says so.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from flwr.app import Array, Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

FIRST_NODE_ID = 2
"""Flower reserves node ids 0 and 1."""


def become_server(run_id: int) -> Run:
    """Give this process the identity that Flower asks for before it builds a message."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    return Run.create_empty(run_id)


def number(message: Message) -> str:
    """Give a message an id, as Flower's transports do when they send it."""
    message_id = str(uuid4())
    message.metadata.__dict__["_message_id"] = message_id
    return message_id


class LazyArray(Array):
    """A Flower ``Array`` over memory that is already there; serialised only on demand."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.__dict__.update(
            dtype=str(values.dtype), shape=tuple(values.shape), stype="numpy.ndarray"
        )
        self.__dict__["_values"] = values

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array in Flower's serialised form."""
        if "_serialised" not in self.__dict__:
            self.__dict__["_serialised"] = Array(self.__dict__["_values"]).data
        return bytes(self.__dict__["_serialised"])

    def numpy(self) -> NDArray[Any]:
        """Return a fresh, writable copy, as Flower's own ``Array`` does."""
        values: NDArray[Any] = self.__dict__["_values"].copy()
        return values
