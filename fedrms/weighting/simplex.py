"""The projection on the simplex, where mixtures of clients live."""

from __future__ import annotations

import numpy as np


def project_on_simplex(point: np.ndarray, total: float = 1.0) -> np.ndarray:
    """Return the nearest point whose coordinates are 0 or more and sum to ``total``.

    One number is subtracted from every coordinate and what falls below 0 is set to 0; the
    number follows from the sorted coordinates (Duchi et al. 2008, "Efficient projections onto
    the l1-ball for learning in high dimensions", figure 1).

    Parameters
    ----------
    point : np.ndarray
        ``[n]``, n at least 1, finite.
    total : float
        The sum, 0 or more.
    """
    falling = np.sort(point)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(point) + 1)
    kept = np.flatnonzero(falling > excess)
    threshold = excess[kept[-1]] if kept.size else falling[0]  # nothing is kept of a total of 0
    return np.asarray(np.maximum(point - threshold, 0.0))
