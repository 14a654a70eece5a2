"""Columns of a table that are neither features nor labels: pictures and owners."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.feature_values import decoded
from fedrms.errors import ConfigError

AS_UTF8 = (
    "save it as UTF-8, or use Federation.from_frame(pandas.read_csv(path, encoding='latin-1'))"
)


def find_image(schema: Any, wanted: str | None) -> str | None:
    """Return the image column: the one asked for, else the first struct that holds bytes."""
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        return pa.types.is_struct(kind) and any(field.name == "bytes" for field in kind)

    if wanted is not None:
        kind = schema.field(require(schema, wanted, "data.image_column")).type
        if holds_bytes(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return wanted
        raise ConfigError(
            "data.image_column",
            f"column {wanted!r} is {kind}, not encoded pictures",
            "name a column of image bytes",
        )
    return next((field.name for field in schema if holds_bytes(field.type)), None)


def require(schema: Any, name: str, key: str) -> str:
    """Return `name` if the table has that column."""
    if name not in schema.names:
        raise ConfigError(
            key, f"there is no column {name!r}", f"choose from {', '.join(schema.names)}"
        )
    return name


def refuse_twins(schema: Any, origin: str) -> None:
    """Refuse a table that has two columns of one name, or names that are no text."""
    try:
        names = schema.names
    except UnicodeDecodeError as fault:
        raise ConfigError(
            "data.path", f"names of columns of {origin} are no UTF-8 text", AS_UTF8
        ) from fault
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise ConfigError(
            "data.path",
            f"column {twins[0]!r} occurs {names.count(twins[0])} times in {origin}",
            "give each column a name of its own",
        )


def without_views(schema: Any) -> Any:
    """Return a schema with text and lists in place of views of them, which few functions take."""
    import pyarrow as pa

    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    for place, field in enumerate(schema):
        kind = plain.get(field.type, field.type)
        if kind is not field.type:
            schema = schema.set(place, field.with_type(kind))
    return schema


def as_ids(table: Any, name: str, key: str = "data.client_column") -> NDArray[Any]:
    """Return a column of ids, ``[rows]``, as integers or strings."""
    import pyarrow as pa

    column = decoded(table.column(require(table.schema, name, key)))
    if column.null_count:
        raise ConfigError(
            key,
            f"{column.null_count} of {len(column)} rows have no {name!r}",
            "say whose they are, or leave them out",
        )
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        try:
            column = column.cast(pa.string())
        except pa.ArrowInvalid as fault:
            raise ConfigError(
                key, f"column {name!r} holds bytes that are no UTF-8 text", AS_UTF8
            ) from fault
    values = np.asarray(column.to_numpy())
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        return values.astype(np.int64)  # what pandas makes of whole numbers beside a gap
    return values if values.dtype.kind in "iu" else values.astype(str)
