"""Clients that report nothing of their losses: named, and weighed as FedAvg does, or left out."""

from __future__ import annotations

from logging import INFO, WARNING

import numpy as np

from fedrms.errors import ConfigError
from fedrms.flower_log import log
from fedrms.options import few
from fedrms.replies.cohort import Cohort, no_losses

NAMED = 20
"""Most clients named in a line of the log."""

BY_CLASS = "metrics.update(fedrms.class_losses(scores, labels))"
BY_MOMENT = "metrics.update(fedrms.loss_moments(losses))"


class Missing:
    """Say whose evidence is missing, once as long as it stays the same.

    Losses by class are read first (``by_class``), or else the metric ``key`` of a moment.
    ``require`` leaves out who reports neither.
    """

    def __init__(self, key: str, *, by_class: bool, require: bool) -> None:
        self._key = key
        self._what = "class losses" if by_class else f"{key!r}"
        self._remedy = BY_CLASS if by_class else BY_MOMENT
        self._require = require
        self._said = ""

    def check(self, cohort: Cohort, by_class: np.ndarray, *, ever: bool) -> Cohort:
        """Return the cohort without those whose evidence cannot be, or must be and is not there.

        Who reports losses by class, ``by_class`` ``[cohort]``, is not asked for moments. If
        evidence is required and nobody ever reported any, that is a `ConfigError`.
        """
        if by_class.all():
            return cohort
        moments = known_moments(cohort, self._key)
        silent = ~by_class & np.isnan(moments)
        reasons = no_losses(cohort, self._key, np.where(by_class | silent, 0.0, moments))
        if self._require:
            if silent.all() and not ever:
                raise ConfigError(
                    "strategy.require_evidence",
                    f"it is set, and no client reports {self._what}",
                    f"add {self._remedy} to the client's training",
                )
            for row in np.flatnonzero(silent):
                reasons[cohort.clients[row]] = f"it reports no {self._what}"
        else:
            self._tell(cohort, by_class, silent)
        return cohort.without(reasons)

    def _tell(self, cohort: Cohort, by_class: np.ndarray, silent: np.ndarray) -> None:
        told = by_class if self._what == "class losses" else ~silent
        missing = [str(cohort.clients[row]) for row in np.flatnonzero(~told)]
        names = few(missing, NAMED)
        text = f"{told.sum()} of {len(told)} clients report {self._what}; missing: {names}."
        moments = int((~told & ~silent).sum())
        if moments:
            text += f" {moments} of them are weighed by moments of their losses."
        if silent.any():
            text += f" {'Those' if not moments else 'The others'} weigh as in FedAvg."
        if not told.any() and silent.any():
            text += f" For more, add {self._remedy} to the client's training."
        if missing and text != self._said:
            log(WARNING if silent.any() else INFO, "%s", text)
        self._said = text


def known_moments(cohort: Cohort, key: str) -> np.ndarray:
    """Return ``[cohort]`` a moment of clients' losses, NaN where it is not reported."""
    nothing = np.full(len(cohort.clients), np.nan)
    return np.asarray(cohort.metrics.get(key, nothing), dtype=np.float64)
