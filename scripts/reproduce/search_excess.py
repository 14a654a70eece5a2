"""Variants of the default law `excess`, one part of it changed in each.

Research variants for ``search_default``: what each is for, and how it did, is told on
docs/results/search.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedrms import FedRMS
from fedrms.replies.class_losses import ClassLosses
from fedrms.replies.client_index import ClientId
from fedrms.weighting.excess import UNKNOWN, Evidence, Updates
from fedrms.weighting.excess_scaler import Belief, ExcessScaler

FIXED_EPS = 0.05
LOW, RIDGE, STEPS = 0.25, 0.1, 20
"""Of the learned hardness: the expectile, the ridge in clients, the most iterations."""


class RatioScaler(ExcessScaler):
    """Observed over expected loss in place of the excess in units of the chance loss."""

    def measure(
        self, clients: Sequence[ClientId], losses: ClassLosses, updates: Updates = UNKNOWN
    ) -> Evidence:
        """Return the evidence without the chance loss: the unit is then the expected loss."""
        return super().measure(clients, replace(losses, chance=None), updates)


class FixedEpsScaler(ExcessScaler):
    """The same eps in every cohort and at every misfit."""

    def _knee(self, belief: Belief, examples: np.ndarray, misfit: np.ndarray) -> float:
        return FIXED_EPS


class MeanReferenceScaler(ExcessScaler):
    """What a clean client loses on a class is the trust-weighted mean, not a low quantile."""

    def measure(
        self, clients: Sequence[ClientId], losses: ClassLosses, updates: Updates = UNKNOWN
    ) -> Evidence:
        """Compare each client with the mean over clients, weighted by trust times examples."""
        weights = self._trust(self.averages.find(clients))[:, None] * losses.count
        reference = (weights * losses.mean).sum(0) / np.maximum(weights.sum(0), 1e-300)
        return against(losses, losses.count @ reference)


class LearnedHardnessScaler(ExcessScaler):
    """Noise is what is left of a client's mean loss after its class mix has explained it."""

    def measure(
        self, clients: Sequence[ClientId], losses: ClassLosses, updates: Updates = UNKNOWN
    ) -> Evidence:
        """Fit every client's loss from its class mix, and compare it with the fit."""
        examples = losses.count.sum(axis=1)
        observed = (losses.count * losses.mean).sum(axis=1) / examples
        return against(
            losses, examples * expected_by_mix(losses.count / examples[:, None], observed)
        )


def expected_by_mix(mix: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` the loss that a client's class mix predicts, from clients' means alone.

    The 25 % expectile of the mean loss, linear in the class mix, by asymmetric least squares
    (Newey and Powell 1987) with a ridge towards one loss for all classes: noise lies above the
    line, so the line is to lie low.

    Parameters
    ----------
    mix : np.ndarray
        ``[clients, classes]`` shares of the classes, each row of sum 1.
    observed : np.ndarray
        ``[clients]`` mean losses.
    """
    level, by_class = float(np.quantile(observed, LOW)), np.zeros(mix.shape[1])
    above = np.zeros(len(observed), bool)
    for _ in range(STEPS):
        weight = np.where(above, LOW, 1.0 - LOW)
        level = float(weight @ (observed - mix @ by_class) / weight.sum())
        moment = mix.T @ (weight[:, None] * mix) + RIDGE * np.eye(mix.shape[1])
        by_class = np.linalg.solve(moment, mix.T @ (weight * (observed - level)))
        before, above = above, observed > level + mix @ by_class
        if (before == above).all():
            break
    return np.asarray(np.maximum(level + mix @ by_class, 0.0))


def against(losses: ClassLosses, expected: np.ndarray) -> Evidence:
    """Return the evidence for ``[clients]`` expected losses (sums), in units of the chance loss."""
    count = losses.count
    examples, observed = count.sum(axis=1), (count * losses.mean).sum(axis=1)
    assert losses.chance is not None
    by_class = (count * losses.chance).sum(axis=0) / np.maximum(count.sum(axis=0), 1.0)
    unit = np.maximum(count @ by_class, np.finfo(np.float64).tiny)
    error = np.sqrt((count * losses.variance).sum(axis=1)) / unit
    level = max(float(expected.sum() / examples.sum()), 1e-300)
    hardness = np.maximum(expected / examples / level, 1e-3)
    share, misfit = (observed - expected) / unit, expected / unit
    return Evidence.of_losses_alone(share, error, misfit, hardness, observed > 0)


class Excess(FedRMS):
    """FedRMS with one of the scalers above: ``ratio``, ``fixed_eps``, ``mean_reference`` or
    ``learned_hardness``.
    """

    SCALERS = {  # noqa: RUF012
        "ratio": RatioScaler,
        "fixed_eps": FixedEpsScaler,
        "mean_reference": MeanReferenceScaler,
        "learned_hardness": LearnedHardnessScaler,
    }

    def __init__(self, *, variant: str, num_classes: int | None = None, **options: Any) -> None:
        super().__init__(num_classes=num_classes, **options)
        self.estimate.scaler = self.SCALERS[variant]()
