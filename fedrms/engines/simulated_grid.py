"""A Flower ``Grid`` over simulated clients: messages in, one stack of answers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedrms.client.app import CLIENT_RAISED
from fedrms.client.settings import LocalSettings
from fedrms.engines.flower_border import FIRST_NODE_ID, become_server, number
from fedrms.engines.replies import CohortReplies
from fedrms.replies.cohort import Layout, StackedReplies
from fedrms.replies.membership import Directory
from fedrms.replies.orders import Orders
from fedrms.replies.records import array_records, config_records

if TYPE_CHECKING:
    from flwr.supercore.run import Run  # not where it is in older versions of Flower


class Trainer(Protocol):
    """What stands behind the grid: trains clients, and scores a model for one."""

    def train(
        self,
        record: ArrayRecord,
        layout: Layout,
        settings: LocalSettings,
        server_round: int,
        clients: np.ndarray,
        lr_scale: np.ndarray,
    ) -> StackedReplies:
        """Train clients; see :meth:`fedrms.engines.cohort_trainer.CohortTrainer.train`."""
        ...

    def evaluate(
        self, record: ArrayRecord, client: int, orders: Mapping[str, Any]
    ) -> dict[str, int | float | list[int] | list[float]]:
        """Return one client's metrics on its own clean test mix."""
        ...


class SimulatedGrid(Grid):
    """Simulate clients behind Flower's ``Grid``; any Flower strategy runs on it unmodified."""

    def __init__(self, trainer: Trainer, clients: int, *, run_id: int = 1) -> None:
        self._trainer = trainer
        self._clients = clients
        self._waiting: dict[str, Message] = {}
        self._given: tuple[int, WeakSet[CohortReplies]] = (0, WeakSet())
        self.set_run(become_server(run_id))

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's record of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; Flower's deprecated way, kept for strategies that use it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    @property
    def directory(self) -> Directory:
        """Who is behind which node."""
        return Directory(self._clients, FIRST_NODE_ID)

    def get_node_ids(self) -> Iterable[int]:
        """Return one node id a client."""
        return range(FIRST_NODE_ID, FIRST_NODE_ID + self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the messages; their replies wait to be pulled."""
        messages = list(messages)
        replies = self.send_and_receive(messages)
        ids = [message.metadata.message_id for message in messages]
        self._waiting.update(zip(ids, replies, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the waiting replies to these messages."""
        return [self._waiting.pop(key) for key in message_ids if key in self._waiting]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Sequence[Message]:
        """Run the messages and return their replies, in order."""
        if isinstance(messages, Orders) and messages.message_type == "train":
            return self._train(messages, [_group_of(messages)])
        messages = list(messages)
        for message in messages:
            number(message)
        nodes = {message.metadata.dst_node_id for message in messages}
        training = all(message.metadata.message_type == "train" for message in messages)
        if messages and training and len(nodes) == len(messages):
            return self._train(messages, _groups(messages))
        return [self._answer(message) for message in messages]

    def _client(self, message: Message) -> int:
        return int(message.metadata.dst_node_id) - FIRST_NODE_ID

    def _answer(self, message: Message) -> Message:
        kind = message.metadata.message_type
        if kind == "train":
            reply = self._train([message], _groups([message]))[0]
        elif kind == "evaluate":
            arrays, orders = _records(message)
            metrics = self._trainer.evaluate(arrays, self._client(message), dict(orders))
            reply = Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
        elif kind == "query.whoami":
            record = MetricRecord({"partition-id": self._client(message)})
            reply = Message(RecordDict({"identity": record}), reply_to=message)
        else:
            reason = f"a simulated client does not answer messages of type {kind!r}"
            reply = Message(Error(CLIENT_RAISED, reason), reply_to=message)
        number(reply)
        return reply

    def _train(self, messages: Sequence[Message], groups: Sequence[Group]) -> CohortReplies:
        """Train the cohort: one batch for all who got the same model and the same orders."""
        layout = Layout.of(groups[0].arrays)
        server_round = groups[0].server_round
        if server_round > self._given[0]:
            for earlier in list(self._given[1]):
                earlier.let_go()
            self._given = server_round, WeakSet()
        clients = np.empty(len(messages), dtype=np.int64)
        parts = []
        for group in groups:
            own = np.asarray(group.nodes, dtype=np.int64) - FIRST_NODE_ID
            clients[group.positions] = own
            parts.append(
                self._trainer.train(
                    group.arrays, layout, group.settings, group.server_round, own, group.lr_scale
                )
            )
        stacked = StackedReplies.concatenate(parts)
        return CohortReplies(messages, clients.tolist(), stacked, layout, self._given[1])


@dataclass(frozen=True)
class Group:
    """Clients that got the same model and the same orders; arrays are ``[clients]``."""

    arrays: ArrayRecord
    settings: LocalSettings
    server_round: int
    nodes: Sequence[int]
    positions: np.ndarray
    lr_scale: np.ndarray


def _group_of(orders: Orders) -> Group:
    count = len(orders)
    return Group(
        orders.arrays,
        LocalSettings.from_record(orders.config),
        int(orders.config["server-round"]),  # type: ignore[arg-type]
        orders.nodes,
        np.arange(count),
        np.ones(count) if orders.lr_scale is None else np.asarray(orders.lr_scale),
    )


def _groups(messages: Sequence[Message]) -> list[Group]:
    """Sort messages by what they say; records that many messages share are read once."""
    said: dict[int, tuple[ArrayRecord, ConfigRecord, LocalSettings]] = {}
    found: dict[tuple[int, int, LocalSettings], list[int]] = {}
    scales = np.ones(len(messages))
    parsed: dict[int, LocalSettings] = {}
    for position, message in enumerate(messages):
        content = message.content
        if id(content) not in said:
            arrays, config = _records(message)
            if id(config) not in parsed:
                parsed[id(config)] = LocalSettings.from_record(config)
            said[id(content)] = arrays, config, parsed[id(config)]
        arrays, config, settings = said[id(content)]
        scales[position] = float(config.get("lr-scale", 1.0))  # type: ignore[arg-type]
        key = (id(arrays), int(config["server-round"]), settings)  # type: ignore[arg-type]
        found.setdefault(key, []).append(position)
    return [
        Group(
            _records(messages[positions[0]])[0],
            settings,
            server_round,
            [int(messages[position].metadata.dst_node_id) for position in positions],
            np.array(positions),
            scales[positions],
        )
        for (_, server_round, settings), positions in found.items()
    ]


def _records(message: Message) -> tuple[ArrayRecord, ConfigRecord]:
    content = message.content
    return next(iter(array_records(content).values())), next(iter(config_records(content).values()))
