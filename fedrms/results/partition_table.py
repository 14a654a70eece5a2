"""Who holds what, as a table of the run: ``partition.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedrms.results.arrow_arrays import booleans, numbers, texts
from fedrms.results.columns import client_ids
from fedrms.results.seal import write_table

PARTITION_FILE: Final = "partition.parquet"


def write_partition(
    folder: Path,
    counts: NDArray[Any],
    rare: NDArray[np.bool_],
    class_names: Sequence[str] | None = None,
    names: NDArray[Any] | None = None,
) -> Path:
    """Write how many training examples of each class each client holds, before any noise.

    From counts ``[clients, classes]``, one column where there are no classes. The table has
    ``client``, ``class`` (null where there are none), ``examples`` and ``rare``, a row a client and
    class that it holds.
    """
    client, kind = np.nonzero(counts)
    single = counts.shape[1] == 1
    called = list(class_names or map(str, range(counts.shape[1])))
    columns = {
        "client": client_ids(client if names is None else names[client]),
        "class": texts([None if single else called[k] for k in kind]),
        "examples": numbers(counts[client, kind], pa.int64()),
        "rare": booleans(np.asarray(rare, bool)[client]),
    }
    table = pa.Table.from_arrays(list(columns.values()), list(columns))
    return write_table(folder / PARTITION_FILE, table)
