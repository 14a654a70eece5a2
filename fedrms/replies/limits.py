"""How much a client may send.

Nothing that an honest client sends comes near these limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, Message

from fedrms.errors import LONGEST_SHOWN
from fedrms.replies.lazy_array import LazyArray
from fedrms.replies.records import array_records, config_records, metric_records

EXAMPLES_LIMIT = 1e6
"""Most examples that a client may claim by default, in multiples of the cohort's median."""

ROOM_TIMES, ROOM_BYTES = 4, 1 << 20
"""A reply may hold this many times the bytes of the model that was sent, and some bytes more:
training in double precision doubles them, squared gradients do so again."""

MOST_NUMBERS = 10_000
"""Most numbers that a reply's metrics may hold, unless losses by more classes were asked for."""

NUMBERS_A_CLASS = 8
"""Room for the numbers of one class, of which there are four."""

MOST_TEXT = 1 << 16
"""Most characters that a reply's ``ConfigRecord`` may hold."""


def excess(reply: Message, sent: ArrayRecord | None, classes: int = 0) -> str | None:
    """Say by what a reply is larger than any that could be right, or return None.

    Parameters
    ----------
    reply : Message
        The reply; arrays are not decoded.
    sent : ArrayRecord, optional
        The model that it answers; where none was sent, arrays may have any size.
    classes : int
        By how many classes clients were asked for their losses.
    """
    content = reply.content
    if sent:
        room = ROOM_TIMES * _bytes([sent]) + ROOM_BYTES
        size = _bytes(array_records(content).values())
        if size > room:
            return (
                f"its arrays take {size} bytes; the model that it was sent leaves room for {room}"
            )
    records = metric_records(content).values()
    values = [value for record in records for value in record.values()]
    numbers = sum(len(value) if isinstance(value, list) else 1 for value in values)
    most = max(MOST_NUMBERS, NUMBERS_A_CLASS * classes)
    if numbers > most:
        return f"its metrics hold {numbers} numbers, more than {most}"
    longest = max((len(name) for record in records for name in record), default=0)
    if longest > LONGEST_SHOWN:
        return f"the name of a metric has {longest} characters, more than {LONGEST_SHOWN}"
    letters = sum(
        len(name) + _length(value)
        for record in config_records(content).values()
        for name, value in record.items()
    )
    if letters > MOST_TEXT:
        return f"its texts have {letters} characters, more than {MOST_TEXT}"
    return None


def _bytes(records: Iterable[ArrayRecord]) -> int:
    """Return how many bytes records hold; what has no bytes yet is not made to have some."""
    return sum(
        len(name)
        + (
            math.prod(array.shape) * np.dtype(array.dtype).itemsize
            if isinstance(array, LazyArray)
            else len(array.data)
        )
        for record in records
        for name, array in record.items()
    )


def _length(value: object) -> int:
    if isinstance(value, list):
        return sum(_length(each) for each in value)
    return len(value) if isinstance(value, str | bytes) else 8
