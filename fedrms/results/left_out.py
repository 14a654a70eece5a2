"""What was measured of a run without a client, and of that client alone: ``left_out.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from fedrms.results.columns import client_ids
from fedrms.results.seal import write_table

LEFT_OUT_FILE: Final = "left_out.parquet"
NUMBERS: Final = ("final", "final_without", "lost", "alone", "together")


@dataclass(frozen=True)
class LeftOut:
    """How a federation does without one of its clients, and how that one does alone."""

    client: str  # its name, or number
    final: float
    final_without: float
    """The final metric with it and without it."""
    lost: float  # how much worse that is without it; below 0 where it is better
    alone: float
    together: float
    """The client's final score on test rows of its own, by the model it trains alone and by the
    federation's; NaN where it has no such rows."""


def write_left_out(folder: Path, metric: str, rows: Sequence[LeftOut]) -> Path:
    """Write a row a client: its name, the metric, and the numbers of `LeftOut`."""
    table = pa.table(
        {
            "client": client_ids(np.array([row.client for row in rows])),
            "metric": pa.array([metric] * len(rows), pa.string()),
            **{key: pa.array([getattr(row, key) for row in rows], pa.float64()) for key in NUMBERS},
        }
    )
    return write_table(folder / LEFT_OUT_FILE, table)
