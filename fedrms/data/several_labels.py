"""Several numbers to predict in each row: yes-or-no labels side by side, or regression targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data import labels
from fedrms.data.columns import require
from fedrms.data.dataset import Task
from fedrms.data.feature_columns import kind_of
from fedrms.data.feature_values import list_shape
from fedrms.errors import ConfigError
from fedrms.label_names import LABEL_NAMES

KEY = "data.label_column"
TRUTH = "data.true_label_column"


def several(schema: Any, wanted: Any, key: str = KEY) -> list[str] | None:
    """Return the label columns where there are several numbers a row; None for a single one.

    `key` is what the columns are configured by. One that is absent or named twice is refused.
    """
    if isinstance(wanted, list | tuple):
        names = [str(name) for name in wanted]
        if not names or len(set(names)) < len(names):
            raise ConfigError(key, f"is {names}", "name different columns")
        for name in names:
            require(schema, name, key)
        return names if len(names) > 1 or _is_list(schema, names[0]) else None
    usual = (name for name in LABEL_NAMES if name in schema.names)
    name = str(wanted) if wanted is not None else next(usual, "")
    return [name] if name in schema.names and _is_list(schema, name) else None


def targets(
    tables: Sequence[Any], names: Sequence[str], wanted: str
) -> tuple[Task, list[NDArray[np.float32]], list[str]]:
    """Return the task, the targets ``[rows, targets]`` of each table, and what is odd.

    Labels are yes or no where every value is 0 or 1 (or true or false), and a person does not say
    otherwise; else they are numbers.
    """
    parts = [np.concatenate([_numbers(table, name) for name in names], axis=1) for table in tables]
    if parts[0].shape[1:] != parts[-1].shape[1:]:
        raise ConfigError(KEY, "has lists of another length in the test set", "make them alike")
    binary = all(np.isin(part, (0.0, 1.0)).all() for part in parts)
    if wanted in ("classification", "multilabel") and not binary:
        raise ConfigError(
            "data.task",
            "several labels are learned as yes or no each, and some values are neither 0 nor 1",
            "write them as 0 and 1, or set data.task=regression",
        )
    if wanted == "regression" or not binary:
        return "regression", parts, []
    told, train = [], parts[0]
    if train.shape[1] > 1 and (train.sum(1) == 1).all():
        told.append(
            "each row has exactly one label: where these are classes that exclude each other, give "
            "one column with the class"
        )
    tested = parts[-1].any(0)
    if lacking := [str(place) for place in np.flatnonzero(train.any(0) & ~tested)]:
        told.append(f"the test set has no row with label {', '.join(lacking)} (counted from 0)")
    return "multilabel", parts, told


def truths(
    tables: Sequence[Any], wanted: Any, found: Sequence[NDArray[np.float32]], task: Task
) -> list[NDArray[np.float32] | None]:
    """Return what several labels should be ``[rows, targets]``; None for a table that lacks it."""
    count = found[0].shape[1]
    names = several(tables[0].schema, wanted, TRUTH)
    told: list[NDArray[np.float32] | None] = []
    for table in tables:
        if names is None or not set(names) <= set(table.column_names):
            told.append(None)
            continue
        told.append(np.concatenate([_numbers(table, name) for name in names], axis=1))
    first = told[0]
    if first is None or first.shape[1] != count:
        have = 1 if first is None else first.shape[1]
        raise ConfigError(
            TRUTH, f"says {have} of {count} labels", "name as many columns, in the same order"
        )
    known = [part for part in told if part is not None]
    if task == "multilabel" and not all(np.isin(part, (0.0, 1.0)).all() for part in known):
        raise ConfigError(TRUTH, "has values that are neither 0 nor 1", "write them as 0 and 1")
    return told


def _is_list(schema: Any, name: str) -> bool:
    return kind_of(schema.field(name).type)[0] == "list"


def _numbers(table: Any, name: str) -> NDArray[np.float32]:
    column = table.column(name)
    if _is_list(table.schema, name):
        shape = list_shape(column)
        if isinstance(shape, str) or len(shape) != 1:
            told = shape if isinstance(shape, str) else f"lists of shape {list(shape)}"
            raise ConfigError(KEY, f"column {name!r} holds {told}", "give lists of one length")
        flat = column.combine_chunks().flatten()
        if flat.null_count:
            raise ConfigError(KEY, f"lists of column {name!r} hold missing values", "fill them")
        values = flat.to_numpy(zero_copy_only=False)
        return labels.targets_of([values], name)[0].reshape(len(column), -1)
    return labels.targets_of([labels.values_of(table, name)], name)[0][:, None]
