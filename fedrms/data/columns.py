"""Turn table columns into arrays: labels, targets, features, client ids."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Task
from fedrms.errors import ConfigError

LABEL_NAMES = ("label", "target", "y")


def find_label(schema: Any, wanted: str | None) -> str:
    """Return the label column: the one asked for, else the first of the usual names."""
    if wanted is not None:
        return require(schema, wanted, "data.label_column")
    for name in LABEL_NAMES:
        if name in schema.names:
            return name
    raise ConfigError(
        "data.label_column",
        f"no column is named {' or '.join(LABEL_NAMES)}; there are: {', '.join(schema.names)}",
        "set data.label_column to the column to predict",
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


def find_features(schema: Any, wanted: list[str] | None, others: set[str]) -> list[str]:
    """Return the feature columns: those asked for, else every numeric one not in `others`."""
    import pyarrow as pa

    def numeric(name: str) -> bool:
        kind = schema.field(name).type
        return bool(
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        )

    if wanted is None:
        found = [name for name in schema.names if name not in others and numeric(name)]
    else:
        found = [require(schema, name, "data.feature_columns") for name in wanted]
        for name in found:
            if not numeric(name):
                raise ConfigError(
                    "data.feature_columns",
                    f"column {name!r} is {schema.field(name).type}, not numeric",
                    "encode it as numbers, or leave it out",
                )
    if not found:
        raise ConfigError(
            "data.feature_columns", "there is no numeric column to learn from", "name some"
        )
    return found


def require(schema: Any, name: str, key: str) -> str:
    """Return `name` if the table has that column."""
    if name not in schema.names:
        raise ConfigError(
            key, f"there is no column {name!r}", f"choose from {', '.join(schema.names)}"
        )
    return name


def declared_classes(schema: Any, label: str) -> tuple[str, ...] | None:
    """Return the class names in the Hugging Face schema metadata, where there are any."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(described["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def complete(table: Any, name: str) -> Any:
    """Return a column as one numpy-friendly array; refuse missing values."""
    import pyarrow as pa

    column = table.column(name)
    if column.null_count:
        raise _missing(name, column.null_count)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def as_floats(table: Any, name: str) -> NDArray[np.float64]:
    """Return a numeric column as float64 ``[rows]``; refuse missing and infinite values."""
    column = complete(table, name)
    try:
        values = np.asarray(column.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise ConfigError("data", f"column {name!r} is not numeric", "encode it") from fault
    gaps = int(np.count_nonzero(~np.isfinite(values)))
    if gaps:
        raise _missing(name, gaps)
    return values


def as_ids(table: Any, name: str) -> NDArray[Any]:
    """Return a client-id column, ``[rows]``, as integers or strings."""
    values = complete(table, require(table.schema, name, "data.client_column")).to_numpy()
    return values.astype(str) if values.dtype == object else np.asarray(values)


def resolve_task(kind: Any, wanted: str) -> Task:
    """Return the task: the one asked for, or regression exactly for floating-point labels."""
    import pyarrow as pa

    if wanted == "auto":
        return "regression" if pa.types.is_floating(kind) else "classification"
    return "regression" if wanted == "regression" else "classification"


def classes(
    tables: list[Any],
    label: str,
    declared: tuple[str, ...] | None,
    named: tuple[str, ...] | None = None,
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return the labels of each table as 0, 1, ..., and the class names in that order.

    Integer labels with declared names are taken as they are; any other labels are
    numbered in sorted order over all the tables. Where the person names the classes, labels
    are numbered in that order, whether all of them occur or not.
    """
    columns = []
    for table in tables:
        values = complete(table, label).to_numpy()
        columns.append(values.astype(str) if values.dtype == object else values)
    everything = np.concatenate(columns)
    if everything.dtype.kind == "f" and not np.array_equal(everything, np.rint(everything)):
        raise ConfigError(
            "data.task",
            f"column {label!r} holds fractions or gaps, which cannot be classes",
            "set data.task=regression, or name another data.label_column",
        )
    if named is not None:
        return [_numbered(column, declared, named) for column in columns], named
    if declared and everything.dtype.kind in "iu":
        if everything.size and not 0 <= everything.min() <= everything.max() < len(declared):
            raise ConfigError(
                "data.label_column",
                f"labels run from {everything.min()} to {everything.max()}, but "
                f"{len(declared)} classes are declared",
                "use labelled examples only (0 to the number of classes less one)",
            )
        return [column.astype(np.int64) for column in columns], declared
    values = np.unique(everything)
    names = tuple(f"{v:g}" if values.dtype.kind == "f" else str(v) for v in values)
    return [np.searchsorted(values, column).astype(np.int64) for column in columns], names


def _numbered(
    column: NDArray[Any], declared: tuple[str, ...] | None, named: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the place of each label, or of its declared name, in the list of classes."""
    place = {name: number for number, name in enumerate(named)}
    values, inverse = np.unique(column, return_inverse=True)
    numbers = []
    for value in values:
        name = f"{value:g}" if values.dtype.kind == "f" else str(value)
        if declared and values.dtype.kind in "iu" and 0 <= value < len(declared):
            name = declared[value]
        if name not in place:
            raise ConfigError(
                "data.classes", f"a label is {name!r}, which is not among them", "name all classes"
            )
        numbers.append(place[name])
    return np.array(numbers, np.int64)[inverse]


def _missing(name: str, count: int) -> ConfigError:
    return ConfigError(
        "data", f"column {name!r} has {count} missing or infinite values", "fill or drop them first"
    )
