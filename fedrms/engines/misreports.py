"""What adversaries make of their replies, on their way from any engine to the strategy.

The place is where all replies of a round pass by (:class:`fedrms.engines.observed.ObservedGrid`),
so that every engine tells the same lies, one client can claim what another reports, and no
worker process has to know who lies. Training is honest: only what is said about it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import ArrayRecord, Message
from numpy.typing import NDArray
from torch import Tensor

from fedrms.data.adversaries import Adversaries
from fedrms.engines.replies import CohortReplies
from fedrms.randomness import generator
from fedrms.replies.cohort import Layout, StackedReplies, identity_in
from fedrms.replies.orders import Orders
from fedrms.replies.records import array_records, config_records, metric_records
from fedrms.statistic import BY_CLASS, LOSSES

LOSS_CLAIMS = ("honest", "zero", "tiny", "copy_clean")
UPDATES = ("honest", "flip", "scale", "random")


COUNTS = BY_CLASS["count"].key
"""The metric that counts the examples of each class: no losses, though named beside them."""


def about_losses(key: str) -> bool:
    """Say whether a reply's metric is a loss or a statistic of losses."""
    return key.startswith(LOSSES) or key.endswith("-loss")


@dataclass(frozen=True, eq=False)
class Misreports:
    """Changes the replies of adversaries, and no others."""

    adversaries: Adversaries  # who lies
    loss: str = "honest"
    """One of ``honest``, ``zero``, ``tiny``, ``copy_clean``: what they say of their losses, in
    every metric that :func:`about_losses` names: the truth; 0; `loss_share` of the truth (counts of
    examples stay true in both); or the very numbers of a clean and honest client that answered in
    the same round, drawn for each adversary and round. Where no such client answered, the truth."""
    update: str = "honest"
    """One of ``honest``, ``flip``, ``scale``, ``random``: what they send for an update d: d; -d;
    `update_factor` times d; or a Gaussian vector with the norm of d, drawn for each adversary and
    round. ``update-norm`` is the norm of what is sent. Squared gradients, where a strategy asks for
    them, stay true."""
    loss_share: float = 0.01
    update_factor: float = 100.0
    """Factors of ``tiny`` and ``scale``."""

    def __call__(
        self, sent: Sequence[Message], replies: Iterable[Message]
    ) -> CohortReplies | list[Message]:
        """Return the replies to a TRAIN round as the server gets to see them."""
        if isinstance(replies, CohortReplies):
            return replies.instead(self._in_stack(sent, replies))
        return self._in_messages(sent, list(replies))

    def claims(
        self, metrics: Mapping[str, np.ndarray], clients: NDArray[np.int64], server_round: int
    ) -> dict[str, np.ndarray]:
        """Return the metrics ``[clients]`` of a round's replies with the lies in them."""
        lying = np.flatnonzero(self.adversaries.lie(clients))
        claimed = dict(metrics)
        if self.update == "scale" and "update-norm" in metrics:
            claimed["update-norm"] = metrics["update-norm"].copy()
            claimed["update-norm"][lying] *= abs(self.update_factor)
        if self.loss == "honest":
            return claimed
        source = lying
        if self.loss == "copy_clean":
            source = self._copied(clients, lying, server_round)
        factor = {"zero": 0.0, "tiny": self.loss_share}.get(self.loss, 1.0)
        for key in filter(about_losses, metrics):
            if key == COUNTS and factor != 1.0:
                continue
            claimed[key] = metrics[key].copy()
            claimed[key][lying] = factor * metrics[key][source] if factor else 0.0
        return claimed

    def _copied(
        self, clients: NDArray[np.int64], lying: NDArray[np.int64], server_round: int
    ) -> NDArray[np.int64]:
        """Return the row that each adversary copies, the same whatever the rows' order."""
        clean = np.flatnonzero(self.adversaries.clean(clients, server_round))
        if not clean.size:
            return lying
        clean = clean[np.argsort(clients[clean])]
        draws = (
            generator(self.adversaries.seed, "adversary-copy", int(client), server_round)
            for client in clients[lying]
        )
        return np.array([clean[draw.integers(len(clean))] for draw in draws], np.int64)

    def model(self, received: Tensor, trained: Tensor, client: int, server_round: int) -> Tensor:
        """Return the model ``[parameters]`` that an adversary sends for the one it trained."""
        start = received.double()
        update = trained.double().cpu() - start
        if self.update == "flip":
            update = -update
        elif self.update == "scale":
            update = self.update_factor * update
        elif self.update == "random":
            draw = generator(self.adversaries.seed, "adversary-update", client, server_round)
            noise = torch.from_numpy(draw.standard_normal(len(update)))
            update = noise * (update.norm() / noise.norm())
        return (start + update).to(trained)

    def _in_stack(self, sent: Sequence[Message], replies: CohortReplies) -> StackedReplies:
        stacked = replies.record
        clients = np.array(stacked.clients, np.int64)
        lying = self.adversaries.lie(clients)
        if not lying.any():
            return stacked
        server_round = round_of(sent)
        metrics = self.claims(stacked.metrics, clients, server_round)
        if self.update == "honest":
            return replace(stacked, metrics=metrics)
        received, positions = Received(sent), replies.positions

        def change(rows: np.ndarray, block: Tensor) -> Tensor:
            changed = block.clone()
            for at in np.flatnonzero(lying[rows]).tolist():
                client = int(clients[rows[at]])
                start = received.by(positions[client])
                model = changed[at, : len(start)]  # what may lie behind it is no update
                model.copy_(self.model(start, model, client, server_round))
            return changed

        stack = stacked.parameters
        everyone = np.arange(len(clients))
        lied = change(everyone, stack) if isinstance(stack, Tensor) else stack.map(change)
        return replace(stacked, metrics=metrics, parameters=lied)

    def _in_messages(self, sent: Sequence[Message], replies: list[Message]) -> list[Message]:
        answered = [reply for reply in replies if not reply.has_error()]
        clients = np.array([identity_in(reply) for reply in answered], np.int64)
        lying = np.flatnonzero(self.adversaries.lie(clients)).tolist()
        if not lying:
            return replies
        server_round = round_of(sent)
        records = [next(iter(metric_records(reply.content).values())) for reply in answered]
        told = [key for key in records[0] if about_losses(key) or key == "update-norm"]
        columns = {key: np.array([record[key] for record in records]) for key in told}
        claimed = self.claims(columns, clients, server_round)
        received = Received(sent)
        positions = {message.metadata.message_id: at for at, message in enumerate(sent)}
        for at in lying:
            for key, column in claimed.items():
                records[at][key] = column[at].tolist()
            if self.update == "honest":
                continue
            reply = answered[at]
            position = positions[reply.metadata.reply_to_message_id]
            layout, start = received.layout(position), received.by(position)
            (name, trained), *_ = array_records(reply.content).items()
            model = self.model(start, layout.flatten(trained), int(clients[at]), server_round)
            reply.content[name] = layout.unflatten(model, trained)
        return replies


class Received:
    """The model that each message of a round brought, flat; one that many share is read once."""

    def __init__(self, sent: Sequence[Message]) -> None:
        self._sent = sent
        self._flat: dict[int, Tensor] = {}

    def layout(self, position: int) -> Layout:
        """Return how its arrays lie in the flat model."""
        return Layout.of(self._record(position))

    def by(self, position: int) -> Tensor:
        """Return it flat, ``[parameters]``."""
        record = self._record(position)
        if id(record) not in self._flat:
            self._flat[id(record)] = Layout.of(record).flatten(record)
        return self._flat[id(record)]

    def _record(self, position: int) -> ArrayRecord:
        if isinstance(self._sent, Orders):
            return self._sent.arrays
        return next(iter(array_records(self._sent[position].content).values()))


def round_of(sent: Sequence[Message]) -> int:
    """Return the round that messages are of."""
    if isinstance(sent, Orders):
        config = sent.config
    else:
        config = next(iter(config_records(sent[0].content).values()))
    return int(config["server-round"])  # type: ignore[arg-type]
