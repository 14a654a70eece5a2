"""Labels that people gave: a column of another file, row for row as the training set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.errors import ConfigError


def read_labels(path: Any, column: str, rows: int, num_classes: int) -> NDArray[np.int64]:
    """Read a column of a Parquet file, whole numbers from 0, as the training labels ``[rows]``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path is None:
        raise ConfigError("noise.path", "is not set", "name a Parquet file with labels")
    try:
        schema = pq.read_schema(path)
        if column not in schema.names:
            raise ConfigError(
                "noise.column",
                f"{path} has no column {column!r}",
                f"choose one of {', '.join(schema.names)}",
            )
        values = pq.read_table(path, columns=[column])[column]
    except (OSError, pa.ArrowInvalid) as fault:
        raise ConfigError("noise.path", str(fault), "name a Parquet file with labels") from fault
    if len(values) != rows:
        raise ConfigError(
            "noise.path",
            f"{path} has {len(values)} rows, and the training set {rows}",
            "give a label for each row of the training set, in its order",
        )
    if not pa.types.is_integer(values.type) or values.null_count:
        raise ConfigError(
            "noise.column",
            f"{column!r} holds {values.type}, {values.null_count} of them missing",
            "name one of whole numbers, classes from 0, without gaps",
        )
    labels: NDArray[np.int64] = values.to_numpy().astype(np.int64)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ConfigError(
            "noise.column",
            f"{column!r} has labels from {labels.min()} to {labels.max()}",
            f"name one with classes from 0 to {num_classes - 1}",
        )
    return labels
