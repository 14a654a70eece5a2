"""FedNoRo's aggregation: noisy clients by distance (Wu et al. 2023, arXiv:2305.05230)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, float64

from fedrms.combining.gram import gram
from fedrms.combining.row_blocks import Stack
from fedrms.options import whole
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.statistic import BY_CLASS
from fedrms.weighting.weighting import UNSCALED, Weighted, Weighting

FITS = 9
"""Mixtures that vote on who is noisy, as in the authors' code."""


def noisy_clients(losses: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` who is noisy, by a mixture of two Gaussians on losses by class.

    Mean losses ``[clients, classes]`` of each class are brought to [0, 1] over clients; who holds
    none of a class, NaN, counts as the best of those who do. The noisy component is the one with
    the larger mean, summed over classes. Of :data:`FITS` mixtures with different seeds the most
    frequent answer counts.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    losses = np.where(np.isfinite(losses), losses, np.nan)
    held = losses[:, ~np.isnan(losses).all(axis=0)]
    if len(losses) < 2 or not held.size:
        return np.zeros(len(losses), dtype=bool)
    best, worst = np.nanmin(held, axis=0), np.nanmax(held, axis=0)
    apart = worst > best
    if not apart.any():
        return np.zeros(len(losses), dtype=bool)
    held, best, worst = held[:, apart], best[apart], worst[apart]
    features = (np.where(np.isnan(held), best, held) - best) / (worst - best)
    votes: Counter[bytes] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(FITS):
            mixture = GaussianMixture(n_components=2, random_state=seed).fit(features)
            noisy = mixture.predict(features) == mixture.means_.sum(axis=1).argmax()
            votes[noisy.tobytes()] += 1
    return np.frombuffer(votes.most_common(1)[0][0], dtype=bool)


def distance_scale(parameters: Stack, noisy: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` exp(-D), D each noisy client's relative distance to the clean ones.

    d_k is the L2 distance of a noisy client's model to the nearest clean one, 0 for clean clients,
    and D_k = d_k / max d. Everyone's scale is 1 where all are clean or all noisy.
    """
    if noisy.all() or not noisy.any():
        return np.ones(len(noisy))
    parameters = parameters.to("cpu")
    products = gram(parameters, parameters[0].clone(), float64)
    squares = np.diagonal(products)
    apart = squares[noisy][:, None] + squares[~noisy] - 2.0 * products[noisy][:, ~noisy]
    distance = np.zeros(len(noisy))
    distance[noisy] = np.sqrt(np.maximum(apart, 0.0)).min(axis=1)
    largest = distance.max()
    return np.exp(-distance / largest) if largest > 0.0 else np.ones(len(noisy))


class FedNoRo(Weighting):
    """Find the noisy clients once, and weigh them down by their distance to the clean ones.

    Stage 1 is FedAvg for ``stage_one`` rounds. Then clients report the losses of the received
    model by class, :func:`noisy_clients` parts them, and stage 2 averages with the weights
    ``n_k exp(-D_k)`` (DaAgg, :func:`distance_scale`).

    Parameters
    ----------
    stage_one : int (default: 5)
        Rounds before clients are parted.
    num_classes : int, optional
        Classes whose losses clients report; the simulator sets it. Without it, as in
        regression, and from clients that report no losses by class, the mean loss is used alone.

    Notes
    -----
    This is the aggregation, not the whole of FedNoRo: its stage 2 also trains noisy clients by
    distillation from the global model with a ramped-up weight, and all clients on
    logit-adjusted losses. Both are local training and are left out, so that every strategy here
    trains clients alike.

    The paper has all clients take part. Of a client that is absent when the clients are parted,
    the latest loss from stage 1 counts; once a client is heard for the first time later, they
    are parted anew with its loss added. The distance is that of whole models; the authors' code
    adds up the distances of single tensors.
    """

    needs = ("loss-mean",)
    decides = UNSCALED

    def __init__(self, *, stage_one: int = 5, num_classes: int | None = None) -> None:
        whole("strategy.stage_one", stage_one, 0)
        self.stage_one = stage_one
        self._classes = num_classes or 0
        self.asks = {"statistic": "incoming", "class-losses": self._classes}
        self._losses: dict[ClientId, list[float]] = {}
        self._noisy: dict[ClientId, bool] = {}

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by the distance to clean clients."""
        for client, losses in zip(cohort.clients, self._read_losses(cohort), strict=True):
            if client not in self._noisy:
                self._losses[client] = losses
        scale = np.ones(len(cohort.clients))
        if server_round > self.stage_one:
            if any(client not in self._noisy for client in cohort.clients):
                parted = noisy_clients(np.array(list(self._losses.values()))).tolist()
                self._noisy = dict(zip(self._losses, parted, strict=True))
            noisy = np.array([self._noisy[client] for client in cohort.clients])
            scale = distance_scale(cohort.parameters, noisy)
        return Weighted(cohort, scale)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        return {"losses": dict(self._losses), "noisy": dict(self._noisy)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._losses, self._noisy = dict(state["losses"]), dict(state["noisy"])

    def _read_losses(self, cohort: Cohort) -> list[list[float]]:
        """Return ``[cohort, classes]`` losses by class, or ``[cohort, 1]`` mean losses."""
        told = cohort.metrics.get(BY_CLASS["mean"].key)
        if told is None or not self._classes:
            told = cohort.metrics["loss-mean"][:, None]
        losses: list[list[float]] = told[:, : max(self._classes, 1)].tolist()
        return losses
