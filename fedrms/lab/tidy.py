"""Read a tidy table: numbers by what they belong to, and slopes of what grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def values(rows: pd.DataFrame, *keys: str, how: str = "median") -> dict[Any, float]:
    """Return the column ``value`` by the values of one or more other columns.

    With several keys those of what is returned are tuples. ``how`` says what is made of several
    rows of the same keys, such as seeds: ``median``, ``mean``, ``min``, ``max``.
    """
    grouped = rows.groupby(list(keys), sort=False)["value"].agg(how)
    return {key: float(value) for key, value in grouped.items()}


def slope(by: Mapping[Any, float]) -> float:
    """Return the slope of log value over log key, where values are finite; nan below two."""
    points = [(float(key), value) for key, value in by.items() if np.isfinite(value)]
    if len(points) < 2:
        return float("nan")
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])
