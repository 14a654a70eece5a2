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


def weighted_quantiles(
    values: np.ndarray, weights: np.ndarray, quantile: float, order: np.ndarray | None = None
) -> np.ndarray:
    """Return a quantile over clients for each class: ``[classes]`` of ``[clients, classes]``.

    The smallest value at which the weight up to it reaches ``quantile``, in (0, 1], of all; 0 for a
    class without weight. ``order`` is ``values.argsort(axis=0)``, where it is known.
    """
    order = values.argsort(axis=0) if order is None else order
    gathered = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    enough = gathered >= quantile * gathered[-1] * (1 - 1e-12)
    first = np.take_along_axis(order, enough.argmax(axis=0)[None], axis=0)
    found = np.take_along_axis(values, first, axis=0)[0]
    return np.where(gathered[-1] > 0, found, 0.0)
