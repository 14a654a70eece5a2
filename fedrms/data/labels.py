"""Turn the column to predict into classes or targets, and say what is odd about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.columns import require
from fedrms.data.dataset import Task
from fedrms.data.feature_columns import kind_of
from fedrms.data.feature_values import LARGEST, decoded
from fedrms.errors import ConfigError
from fedrms.label_names import LABEL_NAMES
from fedrms.options import few

FEW_VALUES = 20
"""Fractional labels with at most so many whole values look like classes."""


def find_label(schema: Any, wanted: str | None) -> str:
    """Return the label column: the one asked for, else the first of the usual names.

    It is refused where it holds what is neither a class nor a number.
    """
    if wanted is None:
        wanted = next((name for name in LABEL_NAMES if name in schema.names), None)
    if wanted is None:
        raise ConfigError(
            "data.label_column",
            f"no column is named {' or '.join(LABEL_NAMES)}; there are: {', '.join(schema.names)}",
            "set data.label_column to the column to predict",
        )
    kind, why = kind_of(schema.field(require(schema, wanted, "data.label_column")).type)
    if kind == "list":
        why = f"lists ({schema.field(wanted).type})"
    if kind in (None, "list"):
        raise ConfigError(
            "data.label_column",
            f"labels in column {wanted!r} are {why}",
            "name a column with one class or one number in each row",
        )
    return wanted


def declared_classes(schema: Any, label: str) -> tuple[str, ...] | None:
    """Return the class names in the Hugging Face schema metadata, where there are any."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(described["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def refuse_other_classes(schema: Any, label: str, declared: tuple[str, ...] | None) -> None:
    """Refuse numbers that stand for other class names than those of the training labels."""
    given = declared_classes(schema, label)
    if declared and given and given != declared:
        raise ConfigError(
            "data.label_column",
            f"numbers in {label!r} stand for {', '.join(given[:5])} in one place and for "
            f"{', '.join(declared[:5])} in another",
            "bring them to one order: dataset.align_labels_with_mapping(mapping, column)",
        )


def resolve_task(kind: Any, wanted: str) -> Task:
    """Return the task: the one asked for, or regression exactly for labels with fractions."""
    import pyarrow as pa

    if wanted == "auto":
        fractions = pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale > 0)
        return "regression" if fractions else "classification"
    return "regression" if wanted == "regression" else "classification"


def targets_of(columns: Sequence[NDArray[Any]], label: str) -> list[NDArray[np.float32]]:
    """Return columns of finite numbers as regression targets."""
    targets = []
    for column in columns:
        try:
            values = np.array(column, dtype=np.float64)
        except (TypeError, ValueError) as fault:
            raise ConfigError(
                "data",
                f"column {label!r} is not numeric",
                "encode it, or set data.task=classification",
            ) from fault
        gaps = int(np.count_nonzero(~(np.abs(values) <= LARGEST)))
        if gaps:
            raise _missing(label, gaps, len(values))
        targets.append(values.astype(np.float32))
    return targets


def classes_of(
    columns: Sequence[NDArray[Any]],
    label: str,
    declared: tuple[str, ...] | None,
    named: tuple[str, ...] | None = None,
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Return columns of labels as 0, 1, ..., and the class names in that order.

    Integer labels with declared names are taken as they are; any other labels are
    numbered in sorted order over all the columns. Where the person names the classes, labels
    are numbered in that order, whether all of them occur or not.
    """
    if any(column.dtype == object for column in columns):
        columns = [np.array([str(v) for v in column.tolist()]) for column in columns]
    everything = np.concatenate(columns)
    if everything.dtype.kind == "f" and not np.array_equal(everything, np.rint(everything)):
        gaps = int(np.count_nonzero(np.isnan(everything)))
        if gaps:
            raise _missing(label, gaps, len(everything))
        raise ConfigError(
            "data.task",
            f"column {label!r} holds fractions, which cannot be classes",
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
    names = tuple(f"{v:.17g}" if values.dtype.kind == "f" else str(v) for v in values)
    return [np.searchsorted(values, column).astype(np.int64) for column in columns], names


def values_of(table: Any, label: str) -> NDArray[Any]:
    """Return a column of labels; refuse gaps."""
    column = table.column(label)
    if column.null_count:
        raise _missing(label, column.null_count, len(column))
    return _plain(column)


def known_values(table: Any, name: str) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return which rows of a column have a value, and the values of these rows."""
    column = table.column(name)
    known = np.asarray(column.is_valid().to_numpy(), np.bool_)
    values = _plain(column.drop_null())
    if values.dtype.kind == "f" and np.isnan(values).any():
        real = ~np.isnan(values)
        known[known] = real
        values = values[real]
    return known, values


def _plain(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    column = decoded(column)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64() if column.type.scale > 0 else pa.int64())
    return np.asarray(column.to_numpy())


def _numbered(
    column: NDArray[Any], declared: tuple[str, ...] | None, named: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the place of each label, or of its declared name, in the list of classes."""
    place = {name: number for number, name in enumerate(named)}
    values, inverse = np.unique(column, return_inverse=True)
    numbers = []
    for value in values:
        name = f"{value:.17g}" if values.dtype.kind == "f" else str(value)
        if declared and values.dtype.kind in "iu" and 0 <= value < len(declared):
            name = declared[value]
        if name not in place:
            raise ConfigError(
                "data.classes", f"a label is {name!r}, which is not among them", "name all classes"
            )
        numbers.append(place[name])
    return np.array(numbers, np.int64)[inverse]


def refuse_ids(label: str, y: NDArray[np.int64]) -> None:
    """Refuse labels of which each row has another."""
    counts = np.bincount(y)
    held = int(np.count_nonzero(counts))
    if held > 2 and counts.max() == 1:
        raise ConfigError(
            "data.label_column",
            f"{held} classes have one example each, nothing to hold out: is {label!r} an id?",
            "name the column to predict; data.task=regression if these are amounts",
        )


def oddities(
    label: str, train: NDArray[Any], test: NDArray[Any], class_names: tuple[str, ...] | None
) -> list[str]:
    """Return what a person should know of the labels ``[rows]``, a sentence each.

    Without ``class_names`` they are regression targets. Sets without a class in common are refused.
    """
    if class_names is None:
        values = np.unique(train)
        if len(values) == 1 and len(train) > 1:
            return [f"every {label!r} is {values[0]:g}: there is nothing to learn"]
        if len(values) <= FEW_VALUES and np.array_equal(values, np.rint(values)):
            return [
                f"{label!r} has {len(values)} whole values and is learned as a regression, for "
                "they are stored as fractions; data.task=classification for classes"
            ]
        return []
    counts = [np.bincount(part, minlength=len(class_names)) for part in (train, test)]
    said = []
    lacking = [name for name, n, m in zip(class_names, *counts, strict=True) if n and not m]
    if lacking:
        said.append(
            f"the test set has no row of class {few(lacking, 5)}: scores say nothing about it"
        )
    unseen = [name for name, n, m in zip(class_names, *counts, strict=True) if m and not n]
    if len(test) and not any(counts[0][counts[1] > 0]):
        raise ConfigError(
            "data",
            f"no label of the test set ({few(unseen, 5)}) is one of training ({few(lacking, 5)})",
            "write them alike in both",
        )
    if unseen:
        said.append(f"class {few(unseen, 5)} is tested and in no training row")
    return said


def _missing(name: str, count: int, rows: int) -> ConfigError:
    return ConfigError(
        "data",
        f"column {name!r} has {count} missing or infinite values in {rows} rows",
        "fill or drop them first",
    )
