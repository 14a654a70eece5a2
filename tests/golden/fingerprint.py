"""What a run gave, in a few numbers: enough to see that anything at all has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

TABLES = ("rounds", "clients")
CLOCKS = ("seconds",)
"""Columns that tell the time."""
ROUNDING = 1e-4
"""How far the numbers of another processor may be, in parts of a column's size.

Vector instructions of AVX-512, and none at all, differ by up to 4e-6.
"""
COUNTS = ("accuracy", "client_", "auroc", "spearman", "protection")
"""Parts of the names of columns that count examples or ranks."""
COUNTED = 0.02
"""The same for these: rounding can let one test example change sides."""
LEAST = 1e-7
"""Differences that are nothing, whatever the size."""


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what identifies the weights and tables in a run's folder, as plain values.

    A column of numbers is told by its size (root mean square), its mean and its product with a
    wave, which sees an exchange of two rows; one of integers, texts or marks by a digest.
    """
    return {
        "weights": {
            f"{name} {list(values.shape)}": _numbers(values.ravel())
            for name, values in sorted(load_file(folder / "model.safetensors").items())
        },
        **{table: _table(pd.read_parquet(folder / f"{table}.parquet")) for table in TABLES},
    }


def _table(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "rows": len(table),
        **{
            str(name): _numbers(column.to_numpy(float))
            if pd.api.types.is_float_dtype(column.dtype)
            else _digest(column)
            for name, column in table.items()
            if name not in CLOCKS
        },
    }


def _digest(column: pd.Series[Any]) -> str:
    return hashlib.sha256(repr(column.tolist()).encode()).hexdigest()[:16]


def _numbers(values: np.ndarray) -> list[float]:
    """Return size, mean and wave of those that are finite, and how many are not."""
    known = np.isfinite(values)
    there = np.where(known, values, 0.0).astype(np.float64)
    count = max(int(known.sum()), 1)
    wave = np.cos(1.3 * np.arange(len(there)) + 0.4)
    size = np.sqrt(there @ there / count)
    found = (size, there.sum() / count, there @ wave / np.sqrt(count))
    return [*(float(f"{value:.7g}") for value in found), int((~known).sum())]


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield each part that is not the same to rounding, in words."""
    for part in ("weights", *TABLES):
        before, after = expected[part], found[part]
        if before.keys() != after.keys():
            yield f"{part}: {sorted(before.keys() ^ after.keys())} are in one of the two alone"
        for name in before.keys() & after.keys():
            if not _alike(name, before[name], after[name]):
                yield f"{part}, {name}: {after[name]} in place of {before[name]}"


def _alike(name: str, before: Any, after: Any) -> bool:
    if not isinstance(before, list) or not isinstance(after, list) or before[-1] != after[-1]:
        return bool(before == after)
    share = COUNTED if any(word in name for word in COUNTS) else ROUNDING
    allowed = share * before[0] + LEAST
    return all(abs(x - y) <= allowed for x, y in zip(before, after, strict=True))
