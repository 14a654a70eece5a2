"""A round by hand: real Flower messages between a strategy and clients that do not train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.run import Run
from hypothesis import settings

from fedrms.engines.flower_border import become_server, number
from fedrms.replies.class_losses import ClassLosses
from fedrms.server import FedRMS
from fedrms.statistic import BY_CLASS

CLIENT_RAISED = 2

quickly = settings(deadline=None, max_examples=30)
"""For properties; a deadline would only measure the machine."""


def record(**arrays: Any) -> ArrayRecord:
    """An ArrayRecord from lists (as float32) and numpy arrays (as they are)."""
    made = ArrayRecord()
    for name, values in arrays.items():
        array = values if isinstance(values, np.ndarray) else np.array(values, dtype=np.float32)
        made[name] = Array(array)
    return made


def losses_told(mean: float) -> dict[str, list[float]]:
    """What a client with ten examples of one class says of its losses."""
    values = {"count": 10.0, "mean": mean, "variance": 0.01, "chance": 2.0}
    return {BY_CLASS[name].key: [value] for name, value in values.items()}


def losses_of(mean: Any, variance: Any = None, chance: Any = None, count: Any = 10) -> ClassLosses:
    """Losses ``[clients, classes]``, as a strategy has read them."""
    mean = np.array(mean, float)
    return ClassLosses(
        np.broadcast_to(np.array(count, float), mean.shape),
        mean,
        np.zeros_like(mean) if variance is None else np.array(variance, float),
        None if chance is None else np.broadcast_to(np.array(chance, float), mean.shape),
    )


def numbers(arrays: ArrayRecord | None) -> dict[str, np.ndarray]:
    """The arrays of a record as numpy arrays."""
    assert arrays is not None
    return {name: array.numpy() for name, array in arrays.items()}


def order(node: int, arrays: ArrayRecord | None = None) -> Message:
    """A TRAIN message to a node, numbered as a transport would."""
    content = RecordDict({"arrays": arrays or record(w=[0.0]), "config": ConfigRecord()})
    message = Message(content, dst_node_id=node, message_type="train")
    number(message)
    return message


@dataclass
class HandClient:
    """Answers every order alike: with a model and metrics, or with an error.

    ``losses`` maps moments to what the client reports as its statistic.
    """

    name: int | str | None
    model: Any = field(default_factory=lambda: record(w=[0.0]))
    examples: float = 10
    losses: Mapping[str, Any] = field(default_factory=lambda: {"loss-second-moment": 1.0})
    evaluation: Mapping[str, float] = field(default_factory=dict)
    error: Error | None = None
    knows_itself: bool = True

    def answer(self, message: Message) -> RecordDict | Error:
        kind = message.metadata.message_type
        if kind == "query.whoami":
            if not self.knows_itself:
                return Error(CLIENT_RAISED, "no such query")
            return RecordDict({"identity": self._identity()})
        if self.error is not None:
            return self.error
        if kind == "evaluate":
            metrics = {"num-examples": self.examples, **self.evaluation}
            return RecordDict({"metrics": MetricRecord(metrics)})
        content = RecordDict({"arrays": self.model})
        metrics = {"num-examples": self.examples, **self.losses}
        if isinstance(self.name, str):
            content["identity"] = self._identity()
        elif self.name is not None:
            metrics["partition-id"] = self.name
        content["metrics"] = MetricRecord(metrics)
        return content

    def _identity(self) -> ConfigRecord | MetricRecord:
        if isinstance(self.name, str):
            return ConfigRecord({"client-id": self.name})
        return MetricRecord({"partition-id": self.name})


class HandGrid(Grid):
    """A Grid whose nodes are clients by hand; it notes what was sent.

    ``shuffle`` changes the order in which replies arrive.
    """

    def __init__(
        self,
        clients: Mapping[int, HandClient],
        shuffle: Callable[[list[Message]], list[Message]] = list,
    ) -> None:
        self.clients = dict(clients)
        self.shuffle = shuffle
        self.sent: list[list[Message]] = []
        self.set_run(become_server(1))

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.clients)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        messages = list(messages)
        self.sent.append(messages)
        replies = []
        for message in messages:
            number(message)
            answer = self.clients[message.metadata.dst_node_id].answer(message)
            replies.append(Message(answer, reply_to=message))
        return self.shuffle(replies)


def grid_of(clients: Sequence[HandClient], **options: Any) -> HandGrid:
    """A grid with one node a client, from node 2 on, in order."""
    return HandGrid({2 + place: client for place, client in enumerate(clients)}, **options)


def train_round(
    strategy: Strategy, grid: HandGrid, received: ArrayRecord, server_round: int = 1
) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """One TRAIN round, as Flower's ``Strategy.start`` does it."""
    orders = strategy.configure_train(server_round, received, ConfigRecord(), grid)
    return strategy.aggregate_train(server_round, grid.send_and_receive(orders))


def column(strategy: FedRMS, name: str) -> list[float]:
    """A column of the latest diagnostics."""
    assert strategy.diagnostics is not None
    return [float(value) for value in strategy.diagnostics.columns[name]]
