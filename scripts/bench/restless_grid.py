"""A grid whose nodes restart under new ids, and some of whose clients send bad replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedrms.engines.flower_border import FIRST_NODE_ID, number
from fedrms.engines.passing_grid import PassingGrid
from fedrms.randomness import generator

RESTARTS, BAD = 0.05, 0.05
"""Shares of the clients that restart before a round, and that spoil their reply."""
SEED = 1


def spoil_number(reply: Message) -> None:
    """Put a NaN into the model."""
    _change(reply, lambda values: values * np.float32(np.nan))


def spoil_shape(reply: Message) -> None:
    """Send an array with a row more."""
    _change(reply, lambda values: np.concatenate([values, values[:1]]))


def spoil_dtype(reply: Message) -> None:
    """Send whole numbers."""
    _change(reply, lambda values: values.astype(np.int64))


def drop_metrics(reply: Message) -> None:
    """Send no metrics."""
    for name in list(reply.content.metric_records):
        del reply.content[name]


def claim_everything(reply: Message) -> None:
    """Claim more examples than there are atoms in the room."""
    next(iter(reply.content.metric_records.values()))["num-examples"] = 1e27


def steal_name(reply: Message) -> None:
    """Answer for somebody who does not exist."""
    reply.content["identity"] = ConfigRecord({"client-id": "mallory"})


FAULTS = (spoil_number, spoil_shape, spoil_dtype, drop_metrics, claim_everything, steal_name)


def fault_of(server_round: int, client: int) -> Callable[[Message], None] | None:
    """Return how a client spoils its reply in a round; None if it does not."""
    draw = generator(SEED, "soak-fault", client, server_round)
    return FAULTS[draw.integers(len(FAULTS))] if draw.random() < BAD else None


def restarting(server_round: int, clients: int) -> np.ndarray:
    """Mark the nodes that restart before a round."""
    return generator(SEED, "soak-restarts", round=server_round).random(clients) < RESTARTS


def _change(reply: Message, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (name, model), *_ = reply.content.array_records.items()
    arrays = {key: Array(array.numpy()) for key, array in model.items()}
    first = next(iter(arrays))
    reply.content[name] = ArrayRecord(arrays | {first: Array(change(model[first].numpy()))})


class RestlessGrid(PassingGrid):
    """Another grid, whose nodes come back under new ids and some of whose replies are spoilt."""

    def __init__(self, inner: Grid, clients: int, done: int, looked: Callable[[int], None]) -> None:
        super().__init__(inner)
        self.nodes = {1000 + client: client for client in range(clients)}
        self._round = done
        self._looked = looked

    def get_node_ids(self) -> Iterable[int]:
        """Restart some clients, and return the nodes that there are then."""
        server_round = self._round + 1
        gone = restarting(server_round, len(self.nodes))
        for place, node in enumerate(np.array(list(self.nodes))[gone].tolist()):
            self.nodes[1_000_000 * server_round + place] = self.nodes.pop(node)
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        messages = list(messages)
        inside = []
        for message in messages:
            number(message)
            kind, client = message.metadata.message_type, self.nodes[message.metadata.dst_node_id]
            inside.append(Message(message.content, FIRST_NODE_ID + client, kind))
        training = any(message.metadata.message_type == "train" for message in messages)
        if training:
            self._looked(self._round)
            self._round += 1
        answers = list(self._inner.send_and_receive(inside, timeout=timeout))
        replies = []
        for message, answer in zip(messages, answers, strict=True):
            said = answer.error if answer.has_error() else RecordDict(answer.content)
            reply = Message(said, reply_to=message)
            number(reply)
            spoil = fault_of(self._round, self.nodes[message.metadata.dst_node_id])
            if training and spoil is not None and not reply.has_error():
                spoil(reply)
            replies.append(reply)
        return replies
