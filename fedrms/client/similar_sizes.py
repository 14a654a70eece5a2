"""Group clients of similar size, so that arrays padded to the largest are not mostly padding."""

from __future__ import annotations

import numpy as np

WORTH_IT = 1 << 16
"""Cells of a padded array up to which one pass over all of it is cheaper than several."""


def similar_sizes(sizes: np.ndarray) -> list[np.ndarray]:
    """Return groups of positions whose sizes lie within a factor of two of each other.

    Every position is in one; there is a single group where padding costs little.
    """
    if len(sizes) * int(sizes.max(initial=1)) <= WORTH_IT:
        return [np.arange(len(sizes))]
    power = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    return [np.flatnonzero(power == size) for size in np.unique(power)]
