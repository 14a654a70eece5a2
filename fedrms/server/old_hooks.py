"""Methods of subclasses by which FedRMS was told who counts how much, kept for one release.

``FedRMS(weighting=...)`` is the way now (:mod:`fedrms.weighting.weighting`).
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.replies.cohort import Cohort
from fedrms.weighting.client_scaler import Scales
from fedrms.weighting.weighting import Weighted

INSTEAD = {
    "scale": "make a fedrms.weighting.Weighting: FedRMS(weighting=...)",
    "weigh": "make a fedrms.weighting.Weighting: FedRMS(weighting=...)",
    "combine": "give it to the strategy: FedRMS(combine=function), or as the rule of a Weighting",
}


class OldHooks:
    """Let subclasses that define ``scale`` or ``weigh`` weigh as they did."""

    aggregation: Aggregation
    _found: Weighted

    def __init_subclass__(cls, **options: Any) -> None:
        """Say what takes the place of a subclass's methods; refuse ``combine``."""
        super().__init_subclass__(**options)
        for name, instead in INSTEAD.items():
            if cls.__module__ == "fedrms.server.strategy" or name not in vars(cls):
                continue
            if name == "combine":
                raise TypeError(f"{cls.__name__}.{name} is not called any more: {instead}")
            told = f"{cls.__name__}.{name} will not be called for ever: {instead}"
            warnings.warn(told, DeprecationWarning, stacklevel=2)

    def scale(self, server_round: int, cohort: Cohort, statistic: np.ndarray) -> Scales:
        """Return the cohort's scales."""
        columns = self._found.columns
        return Scales(columns["ema"], columns["rms"], self._found.scale, columns.get("rms_error"))

    def weigh(self, cohort: Cohort, received: Tensor, scale: np.ndarray) -> np.ndarray:
        """Return ``[cohort]`` the weight of each update in the combined one."""
        return self.aggregation.weights(cohort.examples, scale)

    def _hooked(self, server_round: int, weighted: Weighted, received: Tensor) -> Weighted:
        """Return what a subclass's methods make of the weights, or the weights themselves."""
        kind, cohort = type(self), weighted.cohort
        if kind.scale is not OldHooks.scale:
            self._found = weighted
            made = self.scale(server_round, cohort, weighted.columns["statistic"])
            columns = {**weighted.columns, "ema": made.ema, "rms": made.rms}
            weighted = replace(weighted, scale=made.scale, columns=columns)
        if kind.weigh is not OldHooks.weigh:
            weights = self.weigh(cohort, received, weighted.scale)
            weighted = replace(weighted, weights=np.asarray(weights))
        return weighted
