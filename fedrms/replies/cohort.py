"""A round's replies, checked and stacked: one row a client, sorted by client id."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from fedrms.combining.clip import update_norms
from fedrms.combining.row_blocks import Stack, join_stacks, take_rows
from fedrms.errors import ConfigError
from fedrms.replies.client_index import ClientId
from fedrms.replies.lazy_array import LazyArray
from fedrms.replies.records import config_records, metric_records

GRADIENT_SQUARES = "gradient-squares"
"""The ``ArrayRecord`` of a reply that holds the mean squared gradient of every parameter."""


LONGEST_ROW = float(np.finfo(np.float32).max) ** 0.5 / 4
"""Half of what a row may be, so that rounding has room: see ``bad_rows``."""
LONGEST_NAME = 256
"""Most letters of a client's name."""

LARGEST = float(np.finfo(np.float32).max) ** 2
"""What no loss, nor its square, is above: the square of the largest single-precision number."""


@dataclass(frozen=True)
class Layout:
    """Where each floating array of an ``ArrayRecord`` lies in a flat vector.

    Integer and boolean arrays (counters, masks) have no place in it; see
    :mod:`fedrms.replies.model_arrays`.
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

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Elements of each array."""
        return [math.prod(shape) for shape in self.shapes]

    def flatten(self, record: ArrayRecord) -> Tensor:
        """Return the record's floating arrays as one vector ``[parameters]``.

        Each array is cast to this layout's dtype, or to float32 where that is wider; a number
        too large for it becomes infinite. It may be the record's own memory: not to be written.
        """
        whole = self._whole(record)
        if whole is not None:
            return whole
        if not self.names:
            return torch.zeros(0)
        dtypes = [np.promote_types(dtype, np.float32) for dtype in self.dtypes]
        flat = np.empty(sum(self.sizes), np.result_type(*dtypes))
        ends = accumulate(self.sizes)
        with np.errstate(over="ignore"):
            for name, size, end, dtype in zip(self.names, self.sizes, ends, dtypes, strict=True):
                flat[end - size : end] = record[name].numpy().astype(dtype, copy=False).ravel()
        return torch.from_numpy(flat)

    def _whole(self, record: ArrayRecord) -> Tensor | None:
        """Return the vector in whose memory all floating arrays lie in this order, if they do."""
        whole, at = None, 0
        for name, size, dtype in zip(self.names, self.sizes, self.dtypes, strict=True):
            array = record[name]
            own, start = array.part if isinstance(array, LazyArray) else (None, 0)
            if own is None or start != at or dtype != "float32":
                return None
            if whole is not None and own is not whole:
                return None
            whole, at = own, at + size
        return whole if whole is not None and at == len(whole) else None

    def unflatten(self, flat: Tensor, template: ArrayRecord) -> ArrayRecord:
        """Return a record like ``template`` with its floating arrays taken from ``flat``."""
        whole = flat.detach().cpu()
        numbers = whole.numpy()
        ends = accumulate(self.sizes)
        sized = zip(self.names, self.sizes, ends, strict=True)
        places = {name: (end - size, end) for name, size, end in sized}
        record = ArrayRecord()
        for name, array in template.items():
            if name not in places:
                record[name] = array
                continue
            start, end = places[name]
            values = numbers[start:end].reshape(tuple(array.shape))
            if values.dtype == array.dtype:
                record[name] = LazyArray(values, whole, start)
            else:
                record[name] = LazyArray(values.astype(array.dtype))
        return record


class Norms:
    """L2 norms ``[clients]`` of the updates in a stack, and of that stack alone.

    The stack is not kept alive. No row of it is longer than ``longest``, if that is known.
    """

    def __init__(self, values: np.ndarray, stack: Stack, longest: float = np.inf) -> None:
        self._values, self.longest = values, longest
        self._stack, self._version = weakref.ref(stack), _version(stack)

    def of(self, stack: Stack) -> np.ndarray | None:
        """Return the norms of this stack; None if another was measured, or it has changed since."""
        same = self._stack() is stack and self._version == _version(stack)
        return self._values if same else None

    @classmethod
    def joined(
        cls, parts: Sequence[np.ndarray | None], stack: Stack, order: np.ndarray | None = None
    ) -> Norms | None:
        """Return the norms of a stack made of parts; None if those of a part are not known."""
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        values = np.concatenate(known)
        return cls(values if order is None else values[order], stack)


def _version(stack: Stack) -> int:
    """Return how often a tensor was written to; blocks are not."""
    return stack._version if isinstance(stack, Tensor) else 0


@dataclass(frozen=True)
class StackedReplies:
    """What an in-process engine puts beside its list of messages, so that none is serialised."""

    clients: Sequence[ClientId]  # ``[clients]`` ids of those who answered
    parameters: Stack
    """``[clients, parameters]`` in the order of the sent record's floating arrays; in blocks of
    rows where the cohort does not fit in memory. Where clients were asked for their squared
    gradients, these follow in the same order: ``[clients, 2 parameters]``."""
    metrics: Mapping[str, np.ndarray]  # each ``[clients]``
    failures: Mapping[ClientId, str]  # reason by client id of those who did not
    norms: Norms | None = None
    """Of the updates, as the engine measured them and whatever clients say of them: the server then
    need not read the stack once more."""

    @property
    def known_norms(self) -> np.ndarray | None:
        """``[clients]`` L2 norms of the updates in the stack; None if they are not known."""
        return None if self.norms is None else self.norms.of(self.parameters)

    @property
    def are_short(self) -> bool:
        """Whether every row is known to be finite, and short enough for any rule to measure."""
        known = self.norms is not None and self.known_norms is not None
        return known and self.norms.longest <= LONGEST_ROW  # type: ignore[union-attr]

    @classmethod
    def concatenate(cls, parts: Sequence[StackedReplies]) -> StackedReplies:
        """Return the replies of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        answered = [part for part in parts if part.clients] or list(parts[:1])
        names = answered[0].metrics
        norms = [part.known_norms for part in answered]
        stack = join_stacks([part.parameters for part in answered])
        return cls(
            [client for part in answered for client in part.clients],
            stack,
            {name: np.concatenate([part.metrics[name] for part in answered]) for name in names},
            {client: why for part in parts for client, why in part.failures.items()},
            Norms.joined(norms, stack),
        )


@dataclass
class Cohort:
    """The valid replies of a round (see :class:`StackedReplies` for shapes)."""

    clients: list[ClientId]
    parameters: Stack
    metrics: dict[str, np.ndarray]
    failures: dict[ClientId, str] = field(default_factory=dict)
    replies: dict[ClientId, Message] = field(default_factory=dict)
    """The message of each client, where there were messages."""
    lacking: dict[ClientId, frozenset[str]] = field(default_factory=dict)
    """The arrays that a client did not send; its row holds what it was given there."""
    norms: np.ndarray | None = None
    """``[clients]`` of the updates, where the engine measured them."""
    weighted_by: str = "num-examples"
    """The metric that holds the number of examples."""
    lengths_tell: bool = True
    """Whether the length of an update tells of its client's losses."""

    @property
    def examples(self) -> np.ndarray:
        """``[clients]`` n_k."""
        return self.metrics[self.weighted_by]

    def update_norms(self, received: Tensor) -> np.ndarray:
        """Return ``[clients]`` the L2 norms of the updates from the received model."""
        return update_norms(self.parameters, received) if self.norms is None else self.norms

    def without(self, reasons: Mapping[ClientId, str]) -> Cohort:
        """Return the cohort without some clients, who become failures with their reasons."""
        if not reasons:
            return self
        kept = [row for row, client in enumerate(self.clients) if client not in reasons]
        rows = np.array(kept, dtype=np.int64)
        return replace(
            self,
            clients=[self.clients[row] for row in rows],
            parameters=take_rows(self.parameters, rows),
            metrics={name: column[rows] for name, column in self.metrics.items()},
            failures=self.failures | dict(reasons),
            replies={c: reply for c, reply in self.replies.items() if c not in reasons},
            lacking={c: names for c, names in self.lacking.items() if c not in reasons},
            norms=None if self.norms is None else self.norms[rows],
        )

    def of_rows(self, rows: np.ndarray, columns: Tensor) -> Cohort:
        """Return some rows and columns of a cohort whose parameters are in memory."""
        assert isinstance(self.parameters, Tensor)
        parameters = self.parameters[torch.from_numpy(rows)][:, columns]
        metrics = {name: column[rows] for name, column in self.metrics.items()}
        clients = [self.clients[row] for row in rows]
        return Cohort(clients, parameters, metrics, weighted_by=self.weighted_by)


def order_key(client: ClientId) -> tuple[bool, int, str]:
    """Sort numbers before names, each in its own order."""
    return (True, 0, client) if isinstance(client, str) else (False, client, "")


def identity_in(message: Message) -> ClientId | None:
    """Return the client id that a reply carries, or None.

    A ``client-id`` in a ``ConfigRecord`` (a name, in deployment) comes before a
    ``partition-id`` among the metrics (a number, in simulation). What cannot be either, such
    as a name of a million letters or a number below 0, names nobody.
    """
    for config in config_records(message.content).values():
        if "client-id" in config:
            return _name(config["client-id"])
    for metrics in metric_records(message.content).values():
        number = metrics.get("partition-id")
        if isinstance(number, int | float) and 0 <= number < 1 << 63 and int(number) == number:
            return int(number)
    return None


def _name(value: object) -> str | None:
    name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return name if name.isprintable() and 0 < len(name) <= LONGEST_NAME else None


def having(cohort: Cohort, key: str, who: str, setting: str) -> Cohort:
    """Return the cohort without the clients whose metric ``key`` is not a number of 0 or more.

    If nobody reports it, an error says who needs it and by which setting.
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
    return cohort.without(no_losses(cohort, key, cohort.metrics[key]))


def no_losses(cohort: Cohort, key: str, values: np.ndarray) -> dict[ClientId, str]:
    """Return why what some clients report under ``key``, ``[cohort]``, is not believed."""
    wrong = np.flatnonzero(~((values >= 0) & (values <= LARGEST)))
    return {cohort.clients[row]: no_loss(key, values[row]) for row in wrong}


def no_loss(key: str, value: float) -> str:
    """Say why a number that a client reports can be no loss."""
    large = LARGEST < value < np.inf
    return f"{key!r} is {value}, {'larger than any loss' if large else 'not a number of 0 or more'}"
