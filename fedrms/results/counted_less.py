"""Who had less weight than its share of the examples when a run ended, a line a client."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fedrms.results.recorder import CLIENTS_FILE

LESS = 0.9
"""Part of its share below which a client counts less."""
NAMED = 10
COLUMNS = ("round", "client", "num_examples", "weight", "rms", "rms_low", "rms_high")


def counted_less(folder: Path) -> list[str]:
    """Return whom the last round gave less than nine tenths of its share, least first."""
    rows = _last_round(folder / CLIENTS_FILE)
    there = [row for row in rows if row.get("weight") is not None]
    examples = sum(row["num_examples"] for row in there)
    less = []
    for row in there:
        share = row["num_examples"] / examples
        if row["weight"] < LESS * share:
            told = f"; noise {row['rms']:.2f}" if _known(row, "rms") else ""
            if _known(row, "rms_high"):
                told += f", {row['rms_low']:.2f} to {row['rms_high']:.2f}"
            line = f"  {row['client']}: {row['weight']:.1%} for {share:.1%} of the rows{told}"
            less.append((row["weight"] / share, line))
    lines = [line for _, line in sorted(less)]
    more = [f"  and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    head = "weight in the last round, of clients that count less than their share:"
    return [head, *lines[:NAMED], *more] if less else []


def _last_round(path: Path) -> list[dict[str, Any]]:
    """Return the clients' rows of the last round alone, for there may be millions before it."""
    if not path.is_file():
        return []
    with pq.ParquetFile(path) as file:
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        groups = file.num_row_groups
        newest = file.read_row_group(groups - 1, ["round"])["round"].to_pylist() if groups else []
    if not newest:
        return []
    rows = pq.read_table(path, columns=names, filters=[("round", "=", max(newest))])
    return list(rows.to_pylist())


def _known(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    return value is not None and math.isfinite(value)
