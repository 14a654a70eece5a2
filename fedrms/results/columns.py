"""The columns of the two tables of a run, and how given values become them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fedrms.results.arrow_arrays import booleans, numbers, texts, values_of
from fedrms.statistic import DECIDED, MOMENTS

_FLOATS_BEFORE_METRIC: Final = (
    *(each.column for each in MOMENTS.values() if each.column is not None),
    *(*DECIDED, "objective_share", "update_norm"),
)

_TEXTS: Final = {"domain": pa.string()}
"""Columns of text that not every run has."""


def round_schema(metric: str, extras: tuple[str, ...]) -> pa.Schema:
    """Columns of ``rounds.parquet``; `extras` are the further numbers, by name."""
    floats = dict.fromkeys((f"test_{metric}", "test_loss", "seconds", *extras))
    return pa.schema([("round", pa.int32()), *((name, pa.float64()) for name in floats)])


@functools.lru_cache(maxsize=64)
def client_schema(metric: str, identity: pa.DataType, extras: tuple[str, ...]) -> pa.Schema:
    """Columns of ``clients.parquet``; `identity` is the type of the client ids."""
    return pa.schema(
        [
            ("round", pa.int32()),
            ("client", identity),
            ("num_examples", pa.int64()),
            *((name, pa.float64()) for name in _FLOATS_BEFORE_METRIC),
            (f"test_{metric}", pa.float64()),
            ("true_noise", pa.float64()),
            ("adversary", pa.bool_()),
            ("failed", pa.bool_()),
            ("failure", pa.string()),
            ("participated", pa.bool_()),
            *((name, _TEXTS.get(name, pa.float64())) for name in extras),
        ]
    )


def client_ids(values: Any) -> pa.Array:
    """Client ids as int64 if all are integers, as strings otherwise."""
    ids = np.asarray(values)
    if ids.dtype.kind in "iu" or (
        ids.dtype.kind == "O" and all(isinstance(i, (int, np.integer)) for i in ids)
    ):
        return numbers(ids, pa.int64())
    if ids.dtype.kind not in "OUT":
        raise ValueError(f"client: ids must be integers or strings, not {ids.dtype}")
    return texts([str(i) for i in ids])


def round_row(row: Mapping[str, Any]) -> dict[str, float]:
    """One round's numbers, checked."""
    if "round" not in row:
        raise ValueError(f"round: missing from the round's row, which has {sorted(row)}")
    checked: dict[str, float] = {}
    for name, value in row.items():
        try:
            if name == "round":
                checked[name] = int(value)
            else:
                checked[name] = float("nan") if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: {value!r} is not a number") from None
    return checked


def round_table(rows: list[dict[str, float]], schema: pa.Schema) -> pa.Table:
    """Rows of rounds as a table; what a row lacks is NaN."""
    nan = float("nan")
    columns = [
        numbers(np.array([row.get(field.name, nan) for row in rows]), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def client_table(columns: Mapping[str, Any], metric: str) -> pa.Table:
    """One round's client rows, in the order of the client ids; what is missing is filled in.

    Floats become NaN, ``num_examples`` 0, ``adversary`` and ``failed`` false, ``failure`` null and
    ``participated`` true. Columns beyond the known ones are kept as float64 (``domain`` as text),
    at the end.
    """
    for name in ("round", "client"):
        if name not in columns:
            raise ValueError(f"{name}: missing from the clients' columns, {sorted(columns)}")
    ids = client_ids(columns["client"])
    count = len(ids)
    known = frozenset(client_schema(metric, ids.type, ()).names)  # Arrow makes the list anew
    extras = tuple(name for name in columns if name not in known)
    told = np.array(ids.to_pylist(), object) if pa.types.is_string(ids.type) else values_of(ids)
    in_order = bool((told[1:] >= told[:-1]).all())
    order = slice(None) if in_order else np.argsort(told, kind="stable")
    arrays = []
    schema = client_schema(metric, ids.type, extras)
    for field in schema:
        if field.name == "client":
            arrays.append(ids if in_order else client_ids(told[order]))
            continue
        value = columns[field.name] if field.name in columns else _default(field)
        if value is None:
            arrays.append(pa.nulls(count, field.type))
            continue
        given = np.asarray(value)
        if given.ndim == 0:
            given = np.broadcast_to(given, (count,))
        if given.shape != (count,):
            raise ValueError(
                f"{field.name}: shape {given.shape}, but there are {count} clients in this round"
            )
        try:
            arrays.append(_convert(given[order], field.type))
        except (TypeError, ValueError):
            raise ValueError(f"{field.name}: not convertible to {field.type}") from None
    return pa.Table.from_arrays(arrays, schema=schema)


def _default(field: pa.Field) -> object:
    if field.name == "participated":
        return True
    if pa.types.is_boolean(field.type):
        return False
    if pa.types.is_string(field.type):
        return None
    return 0 if pa.types.is_integer(field.type) else float("nan")


def _convert(values: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return texts([str(v) if v is not None and v == v and v != "" else None for v in values])
    if pa.types.is_boolean(kind):
        return booleans(values)
    floats = values.astype(np.float64) if values.dtype.kind not in "iu" else values
    if pa.types.is_integer(kind):
        whole = np.nan_to_num(floats, nan=0.0) if floats.dtype.kind == "f" else floats
        return numbers(whole, kind)
    return numbers(floats, kind)
