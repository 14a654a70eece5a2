"""A round's replies: one stacked tensor that looks like a list of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakSet

import torch
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from torch import Tensor

from fedrms.client.app import CLIENT_RAISED
from fedrms.engines.flower_border import number
from fedrms.errors import RunError
from fedrms.replies.cohort import GRADIENT_SQUARES, Layout, StackedReplies
from fedrms.replies.lazy_array import LazyArray
from fedrms.replies.lazy_messages import LazyMessages
from fedrms.replies.records import array_records
from fedrms.server.running_statistics import with_batches_counted


class CohortReplies(LazyMessages):
    """The lazy answer to a TRAIN round.

    Flower's own strategies iterate it and get ordinary messages, made only then. The strategies of
    fedrms take :attr:`stacked`, and nothing is serialised. ``given`` takes these replies, and those
    that :meth:`instead` makes of them.
    """

    def __init__(
        self,
        sent: Sequence[Message],
        clients: Sequence[int],
        stacked: StackedReplies,
        layout: Layout,
        given: WeakSet[CohortReplies] | None = None,
    ) -> None:
        super().__init__(len(sent))
        self._sent = sent
        self._clients = clients
        self._stacked: StackedReplies | None = stacked
        self._stack_is_read = False
        self._given: WeakSet[CohortReplies] = WeakSet() if given is None else given
        self._given.add(self)
        self._layout = layout
        self._row: Mapping[object, int] = {c: row for row, c in enumerate(stacked.clients)}

    @property
    def stacked(self) -> StackedReplies | None:
        """The stack beneath; None once a message was handed out, for it may be changed."""
        self._stack_is_read = True
        return None if self._made else self._stacked

    @property
    def record(self) -> StackedReplies:
        """The stack as the clients sent it, whatever was done to the messages since.

        Raises
        ------
        RunError
            If it was let go of.
        """
        if self._stacked is None:
            raise RunError(
                "the replies of an earlier round were let go of when a later one was trained; "
                "whoever needs them then takes list(replies) in their own round"
            )
        return self._stacked

    def let_go(self) -> None:
        """Hold the stack no longer, if a strategy has read it and nobody asked for a message.

        Flower's loop keeps the replies until it has those of the next round.
        """
        if self._stack_is_read and not self._made:
            self._stacked, self._sent = None, ()

    @property
    def positions(self) -> dict[int, int]:
        """The position of each client's message; made anew."""
        return {client: position for position, client in enumerate(self._clients)}

    def instead(self, stacked: StackedReplies) -> CohortReplies:
        """Return the same answers with another stack beneath, before any message is made."""
        return CohortReplies(self._sent, self._clients, stacked, self._layout, self._given)

    def _make(self, position: int) -> Message:
        record = self.record
        sent, client = self._sent[position], self._clients[position]
        if not sent.metadata.message_id:
            number(sent)
        if client in self._row:
            reply = Message(self._content(sent, self._row[client]), reply_to=sent)
        else:
            reason = record.failures[client]
            reply = Message(Error(CLIENT_RAISED, reason), reply_to=sent)
        number(reply)
        return reply

    def _content(self, sent: Message, row: int) -> RecordDict:
        numbers = self.record.parameters[row].cpu()
        halves = torch.split(numbers, sum(self._layout.sizes))
        template = next(iter(array_records(sent.content).values()))
        metrics = MetricRecord(
            {name: column[row].tolist() for name, column in self.record.metrics.items()}
        )
        steps = self.record.metrics.get("steps")
        arrays = self._record(halves[0], template)
        if steps is not None:
            arrays = with_batches_counted(arrays, template, steps[row : row + 1])
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        if len(halves) == 2:
            content[GRADIENT_SQUARES] = self._record(halves[1], template)
        return content

    def _record(self, numbers: Tensor, template: ArrayRecord) -> ArrayRecord:
        """Return a record like the one that was sent, over these numbers."""
        parts = torch.split(numbers, self._layout.sizes)
        floating = dict(zip(self._layout.names, parts, strict=True))
        arrays = ArrayRecord()
        for name, array in template.items():
            arrays[name] = (
                LazyArray(floating[name].reshape(tuple(array.shape)).numpy())
                if name in floating
                else array
            )
        return arrays
