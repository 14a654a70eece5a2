"""Quantiles of many numbers that are already in order: two of them are read, none is moved.

Numbers are those of ``np.quantile`` and ``np.median``, to the bit.
"""

from __future__ import annotations

import numpy as np


def ascending(values: np.ndarray) -> np.ndarray:
    """Return the values in ascending order, NaN last; the very array if they are."""
    return values if bool((values[:-1] <= values[1:]).all()) else np.sort(values)


def quantile(ordered: np.ndarray, share: float) -> float:
    """Return a quantile of ordered numbers, with linear interpolation as ``np.quantile``."""
    position = (len(ordered) - 1) * share
    below = int(np.floor(position))
    return float(np.quantile(ordered[below : below + 2], position - below))


def median(ordered: np.ndarray) -> float:
    """Return the median of ordered numbers; NaN if any is."""
    if not len(ordered) or np.isnan(ordered[-1]):
        return float("nan")
    return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2.0
