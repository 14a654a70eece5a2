"""Adversaries that say what a function of a person's own makes of their honest reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from flwr.app import Message
from torch import Tensor

from fedrms.engines.misreports import Misreports, Received, round_of
from fedrms.engines.replies import CohortReplies
from fedrms.errors import ConfigError, RunError
from fedrms.named_class import Form
from fedrms.own_function import OwnFunction
from fedrms.randomness import generator
from fedrms.replies.cohort import StackedReplies, identity_in
from fedrms.replies.records import array_records, metric_records
from fedrms.statistic import BY_CLASS, EXAMPLES, MOMENTS, TRAIN_LOSS, UPDATE_NORM


@dataclass(frozen=True, eq=False)
class Lie:
    """What an adversary says in a round.

    Attributes
    ----------
    update : array, float64 ``[parameters]``
        The way from the model that it received to the one that it sends.
    metrics : mapping of str to float or array
        What it reports; of the keys that it was given. Losses by class are ``[classes]``.
    """

    update: np.ndarray
    metrics: Mapping[str, Any]


LYING = Form(("update", "metrics", "draw"), Lie)
A_LIE = (
    "an adversary (def f(update, metrics, draw, *, options) -> fedrms.engines.Lie; update is a "
    "numpy array, metrics a dict, draw the client's numpy.random.Generator in the round)"
)


@dataclass(frozen=True, eq=False)
class OwnMisreports(Misreports):
    """Changes the replies of adversaries by a function, and no others."""

    own: OwnFunction | None = None
    """Makes of an honest update and metrics the adversary's :class:`Lie`, one client at a time."""

    def lie(
        self, received: Tensor, trained: Tensor, told: Mapping[str, Any], client: int, round: int
    ) -> tuple[Tensor, Mapping[str, Any]]:
        """Return the model ``[parameters]`` that an adversary sends, and its metrics.

        What is no lie about this reply is a `RunError`.
        """
        assert self.own is not None
        start = received.double()
        update = (trained.double().cpu() - start).numpy()
        draw = generator(self.adversaries.seed, "adversary-own", client, round)
        said = self.own(update, dict(told), draw)
        try:
            checked(self.own, said, len(update), told)
        except ConfigError as error:
            raise RunError(f"round {round}, client {client}: {error}") from error
        return (start + torch.as_tensor(said.update)).to(trained), said.metrics

    def _in_stack(self, sent: Sequence[Message], replies: CohortReplies) -> StackedReplies:
        stacked = replies.record
        clients = np.array(stacked.clients, np.int64)
        lying = self.adversaries.lie(clients)
        server_round, received, positions = round_of(sent), Received(sent), replies.positions
        stack = stacked.parameters

        def lie_of(at: int, trained: Tensor) -> tuple[Tensor, Mapping[str, Any], int]:
            start = received.by(positions[int(clients[at])])
            told = {key: _own(column[at]) for key, column in stacked.metrics.items()}
            model = trained[: len(start)]  # what may lie behind it is no update
            return *self.lie(start, model, told, int(clients[at]), server_round), len(start)

        def change(rows: np.ndarray, block: Tensor) -> Tensor:
            changed = block.clone()
            for at in np.flatnonzero(lying[rows]).tolist():
                model, _, size = lie_of(int(rows[at]), block[at])
                changed[at, :size] = model
            return changed

        claimed = {
            key: column.astype(np.float64) if column.dtype.kind == "f" else column.copy()
            for key, column in stacked.metrics.items()
        }
        for at in np.flatnonzero(lying).tolist():
            for key, value in lie_of(at, stack[at])[1].items():
                claimed[key][at] = value
        everyone = np.arange(len(clients))
        lied = change(everyone, stack) if isinstance(stack, Tensor) else stack.map(change)
        return replace(stacked, metrics=claimed, parameters=lied)

    def _in_messages(self, sent: Sequence[Message], replies: list[Message]) -> list[Message]:
        received = Received(sent)
        positions = {message.metadata.message_id: at for at, message in enumerate(sent)}
        for reply in replies:
            if reply.has_error():
                continue
            client = int(identity_in(reply))  # type: ignore[arg-type]
            if not self.adversaries.lie(np.array([client]))[0]:
                continue
            record = next(iter(metric_records(reply.content).values()))
            told = {key: _own(np.asarray(value)) for key, value in record.items()}
            position = positions[reply.metadata.reply_to_message_id]
            layout, start = received.layout(position), received.by(position)
            (name, trained), *_ = array_records(reply.content).items()
            flat = layout.flatten(trained)
            model, said = self.lie(start, flat, told, client, round_of(sent))
            for key, value in said.items():
                kind = int if isinstance(record[key], int) else float
                record[key] = np.asarray(value, kind).tolist()
            reply.content[name] = layout.unflatten(model, trained)
        return replies


def try_lie(own: OwnFunction, num_classes: int | None) -> None:
    """Let an adversary answer once with an update of four numbers, before anybody trains."""
    about = ("partition-id", "steps", "work", "statistic-fallback")
    single = [each.key for each in (EXAMPLES, TRAIN_LOSS, UPDATE_NORM, *MOMENTS.values())]
    lists = {each.key: np.ones(num_classes or 1) for each in BY_CLASS.values()}
    told: dict[str, Any] = {**dict.fromkeys((*about, *single), 1.0), **lists}
    update = np.array([0.5, -0.5, 0.5, -0.5])
    with own.tried():
        said = own(update, dict(told), generator(0, "adversary-own", 0, 1))
        checked(own, said, len(update), told)


def checked(own: OwnFunction, said: object, size: int, told: Mapping[str, Any]) -> None:
    """Refuse what is no lie about a reply."""
    if not isinstance(said, Lie):
        raise own.wrong(f"gives a {type(said).__name__}")
    if np.shape(said.update) != (size,):
        raise own.wrong(f"gives an update of shape {np.shape(said.update)} for one of {(size,)}")
    for key, value in said.metrics.items():
        if key not in told:
            raise own.wrong(f"gives a metric {key!r} that the reply does not have")
        if isinstance(value, bool) or np.asarray(value).dtype.kind not in "iuf":
            raise own.wrong(f"gives {key}={value!r}, which is no number")
        if np.shape(value) != np.shape(told[key]):
            raise own.wrong(f"gives {key} of shape {np.shape(value)}, not {np.shape(told[key])}")


def _own(value: np.ndarray) -> Any:
    """Return a number, or a copy of a list of them, that a function may change."""
    return value.copy() if value.ndim else value.item()
