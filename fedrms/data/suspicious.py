"""Columns that look like no feature: numbers of rows, ids, copies of the label, constant text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.feature_columns import Chosen, Kind
from fedrms.data.feature_values import categories_of, decoded, list_shape

FEWEST_ROWS = 10
"""In a shorter table everything looks like everything."""

MOST_CATEGORIES = 50
"""Texts with more different values are left aside: names, notes, ids."""

INDEX = re.compile(r"(?i:index|idx|level_\d+|row|row_?(id|nr|no|num|number))", re.ASCII)
ROW_NUMBER = re.compile(rf"{INDEX.pattern}|(?i:nr|no|id|.*_id)|.*I[dD]", re.ASCII)
GAPS = 4
"""Numbers of rows are dense: of so many times as many some rows at most were taken out."""
ID = re.compile(r"(id|uuid|guid|.*[_ ](id|uuid|key|nr)|.*[a-z]I[dD])")
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?")
OF_A_TRUTH = {"true", "truth", "clean", "gold", "real", "right", "original", "correct", "noisy"}
"""What a column is called that holds another version of the label: true_label, label_clean."""

USE_IT = "data.feature_columns takes it all the same"


def set_aside(
    chosen: Chosen,
    table: Any,
    label: str,
    target: NDArray[Any],
    categories: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Chosen, list[str]]:
    """Leave aside what looks like no feature, unless a person named it, and say what to look at.

    ``target`` ``[rows]`` is classes as 0, 1, ..., or numbers; ``categories`` name all categories of
    the only text columns that can be learned from.
    """
    aside = dict(chosen.aside)
    kinds: dict[str, Kind] = {}
    warnings = []
    for name, kind in chosen.kinds.items():
        column = table.column(name)
        tells = _tells_the_label(name, kind, column, label, target)
        unnamed = kind == "category" and categories is not None and name not in categories
        why = tells or ("text, without data.categories" if unnamed else None)
        if why is None and not (categories and name in categories) and not chosen.asked:
            why = _no_feature(name, kind, column)
        if tells and chosen.asked:
            warnings.append(f"column {name!r} is learned from, and is {tells}")
        elif tells:
            warnings.append(
                f"column {name!r} is left aside: it is {tells}. If it says what the label should "
                f"be: data.true_label_column={name}; if it is a feature: {USE_IT}"
            )
        if why is None or chosen.asked:
            kinds[name] = kind
        else:
            aside[name] = why
        strange = _among_numbers(column) if kind == "category" else None
        if strange is not None:
            warnings.append(
                f"column {name!r} is text because of {strange!r} among its numbers: make that "
                "missing (data=csv: data.null_values), or a number"
            )
        elif kind == "category" and _all_numbers(column):
            warnings.append(
                f"column {name!r} is text, and all of it reads as numbers: make it one "
                "(pandas.to_numeric, or read_csv with decimal=',')"
            )
        if name in kinds and not chosen.asked and kind != "list" and ID.fullmatch(name):
            warnings.append(
                f"column {name!r} is learned from, and its name is that of an id; "
                f"data.drop_columns=[{name}] leaves it aside"
            )
    return replace(chosen, kinds=kinds, aside=aside), warnings


def _no_feature(name: str, kind: Kind, column: Any) -> str | None:
    import pyarrow as pa

    if column.null_count == len(column) and len(column):
        return "empty in all rows"
    if kind == "list":
        shape = list_shape(column)
        return None if isinstance(shape, tuple) else shape
    if kind == "category":
        count = len(categories_of(column))
        if count > MOST_CATEGORIES or count == len(column) > 1:
            return f"text with {count} different values"
        return "the same in all rows" if count == 1 and column.null_count == 0 else None
    whole = pa.types.is_integer(column.type)
    named = ROW_NUMBER.fullmatch(name) and pa.types.is_floating(column.type)
    if (whole or named) and len(column) >= FEWEST_ROWS and not column.null_count:
        return _counts_rows(name, column.to_numpy())
    return None


def _counts_rows(name: str, numbers: NDArray[Any]) -> str | None:
    """Say how numbers are those of rows: other ones in each, rising with gaps, or begun anew."""
    values, steps = np.unique(numbers), np.diff(np.asarray(numbers, np.float64))
    width = float(values[-1]) - float(values[0])
    if not width < np.inf or not np.array_equal(values, np.rint(values)):
        return None
    if len(values) == len(numbers):
        if width == len(values) - 1 or ROW_NUMBER.fullmatch(name):
            return "another number in each row"
        if width < GAPS * len(values) and ((steps > 0).all() or (steps < 0).all()):
            return "numbers of rows in order, with gaps"
    elif INDEX.fullmatch(name) and (steps <= 0).mean() < 1 / FEWEST_ROWS:
        return "numbers of rows, begun anew"
    return None


def _all_numbers(column: Any) -> bool:
    """Say whether a column of text holds numbers alone, more of them than codes of a few kinds."""
    values = categories_of(column)[:1000]
    numbers = (NUMBER.fullmatch(value.strip().rstrip("%")) for value in values)
    return len(values) > FEWEST_ROWS and all(numbers)


def _among_numbers(column: Any) -> str | None:
    """Return a value that is no number in a column of text where most are."""
    values = categories_of(column)[:1000]
    strange = [value for value in values if not NUMBER.fullmatch(value.strip())]
    return strange[0] if strange and len(strange) < len(values) / 2 else None


def _tells_the_label(
    name: str, kind: Kind, column: Any, label: str, target: NDArray[Any]
) -> str | None:
    """Say how a column gives the label away, if it does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = set(re.split(r"[_\W]+", name.lower().replace(label.lower(), " "))) - {""}
    if label.lower() in name.lower() and words and words <= OF_A_TRUTH:
        return f"another version of {label!r}, by its name"
    if kind == "list" or len(target) < FEWEST_ROWS or column.null_count:
        return None
    if target.dtype.kind == "f":
        if kind == "number" and np.array_equal(
            np.asarray(column.to_numpy(), np.float64).astype(np.float32), target
        ):
            return f"the same as {label!r}"
        return None
    classes = len(np.unique(target))
    column, head = decoded(column), min(len(target), 1000)
    if pa.types.is_floating(column.type) and np.isnan(column.to_numpy()).any():
        return None
    if (
        not 2 <= classes <= len(target) // 2
        or pc.count_distinct(column.slice(0, head)).as_py() > classes
    ):
        return None
    if pc.count_distinct(column).as_py() != classes:
        return None
    values = column.combine_chunks().dictionary_encode()
    values = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    codes = values.indices.to_numpy(zero_copy_only=False)
    pairs = len(
        np.unique(codes.astype(np.int64) * classes + np.unique(target, return_inverse=True)[1])
    )
    return (
        f"{label!r} in other words: each of its values goes with one" if pairs == classes else None
    )
