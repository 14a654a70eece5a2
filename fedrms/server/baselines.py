"""The baselines by the names that they had as strategies, kept for one release.

``TERM(t=-2.0, seed=1)`` is ``FedRMS(weighting=fedrms.weighting.TERM(t=-2.0), seed=1)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fedrms import weighting
from fedrms.server.strategy import FedRMS
from fedrms.server.weighed_by import weighed_by

BASELINES = (
    *("AFL", "ARFL", "DGA", "FedNoRo", "Oracle", "PrecisionWeighted", "QFFL", "TERM"),
    "TieredTERM",
)


def __getattr__(name: str) -> Callable[..., FedRMS]:
    """Return what makes the strategy of a baseline."""
    if name not in BASELINES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(weighed_by, getattr(weighting, name))
