"""Every way in which we could think of a reply that must not be averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from fedrms.engines.flower_border import FIRST_NODE_ID

from .by_hand import AppGrid
from .mutations import archive

Fault = Callable[[Message], None]
VICTIM = 0
"""An honest client whose name others claim."""


def array(**changes: Any) -> Fault:
    """Replace the first array of the model by one with other numbers, shape, dtype or bytes."""

    def spoil(reply: Message) -> None:
        (name, model), *_ = reply.content.array_records.items()
        key, good = next(iter(model.items()))
        values = changes["make"](good.numpy().copy()) if "make" in changes else good.numpy()
        made = Array(np.ascontiguousarray(values))
        if "data" in changes:
            made = Array(made.dtype, made.shape, made.stype, changes["data"](made.data))
        reply.content[name] = ArrayRecord(
            {k: made if k == key else Array(v.numpy()) for k, v in model.items()}
        )

    return spoil


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values.flat[0] = value
        return values

    return change


def metrics(**values: Any) -> Fault:
    """Set metrics; None takes one away. ``__`` stands for ``-``."""

    def spoil(reply: Message) -> None:
        record = next(iter(reply.content.metric_records.values()))
        for key, value in values.items():
            key = key.replace("__", "-")
            if value is None:
                del record[key]
            else:
                record[key] = value

    return spoil


def without_arrays(reply: Message) -> None:
    for name in list(reply.content.array_records):
        del reply.content[name]


def without_metrics(reply: Message) -> None:
    for name in list(reply.content.metric_records):
        del reply.content[name]


def of_no_message(reply: Message) -> None:
    reply.metadata.__dict__["_reply_to_message_id"] = "f" * 64


def says(**values: Any) -> Fault:
    """Add a ``ConfigRecord``."""

    def spoil(reply: Message) -> None:
        record = ConfigRecord({key.replace("__", "-"): value for key, value in values.items()})
        reply.content["said"] = record

    return spoil


NOT_FINITE, NO_COUNT = "parameters are not finite", "'num-examples' is missing or not a positive"
FAULTS: Mapping[str, tuple[Fault, str]] = {
    "a NaN": (array(make=first(np.nan)), NOT_FINITE),
    "an infinite number": (array(make=first(-np.inf)), NOT_FINITE),
    "numbers without a distance": (array(make=first(3e38)), "too large to be measured"),
    "a number beyond single precision": (
        array(make=lambda v: first(1e300)(v.astype(np.float64))),
        NOT_FINITE,
    ),
    "one row more": (array(make=lambda v: np.concatenate([v, v[:1]])), "has shape"),
    "the shape transposed": (array(make=lambda v: v.T), "has shape"),
    "one number": (array(make=lambda v: np.float32(1.0)), "has shape (1,)"),
    "whole numbers": (array(make=lambda v: v.astype(np.int64)), "has dtype int64"),
    "truth values": (array(make=lambda v: v > 0), "has dtype bool"),
    "complex numbers": (array(make=lambda v: v.astype(np.complex64)), "has dtype complex64"),
    "text": (array(make=lambda v: v.astype("U8")), "has dtype"),
    "cut bytes": (array(data=lambda data: data[:-3]), "cannot be decoded"),
    "other bytes": (array(data=lambda data: b"\x80\x04N." * 9), "cannot be decoded"),
    "an archive's bytes": (
        array(data=lambda data: archive(data, np.random.default_rng(0))),
        "cannot be decoded",
    ),
    "no arrays": (without_arrays, "holds no ArrayRecord"),
    "no metrics": (without_metrics, NO_COUNT),
    "no count": (metrics(num__examples=None), NO_COUNT),
    "no examples": (metrics(num__examples=0), NO_COUNT),
    "fewer than none": (metrics(num__examples=-8), NO_COUNT),
    "NaN examples": (metrics(num__examples=float("nan")), NO_COUNT),
    "infinite examples": (metrics(num__examples=float("inf")), NO_COUNT),
    "a list of counts": (metrics(num__examples=[8, 8]), NO_COUNT),
    "1e18 examples": (metrics(num__examples=10**18), "is 1e+18, more than 1e+06 times the"),
    "a negative variance": (metrics(loss__variance=-0.5), "'loss-variance' is -0.5"),
    "another's name": (metrics(partition__id=VICTIM), "it claims to be client 0"),
    "an unknown name": (says(client__id="mallory"), "it claims to be client mallory"),
    "an unknown number": (metrics(partition__id=10**6), "it claims to be client 1000000"),
    "an earlier round": (says(server__round=0), "it answers round 0, and this is round"),
    "an impossible round": (says(server__round=-3), "it answers round -3"),
    "no message": (of_no_message, "no reply in time"),
}
"""What is wrong, and part of the reason that the tables tell."""


class SpoilingGrid(AppGrid):
    """Real clients, some of whose training replies are spoilt on the way.

    Parameters
    ----------
    faults : mapping
        Fault by client.
    listed : int
        How many clients there are to the server, in order.
    """

    def __init__(self, *parts: Any, faults: Mapping[int, Fault], listed: int) -> None:
        super().__init__(*parts)
        self._faults, self._listed = faults, listed

    def get_node_ids(self) -> list[int]:
        return super().get_node_ids()[: self._listed]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        messages = list(messages)
        replies = super().send_and_receive(messages, timeout=timeout)
        for message, reply in zip(messages, replies, strict=True):
            client = int(message.metadata.dst_node_id) - FIRST_NODE_ID
            if message.metadata.message_type == "train" and client in self._faults:
                self._faults[client](reply)
        return replies
