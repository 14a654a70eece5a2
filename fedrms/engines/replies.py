"""A round's replies: one stacked tensor that looks like a list of messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedrms.client.app import CLIENT_RAISED
from fedrms.engines.flower_border import number
from fedrms.server.cohort import Layout, StackedReplies
from fedrms.server.lazy_array import LazyArray


class CohortReplies(Sequence[Message]):
    """The lazy answer to a TRAIN round.

    Flower's own strategies iterate it and get ordinary messages, made only then. The
    strategies of fedrms take :attr:`stacked`, and nothing is serialised.

    Parameters
    ----------
    sent : sequence of Message
        The messages that are answered, in order.
    clients : sequence of int
        The client behind each.
    stacked : StackedReplies
        The answers.
    layout : Layout
        Of the sent arrays.
    """

    def __init__(
        self,
        sent: Sequence[Message],
        clients: Sequence[int],
        stacked: StackedReplies,
        layout: Layout,
    ) -> None:
        self._sent = sent
        self._clients = clients
        self._stacked = stacked
        self._layout = layout
        self._row: Mapping[object, int] = {c: row for row, c in enumerate(stacked.clients)}
        self._made: dict[int, Message] = {}

    @property
    def stacked(self) -> StackedReplies | None:
        """The stack beneath; None once a message was handed out, for it may be changed."""
        return None if self._made else self._stacked

    @property
    def record(self) -> StackedReplies:
        """The stack as the clients sent it, whatever was done to the messages since."""
        return self._stacked

    def __len__(self) -> int:
        return len(self._sent)

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

    def _make(self, position: int) -> Message:
        sent, client = self._sent[position], self._clients[position]
        if not sent.metadata.message_id:
            number(sent)
        if client in self._row:
            reply = Message(self._content(sent, self._row[client]), reply_to=sent)
        else:
            reason = self._stacked.failures[client]
            reply = Message(Error(CLIENT_RAISED, reason), reply_to=sent)
        number(reply)
        return reply

    def _content(self, sent: Message, row: int) -> RecordDict:
        flat = torch.split(self._stacked.parameters[row].cpu(), self._layout.sizes)
        floating = dict(zip(self._layout.names, flat, strict=True))
        arrays = ArrayRecord()
        for name, array in next(iter(sent.content.array_records.values())).items():
            arrays[name] = (
                LazyArray(floating[name].reshape(tuple(array.shape)).numpy())
                if name in floating
                else array
            )
        metrics = MetricRecord(
            {name: column[row].item() for name, column in self._stacked.metrics.items()}
        )
        return RecordDict({"arrays": arrays, "metrics": metrics})
