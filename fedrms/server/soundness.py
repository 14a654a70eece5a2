"""Which replies to a training round any strategy can average, Flower's own among them.

Flower's strategies take replies as they come: one key too many ends the run, one NaN spoils the
model. What is left here has the names, shapes and kinds of numbers that were sent, in their order,
and the same metrics from everyone. The strategies of fedrms take more than that (parts of a
model, metrics from some), and look for themselves (:mod:`fedrms.replies.replies`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from fedrms.errors import shown
from fedrms.replies.claims import Addressees, assign
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import LARGEST, Layout, order_key
from fedrms.replies.evaluation_reports import Reports, Value, check_reports
from fedrms.replies.limits import excess
from fedrms.replies.metric_ranges import Range
from fedrms.replies.records import array_records, metric_records
from fedrms.replies.replies import array_problem, bad_rows, model_of, two_counts
from fedrms.server.evaluation import leave_out_incomplete, merged_metrics

METRICS = "metrics"
"""What honest clients call their record."""

FLOATING, WHOLE = "f", "iub"
"""Kinds of numpy's dtypes."""


@dataclass(frozen=True)
class Needs:
    """What a strategy reads of a reply."""

    weighted_by: str  # metric that holds the number of examples
    arrays: str  # key of the ``ArrayRecord`` that is the model, where a reply holds several
    loss: str | None  # metric that the strategy makes weights of
    examples_limit: float | None  # in multiples of the cohort's median
    ranges: Mapping[str, Range | None]
    """Least and largest value by metric, beyond those that go by its name."""


def sound_training(
    sent: ArrayRecord | None, replies: Sequence[Message], addressees: Addressees, needs: Needs
) -> tuple[list[Message], dict[ClientId, str]]:
    """Leave out the replies that cannot be averaged, and bring the others into one form.

    Those that are good are sorted by client and changed in place: one ``ArrayRecord`` in the order
    of what was ``sent``, one ``MetricRecord`` with the metrics that all report. Arrays are not
    looked at where none was sent. The others have a reason each.
    """
    senders, failures = assign(replies, addressees)
    layout = None if sent is None else Layout.of(sent)
    models: dict[ClientId, ArrayRecord | None] = {}
    for client, reply in sorted(senders.items(), key=lambda item: order_key(item[0])):
        model, problem = model_of(reply, needs.arrays) if sent else (None, None)
        problem = excess(reply, sent) or problem or two_counts(reply, needs.weighted_by)
        if model is not None and sent is not None and layout is not None:
            problem = problem or _model_problem(model, sent, layout)
        if problem:
            failures[client] = problem
        else:
            models[client] = model
    metrics: list[Mapping[str, Value]] = [merged_metrics(senders[c].content) for c in models]
    reports = Reports(list(models), metrics, needs.weighted_by)
    check_reports(reports, needs.examples_limit, needs.ranges)
    _need_loss(reports, needs.loss)
    leave_out_incomplete(reports)
    failures |= dict(reports.failures)
    good = []
    for client, told in zip(reports.clients, reports.metrics, strict=True):
        reply = senders[client]
        kept = {name: value for name, value in told.items() if name not in reports.dropped}
        _simplify(reply, models[client], sent, needs.arrays, kept)
        good.append(reply)
    return good, {client: shown(why) for client, why in failures.items()}


def _model_problem(model: ArrayRecord, sent: ArrayRecord, layout: Layout) -> str | None:
    for name, array in sent.items():
        shape, asked = tuple(array.shape), np.dtype(array.dtype)
        fits = partial(_alike, other=asked, shape=shape)
        problem = array_problem(model, name, shape, fits, array.dtype)
        if problem:
            return problem
    for name in model:
        if name not in sent:
            return f"array {name!r} is none of those that were sent"
    # In single precision, whatever a strategy made of the model: that is what clients train in.
    return next(iter(bad_rows(layout.flatten(model).float()[None]).values()), None)


def _alike(one: np.dtype[Any], other: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Say whether numbers of one kind can stand for those of another.

    Strategies may return floating numbers in double precision, and counters as floating numbers.
    """
    counter = shape == () and one.kind in WHOLE
    return one.kind == other.kind or (other.kind == FLOATING and counter)


def _need_loss(reports: Reports, name: str | None) -> None:
    """Leave out who does not say what the strategy makes weights of."""
    if name is not None:
        problems = [loss_problem(name, metrics.get(name)) for metrics in reports.metrics]
        reports.leave_out({row: why for row, why in enumerate(problems) if why})


def loss_problem(name: str, value: object) -> str | None:
    """Return why a strategy cannot make a weight of a loss; None where it can."""
    if isinstance(value, int | float) and 0 <= value <= LARGEST:
        return None
    return f"{name!r} is {value!r}, not a number of 0 or more"


def _simplify(
    reply: Message,
    model: ArrayRecord | None,
    sent: ArrayRecord | None,
    key: str,
    metrics: dict[str, Value],
) -> None:
    """Give a good reply the form in which strategies expect it."""
    content = reply.content
    single_record(reply, metrics)
    if model is not None and sent is not None:
        for name in list(array_records(content)):
            del content[name]
        ordered = ArrayRecord()
        for name, array in sent.items():
            ordered[name] = _no_wider(model[name], array)
        content[key] = ordered


def single_record(reply: Message, metrics: Mapping[str, Value]) -> None:
    """Put one ``MetricRecord`` in place of all that a reply has, in place.

    It is called as honest clients' are, whatever a reply calls its own: strategies want replies
    whose records have the same names, and a model's could be among them.
    """
    for name in list(metric_records(reply.content)):
        del reply.content[name]
    reply.content[METRICS] = MetricRecord(dict(metrics))


def _no_wider(array: Array, sent: Array) -> Array:
    own, asked = np.dtype(array.dtype), np.dtype(sent.dtype)
    if own.kind == asked.kind and own.itemsize > asked.itemsize:
        return Array(array.numpy().astype(asked))
    return array
