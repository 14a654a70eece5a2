"""How wide the range of good clipping thresholds is.

A threshold is good if training with it keeps nine tenths of the best drop in loss. A part of
:mod:`fedrms.lab.clipping`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

CHANCE = math.log(10)


KEPT = 0.9
"""Share of the best drop in loss that a good threshold keeps."""


@dataclass(frozen=True)
class Range:
    """The good thresholds of an optimizer."""

    lr: float  # the step size with the best threshold
    best: float
    spread: float
    """Its loss, the median over seeds, and the standard deviation over them."""
    decades: float
    """Width of the good range around the best threshold; no clipping counts as the place after the
    largest threshold."""
    unclipped: float  # loss without clipping at this step size
    bound: float  # the largest good loss
    share: float  # good pairs of step size and threshold
    widths: tuple[float, ...]  # decades at every step size, the widest first


def good_range(rows: pd.DataFrame) -> Range:
    """Return the good thresholds of the rows of one optimizer."""
    median = rows.pivot_table(index="lr", columns="threshold", values="value", aggfunc="median")
    spread = rows.groupby(["lr", "threshold"])["value"].std()
    grid = median.to_numpy()
    lr, place = np.unravel_index(np.nanargmin(grid), grid.shape)
    best = float(grid[lr].min())
    bound = best + (1 - KEPT) * max(0.0, CHANCE - best)
    finite = np.log10(median.columns[:-1].to_numpy(float))
    places = np.append(finite, 2 * finite[-1] - finite[-2])
    widths = [_width(row, row <= bound, places) for row in grid]
    return Range(
        float(median.index.to_numpy()[lr]),
        best,
        float(spread.to_numpy().reshape(grid.shape)[lr, place]),
        widths[lr],
        float(grid[lr, -1]),
        bound,
        float((grid <= bound).mean()),
        tuple(sorted(widths, reverse=True)),
    )


def _width(losses: np.ndarray, good: np.ndarray, places: np.ndarray) -> float:
    """Return how far the good places reach on both sides of the best, 0 if it is not good."""
    at = int(losses.argmin())
    if not good[at]:
        return 0.0
    low, high = at, at
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(good) - 1 and good[high + 1]:
        high += 1
    return float(places[high] - places[low])
