"""What replies say in numbers: their metrics as columns, one number or one list a client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import Message

from fedrms.replies.records import metric_records
from fedrms.statistic import BY_CLASS

MOST_CLASSES = 10_000
"""Largest label that is read under a key of its own, as earlier clients have it."""


def by_class(metric: str) -> bool:
    """Say whether a metric is one of those by class."""
    return metric in KEYS or OLD.fullmatch(metric) is not None


def old_class_key(column: str, label: int) -> str:
    """Return the key under which clients of earlier releases report a number of one class."""
    return f"loss-{column}-class-{label}"


KEYS = frozenset(each.key for each in BY_CLASS.values())
OLD = re.compile(f"loss-({'|'.join(BY_CLASS)})-class-([0-9]+)")
"""Keys of earlier releases, one a class and column; they are read for one release more."""


def class_losses_in(reply: Message) -> dict[str, list[float]]:
    """Return the lists of losses by class in a reply, by their keys; NaN for what is not told.

    Of a list in several records the first counts.
    """
    found: dict[str, list[float]] = {}
    earlier: dict[str, dict[int, float]] = {}
    for record in metric_records(reply.content).values():
        for key, value in record.items():
            old = OLD.fullmatch(key)
            if key in KEYS and isinstance(value, list):
                found.setdefault(key, [as_float(each) for each in value])
            elif old and isinstance(value, int | float) and int(old[2]) < MOST_CLASSES:
                told = earlier.setdefault(BY_CLASS[old[1]].key, {})
                told.setdefault(int(old[2]), as_float(value))
    for key, told in earlier.items():
        if key not in found:
            found[key] = [told.get(label, np.nan) for label in range(max(told) + 1)]
    return found


def as_float(value: int | float) -> float:
    """Return a number as a float; infinite where it is too large."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def stacked_lists(told: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, np.ndarray]:
    """Return lists by client as arrays ``[clients, longest]``, NaN behind their ends."""
    keys = sorted({key for row in told for key in row})
    longest = max((len(values) for row in told for values in row.values()), default=0)
    tables = {key: np.full((len(told), longest), np.nan) for key in keys}
    for at, row in enumerate(told):
        for key, values in row.items():
            tables[key][at, : len(values)] = values
    return tables


def numbers_in(reply: Message) -> dict[str, float]:
    """Return the metrics of a reply that are single numbers; inf where one is too large.

    Losses by class are none, under whichever keys. Of a metric in several records the first counts.
    """
    found: dict[str, float] = {}
    for record in metric_records(reply.content).values():
        for key, value in record.items():
            if isinstance(value, int | float) and key not in found and not by_class(key):
                found[key] = as_float(value)
    return found


def columns_of(replies: Sequence[Message]) -> dict[str, np.ndarray]:
    """Return the metrics of replies: numbers ``[replies]``, losses by class ``[replies, classes]``.

    NaN where a reply does not have it.
    """
    rows = [numbers_in(reply) for reply in replies]
    keys = sorted({key for row in rows for key in row})
    columns = {key: np.array([row.get(key, np.nan) for row in rows]) for key in keys}
    return columns | stacked_lists([class_losses_in(reply) for reply in replies])
