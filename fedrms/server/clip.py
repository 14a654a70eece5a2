"""Bound how far any one client can pull, before its update is scaled."""

from __future__ import annotations

import numpy as np


def clip_factors(
    norms: np.ndarray, *, largest: float | None, times_median: float | None
) -> np.ndarray:
    """Return ``[clients]`` factors in (0, 1] that bring update norms under the limits.

    Parameters
    ----------
    norms : np.ndarray
        ``[clients]`` L2 norms of the updates.
    largest : float, optional
        An absolute limit.
    times_median : float, optional
        A limit relative to the cohort's median norm, which one liar cannot move far.
    """
    limit = np.inf if largest is None else largest
    if times_median is not None:
        limit = min(limit, times_median * float(np.median(norms)))
    over = norms > limit
    return np.asarray(np.divide(limit, norms, out=np.ones_like(norms), where=over))
