"""The arrays of a model that are no floating numbers yet, or that clients make themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from logging import WARNING
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from fedrms.flower_log import log
from fedrms.replies.cohort import Layout
from fedrms.replies.replies import model_of


def as_clients_have_it(sent: ArrayRecord, replies: Iterable[Message], key: str) -> ArrayRecord:
    """Return the model that was sent in the types in which clients send it back.

    FedAvg averages whatever comes. So a model that clients make, where none was sent, is zeros in
    the layout that most have; whole numbers for which most clients send floating ones are floating;
    and where there are none but whole numbers, they are averaged in double precision.
    """
    answered = (reply for reply in replies if not reply.has_error())
    models = [model for reply in answered if (model := model_of(reply, key)[0]) is not None]
    if not len(sent):
        return _zeros_like_most(models)
    kinds = {_kind(array.dtype) for array in sent.values()}
    if kinds == {"f"}:
        return sent
    wanted: dict[str, str] = {}
    for name, array in sent.items():
        types = Counter(m[name].dtype for m in models if name in m)
        for dtype, _ in types.most_common(1):
            if _kind(array.dtype) in "iub" and _kind(dtype) == "f":
                wanted[name] = dtype
    if kinds <= {"i", "u"}:
        wanted = {name: wanted.get(name, "float64") for name in sent}
    if not wanted:
        return sent
    settled = ArrayRecord()
    for name, array in sent.items():
        cast = name in wanted
        settled[name] = Array(array.numpy().astype(wanted[name])) if cast else array
    return settled


def whole_numbers(sent: ArrayRecord) -> frozenset[str]:
    """Return the names of a model's arrays of whole numbers."""
    return frozenset(name for name, array in sent.items() if _kind(array.dtype) in "iu")


def with_others_averaged(
    record: ArrayRecord, models: Sequence[ArrayRecord], weights: np.ndarray
) -> ArrayRecord:
    """Return the record with the arrays beside the floating ones averaged, if clients changed them.

    Counters are rounded to whole numbers again, and a truth value is that of more than half of the
    weight. An array that not all clients send in its shape stays as it is.
    """
    total = float(weights.sum())
    for name, array in record.items():
        if _kind(array.dtype) not in "iubc" or not total > 0.0:
            continue
        kept, told = array.numpy(), [_decoded(model, name) for model in models]
        usable = [v for v in told if v is not None and v.shape == kept.shape]
        if len(usable) < len(told) or all(np.array_equal(values, kept) for values in usable):
            continue
        mean = sum(v * (w / total) for v, w in zip(usable, weights.tolist(), strict=True))
        record[name] = Array(_like(np.asarray(mean), kept.dtype))
    return record


def _decoded(model: ArrayRecord, name: str) -> np.ndarray | None:
    """Return an array of finite numbers, or None and a line in the log."""
    if name not in model:
        return None
    try:
        values = np.asarray(model[name].numpy())
    except Exception as error:
        log(WARNING, "array %r stays as it is, for a client's cannot be decoded: %s", name, error)
        return None
    return values if values.dtype.kind in "iubfc" and np.isfinite(values).all() else None


def _like(mean: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "b":
        return np.asarray(mean > 0.5)
    return np.asarray((np.rint(mean.real) if dtype.kind in "iu" else mean).astype(dtype))


def _zeros_like_most(models: Sequence[ArrayRecord]) -> ArrayRecord:
    """Return zeros in the layout that most models have; the first of two alike."""
    layouts = [Layout.of(model) for model in models]
    zeros = ArrayRecord()
    for layout, _ in Counter(layouts).most_common(1):
        for name, array in models[layouts.index(layout)].items():
            zeros[name] = Array(np.zeros(array.shape, array.dtype))
    return zeros


def _kind(dtype: str) -> str:
    """Return NumPy's letter for a kind of numbers: f, i, u, b, c; ? for what it does not know."""
    try:
        return np.dtype(dtype).kind
    except TypeError:
        return "?"
