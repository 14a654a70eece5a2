"""Turn feature columns into numbers: as they are, one-hot by category, or lists of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.feature_columns import Chosen, Kind
from fedrms.errors import ConfigError

LARGEST = float(np.finfo(np.float32).max)
ROUNDED = 0.01
"""The largest share of a column's deviation that rounding to 32 bits may take."""

SOME_ROWS = 10_000
"""Rows that rounding is measured on."""

FAR = 1e4
"""A column this many deviations from 0 is moved to 0 before it is rounded to 32 bits."""


@dataclass(frozen=True)
class Encoded:
    """A training and, if there is one, a test table as numbers."""

    x: list[NDArray[np.float64]]
    """``[rows, *shape]`` one a table. A list column that is the only feature keeps its shape."""
    one_hot: dict[str, int]  # columns that became one column a category, and how many
    imputed: dict[str, int]  # columns whose missing training values were filled, and how many
    warnings: list[str]  # categories that only the test table has


def encode(
    chosen: Chosen,
    tables: Sequence[Any],
    impute: str | None,
    categories: Mapping[str, Sequence[str]],
) -> Encoded:
    """Encode the features of a training table and of a test table like it.

    Categories (but where a person names them) and medians are those of the training table. A
    missing category is none of them. Values that are missing, infinite or too large, lists of other
    lengths and other types in the test table are refused.
    """
    refuse_gaps(chosen, tables, impute)
    one_hot: dict[str, int] = {}
    imputed: dict[str, int] = {}
    warnings: list[str] = []
    parts: list[list[NDArray[np.float64]]] = [[] for _ in tables]
    for name, kind in chosen.kinds.items():
        columns = [table.column(name) for table in tables]
        if kind == "category":
            known = list(categories.get(name, categories_of(columns[0])))
            strange = sorted(set(categories_of(columns[0])) - set(known))
            if strange:
                raise ConfigError(
                    f"data.categories.{name}",
                    f"a value is {strange[0]!r}, which is not among them",
                    "name all categories",
                )
            one_hot[name] = len(known)
            blocks = [_one_hot(column, known) for column in columns]
            for column in columns[1:]:
                new = sorted(set(categories_of(column)) - set(known))
                if new:
                    told = ", ".join(map(repr, new[:3])) + (", ..." if len(new) > 3 else "")
                    warnings.append(
                        f"column {name!r} of the test set has categories that training has not "
                        f"({told}): their rows belong to none"
                    )
        else:
            blocks = [_numbers(name, kind, column) for column in columns]
            if blocks[0].shape[1:] != blocks[-1].shape[1:]:
                raise ConfigError(
                    "data.feature_columns",
                    f"lists of column {name!r} have shape {list(blocks[0].shape[1:])} in training "
                    f"and {list(blocks[-1].shape[1:])} in the test set",
                    "make them alike",
                )
        gaps = int(columns[0].null_count) or int(
            np.isnan(blocks[0]).any(axis=tuple(range(1, blocks[0].ndim))).sum()
        )
        if impute:
            if gaps:
                imputed[name] = gaps
            if kind != "category":
                _fill(blocks)
        for part, block in zip(parts, blocks, strict=True):
            part.append(block)
    return Encoded([_joined(part) for part in parts], one_hot, imputed, warnings)


def _joined(blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    if len(blocks) == 1 and blocks[0].ndim > 1:
        return blocks[0]
    return np.concatenate([block.reshape(len(block), -1) for block in blocks], axis=1)


def _fill(blocks: list[NDArray[np.float64]]) -> None:
    """Put the training median where a number is missing."""
    with np.errstate(all="ignore"):
        middle = np.nanmedian(blocks[0], axis=0)
    for block in blocks:
        np.copyto(block, np.nan_to_num(middle), where=np.isnan(block))


def refuse_gaps(chosen: Chosen, tables: Sequence[Any], impute: str | None) -> None:
    """Refuse missing, infinite and too large numbers; all columns in one message."""
    for place, table in enumerate(tables):
        told = []
        for name, kind in chosen.kinds.items():
            column = table.column(name)
            missing, infinite, large = column.null_count, 0, 0
            if kind == "number":
                values = _floats(name, column)
                missing = int(np.count_nonzero(np.isnan(values)))
                infinite = int(np.count_nonzero(np.isinf(values)))
                large = int(np.count_nonzero(np.abs(values) > LARGEST)) - infinite
            words = [
                f"{count} {word}"
                for count, word in (
                    (0 if impute else missing, "missing"),
                    (infinite, "infinite"),
                    (large, "too large"),
                )
                if count
            ]
            if words:
                told.append(f"column {name!r} has {' and '.join(words)} values")
        if told:
            more = f"; {len(told) - 5} more columns have some" if len(told) > 5 else ""
            raise ConfigError(
                "data",
                f"{'; '.join(told[:5])}{more}, in {len(table)} {'test' if place else 'training'} "
                "rows",
                "fill or drop them first, leave columns out by data.drop_columns, or set "
                "data.impute=median for missing values",
            )


def categories_of(column: Any) -> list[str]:
    """Return the different values of a column as sorted text, without the missing one."""
    return sorted({str(v) for v in decoded(column).unique().to_pylist() if v is not None})


def decoded(column: Any) -> Any:
    """Return a column with its values in place of numbers of a dictionary."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _one_hot(column: Any, known: list[str]) -> NDArray[np.float64]:
    column = decoded(column)
    place = {category: number for number, category in enumerate(known)}
    codes = np.array(
        [place.get(str(value), -1) if value is not None else -1 for value in column.to_pylist()]
    )
    hot: NDArray[np.float64] = (codes[:, None] == np.arange(len(known))).astype(np.float64)
    return hot


def _floats(name: str, column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    try:
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        return np.array(column.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError, pa.ArrowInvalid) as fault:
        told = f"column {name!r} is numeric in training and {column.type} in the test set"
        raise ConfigError("data", told, "make them alike") from fault


def list_shape(column: Any) -> tuple[int, ...] | str:
    """Return the shape that all lists of a column have, or what is wrong with them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape: list[int] = []
    values = column.combine_chunks()
    while (
        pa.types.is_list(values.type)
        or pa.types.is_large_list(values.type)
        or pa.types.is_fixed_size_list(values.type)
    ):
        if values.null_count:
            return "lists, some of which are missing"
        lengths = pc.list_value_length(values).unique().to_pylist()
        if len(lengths) > 1:
            return f"lists of different lengths ({min(lengths)} to {max(lengths)})"
        shape.append(int(lengths[0]) if lengths else 0)
        values = values.flatten()
    return tuple(shape) if shape and min(shape) > 0 else "empty lists"


def _numbers(name: str, kind: Kind, column: Any) -> NDArray[np.float64]:
    if kind == "number":
        return _floats(name, column)
    shape = list_shape(column)
    if isinstance(shape, str):
        raise ConfigError(
            "data.feature_columns",
            f"column {name!r} holds {shape}",
            "make them alike, or leave it out",
        )
    values = column.combine_chunks()
    for _ in shape:
        values = values.flatten()
    if values.null_count:
        raise ConfigError(
            "data", f"lists of column {name!r} hold {values.null_count} missing values", "fill them"
        )
    numbers = _floats(name, values)
    if not np.all(np.isfinite(numbers)):
        raise ConfigError(
            "data", f"lists of column {name!r} hold missing or infinite values", "fill them first"
        )
    return numbers.reshape(len(column), *shape)


def refuse_rounded(x: NDArray[Any]) -> None:
    """Refuse inputs ``[rows, ...]`` that are too large for 32 bits, or whose differences are.

    That is where rounding takes more than a hundredth of a column's deviation.
    """
    if x.dtype != np.float64 or not len(x):
        return
    told = "numbers are too large for 32 bits" if np.abs(x).max() > LARGEST else ""
    if not told:
        some = x[:SOME_ROWS].reshape(min(len(x), SOME_ROWS), -1)
        lost, spread = np.abs(some.astype(np.float32) - some).max(axis=0), some.std(axis=0)
        odd = np.flatnonzero((lost > ROUNDED * spread) & (np.ptp(some, axis=0) > 0))
        if len(odd):
            column = some[:, odd[0]]
            told = (
                f"some lie closer together than 32 bits can tell: around {column.mean():.6g}, with "
                f"a deviation of {column.std():.3g}"
            )
    if told:
        raise ConfigError(
            "data", f"of the inputs {told}", "give them another unit, or subtract their mean first"
        )


def centred(x: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Move columns that are far from 0 beside their spread, which 32 bits would round away."""
    if not len(x[0]):
        return x
    mean, std = x[0].mean(axis=0), x[0].std(axis=0)
    far = (np.abs(mean) > FAR * std) & (x[0].min(axis=0) < x[0].max(axis=0))
    return [part - np.where(far, mean, 0.0) for part in x] if far.any() else x
