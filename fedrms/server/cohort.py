"""A round's replies, checked and stacked: one row a client, sorted by client id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.server.client_scaler import ClientId
from fedrms.server.lazy_array import LazyArray
from fedrms.server.row_blocks import Stack, blocks_of, join_stacks, take_rows

GRADIENT_SQUARES = "gradient-squares"
"""The ``ArrayRecord`` of a reply that holds the mean squared gradient of every parameter."""


@dataclass(frozen=True)
class Layout:
    """Where each floating array of an ``ArrayRecord`` lies in a flat vector.

    Integer and boolean arrays (counters, masks) are not averaged: they pass through as
    the server sent them.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, record: ArrayRecord) -> Layout:
        """Read the layout from an ``ArrayRecord`` without decoding its data."""
        floating = [
            (n, a) for n, a in record.items() if np.issubdtype(np.dtype(a.dtype), np.floating)
        ]
        return cls(
            tuple(name for name, _ in floating),
            tuple(tuple(array.shape) for _, array in floating),
            tuple(array.dtype for _, array in floating),
        )

    @property
    def sizes(self) -> list[int]:
        """Elements of each array."""
        return [math.prod(shape) for shape in self.shapes]

    def flatten(self, record: ArrayRecord) -> Tensor:
        """Return the record's floating arrays as one vector ``[parameters]``.

        Each array is cast to this layout's dtype, or to float32 where that is wider; a number
        too large for it becomes infinite.
        """
        with np.errstate(over="ignore"):
            parts = [
                record[name].numpy().astype(np.promote_types(dtype, np.float32), copy=False)
                for name, dtype in zip(self.names, self.dtypes, strict=True)
            ]
        return torch.cat([torch.from_numpy(part).reshape(-1) for part in parts])

    def unflatten(self, flat: Tensor, template: ArrayRecord) -> ArrayRecord:
        """Return a record like ``template`` with its floating arrays taken from ``flat``."""
        parts = dict(zip(self.names, torch.split(flat.detach().cpu(), self.sizes), strict=True))
        record = ArrayRecord()
        for name, array in template.items():
            if name not in parts:
                record[name] = array
                continue
            values = parts[name].reshape(tuple(array.shape)).numpy()
            record[name] = LazyArray(values.astype(array.dtype, copy=False))
        return record


@dataclass(frozen=True)
class StackedReplies:
    """What an in-process engine puts beside its list of messages, so that none is serialised.

    Attributes
    ----------
    clients : sequence
        ``[clients]`` ids of those who answered.
    parameters : Tensor or RowBlocks
        ``[clients, parameters]`` in the order of the sent record's floating arrays; in blocks
        of rows where the cohort does not fit in memory. Where clients were asked for their
        squared gradients, these follow in the same order: ``[clients, 2 parameters]``.
    metrics : mapping
        Each ``[clients]``.
    failures : mapping
        Reason by client id of those who did not.
    """

    clients: Sequence[ClientId]
    parameters: Stack
    metrics: Mapping[str, np.ndarray]
    failures: Mapping[ClientId, str]

    @classmethod
    def concatenate(cls, parts: Sequence[StackedReplies]) -> StackedReplies:
        """Return the replies of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        answered = [part for part in parts if part.clients] or list(parts[:1])
        names = answered[0].metrics
        return cls(
            [client for part in answered for client in part.clients],
            join_stacks([part.parameters for part in answered]),
            {name: np.concatenate([part.metrics[name] for part in answered]) for name in names},
            {client: why for part in parts for client, why in part.failures.items()},
        )


@dataclass
class Cohort:
    """The valid replies of a round (see :class:`StackedReplies` for shapes)."""

    clients: list[ClientId]
    parameters: Stack
    metrics: dict[str, np.ndarray]
    failures: dict[ClientId, str] = field(default_factory=dict)

    def keep(self, valid: np.ndarray, reasons: Mapping[ClientId, str]) -> Cohort:
        """Return the cohort with only the rows where ``valid``; the rest become failures."""
        if valid.all():
            return self
        rows = np.flatnonzero(valid)
        return Cohort(
            [self.clients[row] for row in rows],
            take_rows(self.parameters, rows),
            {name: column[rows] for name, column in self.metrics.items()},
            self.failures | dict(reasons),
        )


def order_key(client: ClientId) -> tuple[bool, int, str]:
    """Sort numbers before names, each in its own order."""
    return (True, 0, client) if isinstance(client, str) else (False, client, "")


def identity_in(message: Message) -> ClientId | None:
    """Return the client id that a reply carries, or None.

    A ``client-id`` in a ``ConfigRecord`` (a name, in deployment) comes before a
    ``partition-id`` among the metrics (a number, in simulation).
    """
    for config in message.content.config_records.values():
        if "client-id" in config:
            return str(config["client-id"])
    for metrics in message.content.metric_records.values():
        number = metrics.get("partition-id")
        if isinstance(number, int) or (isinstance(number, float) and number.is_integer()):
            return int(number)
    return None


def sender(reply: Message, known: Mapping[str, ClientId]) -> ClientId:
    """Return who sent a reply: whom it names, or else whom the answered message was sent to.

    Errors name nobody, and those that Flower makes itself come from a node id of its own.
    """
    client = None if reply.has_error() else identity_in(reply)
    if client is not None:
        return client
    return known.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)


def read_replies(
    replies: Iterable[Message],
    layout: Layout,
    known: Mapping[str, ClientId],
    *,
    weighted_by: str = "num-examples",
    squares: bool = False,
) -> Cohort:
    """Check a round's replies and stack the good ones, sorted by client id.

    Sorting makes sums independent of arrival order. A reply that is an error, lacks an
    array, or carries wrong shapes or numbers that are not finite is a failure with a
    reason and is left out; nothing is raised for it.

    Parameters
    ----------
    replies : iterable of Message
        What ``grid.send_and_receive`` returned; its ``stacked`` attribute, when present
        and not None, is used as it is.
    layout : Layout
        Of the record that was sent.
    known : mapping
        Client id by the id of the message that was sent to it.
    weighted_by : str
        Metric that holds the number of examples.
    squares : bool
        Whether clients were asked for their squared gradients (see :class:`StackedReplies`).
    """
    stacked = getattr(replies, "stacked", None)
    if isinstance(stacked, StackedReplies):
        cohort = _sorted(
            list(stacked.clients), stacked.parameters, dict(stacked.metrics), dict(stacked.failures)
        )
    else:
        cohort = _stack_messages(replies, layout, known, squares)
    return _check_numbers(cohort, weighted_by)


def having(cohort: Cohort, key: str, who: str, setting: str) -> Cohort:
    """Return the cohort without the clients whose metric ``key`` is not a number of 0 or more.

    Raises
    ------
    ConfigError
        If nobody reports it; ``who`` needs it, and ``setting`` is the config key at fault.
    """
    if not cohort.clients:
        return cohort
    if key not in cohort.metrics:
        moment = key.startswith("loss-")
        what = "metrics.update(fedrms.loss_moments(losses))" if moment else f"{key!r}"
        raise ConfigError(
            setting,
            f"{who} needs {key!r} and no client reports it",
            f"add {what} to the client's training",
        )
    values = cohort.metrics[key]
    valid = np.isfinite(values) & (values >= 0)
    reasons = {
        client: f"{key!r} is {values[row]}, not a number of 0 or more"
        for row, client in enumerate(cohort.clients)
        if not valid[row]
    }
    return cohort.keep(valid, reasons)


def _stack_messages(
    replies: Iterable[Message], layout: Layout, known: Mapping[str, ClientId], squares: bool
) -> Cohort:
    rows: dict[ClientId, Tensor] = {}
    metrics: dict[ClientId, dict[str, float]] = {}
    failures: dict[ClientId, str] = {}
    heard: set[ClientId] = set()
    for reply in replies:
        client = sender(reply, known)
        if reply.has_error():
            failures[client] = reply.error.reason or f"error code {reply.error.code}"
            continue
        if client in heard:
            failures[client] = "two replies carry this client id in one round"
            rows.pop(client, None)
            metrics.pop(client, None)
            continue
        heard.add(client)
        records = _array_records(reply, squares)
        problem = _structure_problem(records, layout)
        if problem:
            failures[client] = problem
            continue
        parts = [layout.flatten(record) for record in records if record is not None]
        rows[client] = parts[0] if len(parts) == 1 else torch.cat(parts)
        metrics[client] = {
            key: float(value)
            for record in reply.content.metric_records.values()
            for key, value in record.items()
            if isinstance(value, int | float)
        }
    clients = list(rows)
    keys = sorted({key for row in metrics.values() for key in row})
    table = {
        key: np.array([metrics[client].get(key, np.nan) for client in clients]) for key in keys
    }
    width = sum(layout.sizes) * (2 if squares else 1)
    parameters = torch.stack(list(rows.values())) if rows else torch.zeros(0, width)
    return _sorted(clients, parameters, table, failures)


def _array_records(reply: Message, squares: bool) -> list[ArrayRecord | None]:
    """Return a reply's model, and its squared gradients if they were asked for."""
    records = reply.content.array_records
    model = next((record for key, record in records.items() if key != GRADIENT_SQUARES), None)
    return [model, records.get(GRADIENT_SQUARES)] if squares else [model]


def _structure_problem(records: Sequence[ArrayRecord | None], layout: Layout) -> str | None:
    for record, what in zip(records, ("ArrayRecord", repr(GRADIENT_SQUARES)), strict=False):
        if record is None:
            return f"the reply holds no {what}"
        problem = _record_problem(record, layout)
        if problem:
            return problem
    return None


def _record_problem(record: ArrayRecord, layout: Layout) -> str | None:
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if name not in record:
            return f"array {name!r} is missing"
        if tuple(record[name].shape) != shape:
            return f"array {name!r} has shape {tuple(record[name].shape)}, not {shape}"
        try:
            if not np.issubdtype(np.dtype(record[name].dtype), np.floating):
                return f"array {name!r} has dtype {record[name].dtype}, not a floating one"
            actual = record[name].numpy()
            honest = actual.shape == shape and np.issubdtype(actual.dtype, np.floating)
        except Exception as error:
            return f"array {name!r} cannot be decoded: {error}"
        if not honest:
            return f"array {name!r} is not what its header says"
    return None


def _check_numbers(cohort: Cohort, weighted_by: str) -> Cohort:
    if not cohort.clients:
        return cohort
    finite = finite_rows(cohort.parameters)
    examples = cohort.metrics.get(weighted_by)
    if examples is None:
        examples = np.full(len(cohort.clients), np.nan)
    counted = np.isfinite(examples) & (examples > 0)
    if finite.all() and counted.all():
        return cohort
    reasons = {
        client: "the parameters are not finite"
        if not finite[row]
        else f"{weighted_by!r} is missing or not a positive number"
        for row, client in enumerate(cohort.clients)
        if not (finite[row] and counted[row])
    }
    return cohort.keep(finite & counted, reasons)


def finite_rows(parameters: Stack) -> np.ndarray:
    """Return ``[clients]`` whether every number of a row is finite.

    A sum is NaN or infinite if one of its terms is, so rows with a finite sum are done after
    one pass without copies; only the others, among them too large sums, are looked at closely.
    """
    finite = np.empty(parameters.shape[0], dtype=bool)
    for rows, block in blocks_of(parameters):
        passed = torch.isfinite(block.sum(dim=1))
        for row in (~passed).nonzero()[:, 0].tolist():
            passed[row] = torch.isfinite(block[row]).all()
        finite[rows.numpy()] = passed.cpu().numpy()
    return finite


def _sorted(
    clients: list[ClientId],
    parameters: Stack,
    metrics: dict[str, np.ndarray],
    failures: dict[ClientId, str],
) -> Cohort:
    keys = [order_key(client) for client in clients]
    if any(key > following for key, following in pairwise(keys)):
        order = np.array(sorted(range(len(clients)), key=keys.__getitem__))
        clients = [clients[row] for row in order]
        parameters = take_rows(parameters, order)
        metrics = {name: np.asarray(column)[order] for name, column in metrics.items()}
    return Cohort(clients, parameters, metrics, failures)
