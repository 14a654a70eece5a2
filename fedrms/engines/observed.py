"""A window on a grid: see every training reply without the strategy's help.

Tables about clients are the same for every strategy, Flower's own among them, because
they are read here, where the replies pass by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from fedrms.client.app import REFUSED
from fedrms.engines.passing_grid import PassingGrid
from fedrms.engines.replies import CohortReplies
from fedrms.engines.shield import Shield
from fedrms.errors import shown
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import identity_in
from fedrms.replies.membership import Directory, Membership, directory_of
from fedrms.replies.metrics import numbers_in
from fedrms.replies.orders import Orders

WHO = "query.whoami"
"""What a strategy asks new nodes; their answers count before what their training replies say."""


@dataclass(frozen=True)
class Observation:
    """What the clients of one TRAIN round reported."""

    clients: list[ClientId]  # ``[answered]`` ids
    metrics: Mapping[str, np.ndarray]  # each ``[answered]``; NaN where a client did not report it
    failures: Mapping[ClientId, str]  # reason by client id
    refused: bool = False  # everyone refused what was ordered, and would refuse it again


class ObservedGrid(PassingGrid):
    """Pass everything on to another grid, and show training replies to an observer.

    Parameters
    ----------
    inner, observer
        The grid, and what is called once a TRAIN round before the strategy sees the replies.
    check : callable (sequence of Message) -> None, optional
        May raise to stop the run on replies that no strategy should average.
    narrow : callable (sequence of Message) -> sequence of Message, optional
        Which messages of a TRAIN round are passed on; by default all. If none is, the round
        has no replies and nothing is observed.
    misreport : callable (sequence of Message, iterable of Message) -> sequence, optional
        Makes of the replies to a TRAIN round what adversaries say; see
        :class:`fedrms.engines.misreports.Misreports`.
    evaluated : callable (Observation) -> None, optional
        Called once a round in which clients evaluate the model, with what they report.
    shield : Shield, optional
        Turns replies that no strategy should average into errors.
    """

    def __init__(
        self,
        inner: Grid,
        observer: Callable[[Observation], None],
        check: Callable[[Sequence[Message]], None] | None = None,
        narrow: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
        misreport: Callable[[Sequence[Message], Iterable[Message]], Sequence[Message]]
        | None = None,
        evaluated: Callable[[Observation], None] | None = None,
        shield: Shield | None = None,
    ) -> None:
        super().__init__(inner)
        self._observer = observer
        self._check = check
        self._narrow = narrow
        self._misreport = misreport
        self._evaluated = evaluated
        self._shield = shield
        self._members = Membership(0, ask=True, timeout=60.0) if shield is None else shield.members

    @property
    def directory(self) -> Directory | None:
        """Who is behind which node, where the inner grid knows it."""
        return directory_of(self._inner)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Run the messages on the inner grid and show training replies to the observer."""
        messages = messages if isinstance(messages, Sequence) else list(messages)
        if self._narrow is not None and _training(messages):
            messages = self._narrow(messages)
            if not messages:
                return []
        if self._shield is not None and (_training(messages) or _are(messages, "evaluate")):
            self._shield.know(messages, self._inner)
        replies = self._inner.send_and_receive(messages, timeout=timeout)
        if _training(messages):
            if not isinstance(replies, CohortReplies):
                replies = list(replies)
                if self._check is not None:
                    self._check(replies)
            if self._misreport is not None:
                replies = self._misreport(messages, replies)
            if self._shield is not None:
                replies = self._shield.training(messages, replies)
            self._observer(self._observe(messages, replies))
        elif _are(messages, "evaluate"):
            replies = list(replies)
            if self._shield is not None:
                replies = self._shield.evaluation(messages, replies)
            if self._evaluated is not None:
                self._evaluated(self._observe(messages, replies))
        elif _are(messages, WHO):
            replies = list(replies)
            self._members.learn_from(replies)
        return replies

    def _observe(self, sent: Sequence[Message], replies: Sequence[Message]) -> Observation:
        if isinstance(replies, CohortReplies):
            record = replies.record
            return Observation(list(record.clients), record.metrics, record.failures)
        rows: dict[ClientId, Mapping[str, float]] = {}
        failures: dict[ClientId, str] = {}
        answered = set()
        for reply in replies:
            answered.add(reply.metadata.reply_to_message_id)
            node = self._addressee(sent, reply)
            if reply.has_error():
                why = reply.error.reason or f"code {reply.error.code}"
                failures[self._name(node)] = shown(why)
                continue
            client = identity_in(reply)
            if client is not None and client not in rows and not self._members.knows(node):
                self._members.learn(node, client)
            rows[self._name(node)] = numbers_in(reply)
        for message in sent:
            if message.metadata.message_id not in answered:
                failures[self._name(message.metadata.dst_node_id)] = "no reply in time"
        keys = {key for row in rows.values() for key in row}
        metrics = {
            key: np.array([row.get(key, np.nan) for row in rows.values()]) for key in sorted(keys)
        }
        refusals = sum(reply.has_error() and reply.error.code == REFUSED for reply in replies)
        refused = len(sent) > 0 and refusals == len(sent)
        return Observation(list(rows), metrics, failures, refused)

    def _addressee(self, sent: Sequence[Message], reply: Message) -> int:
        for message in sent:
            if message.metadata.message_id == reply.metadata.reply_to_message_id:
                return int(message.metadata.dst_node_id)
        return int(reply.metadata.src_node_id)

    def _name(self, node: int) -> ClientId:
        if self.directory is not None:
            return self.directory.client_of(node)
        if self._members.client_of(node) == node:
            self._members.ask_names(self._inner, [node])
        return self._members.client_of(node)


def _training(messages: Sequence[Message]) -> bool:
    return _are(messages, "train")


def _are(messages: Sequence[Message], kind: str) -> bool:
    """Say whether messages, which in a round are all of one type, are of this one."""
    if isinstance(messages, Orders):
        return messages.message_type == kind
    return any(message.metadata.message_type == kind for message in messages)
