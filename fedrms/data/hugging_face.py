"""Data sets of the library `datasets` as arrow tables: what they show, and nothing they hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedrms.errors import ConfigError


def is_hugging_face(given: Any) -> bool:
    """Say whether something is a data set of `datasets`, or its stream."""
    return hasattr(given, "with_format") and hasattr(given, "features")


def gives_items(given: Any) -> bool:
    """Say whether a data set makes its items when they are read, by a transform."""
    return _format(given).get("type") == "custom"


def as_table(given: Any) -> Any:
    """Return the arrow table of a data set: the columns that its format shows, pictures with bytes.

    Refused are streams, and items or pictures that are made or converted when they are read.
    """
    import pyarrow as pa

    if not hasattr(given, "__len__") or not hasattr(given, "data"):
        raise ConfigError(
            "data",
            f"is a {type(given).__name__}, which is read as a stream",
            "datasets.Dataset.from_list(list(dataset)) holds its rows",
        )
    shown = _format(given)
    if gives_items(given):
        raise ConfigError(
            "data",
            "has a transform, which makes items when they are read and no table",
            "use from_datasets, or apply it once: dataset.map(...)",
        )
    for name, feature in given.features.items():
        if getattr(feature, "mode", None) and hasattr(feature, "decode"):
            raise ConfigError(
                "data",
                f"column {name!r} holds pictures that are to be read as mode {feature.mode!r}",
                "convert the pictures themselves, by dataset.map(...), and leave mode away",
            )
    columns = given.column_names if shown.get("output_all_columns") else shown.get("columns")
    table = given.with_format("arrow", columns=columns)[:]
    if any(hasattr(feature, "decode") for feature in given.features.values()):
        from datasets.table import embed_table_storage

        table = embed_table_storage(table)
    for place, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):  # Array2D and its like are lists in lists
            column = table.column(place).cast(field.type.storage_type)
            table = table.set_column(place, field.with_type(column.type), column)
    return table


def _format(given: Any) -> Mapping[str, Any]:
    shown = getattr(given, "format", None)
    return shown if isinstance(shown, Mapping) else {}
