"""Laws on two moments of a client's losses while it trains, and on clients' updates alone.

Research variants for ``search_default``: what each is for, and how it did, is told on
docs/results/search.md.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms import FedRMS
from fedrms.combining.gram import gram
from fedrms.replies.cohort import Cohort
from fedrms.weighting.client_averages import ClientAverages
from fedrms.weighting.weighting import Weighted, Weighting

CLEAN = 0.25
"""Quantile over clients that stands for a clean one."""
DECAY = 0.9


def above_population(rms: np.ndarray, known: np.ndarray, *, eps: float = 1.0) -> np.ndarray:
    """Scale by the second moment above that of the cohort's best clients.

    ``eps q^2 / (eps q^2 + max(0, r^2 - q^2))`` with q the lower quartile of r: what even clean
    clients lose, the misfit, is taken off, so that r is of noise alone.
    """
    level = float(np.quantile(known, CLEAN)) ** 2
    excess = np.maximum(np.square(rms) - level, 0.0)
    if level == 0.0:
        return np.where(excess > 0.0, 0.0, 1.0)
    return np.asarray(eps * level / (eps * level + excess))


def mixture_posterior(rms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Scale by the probability of being clean, in a mixture of two Gaussians on log r.

    Everyone counts in full where one Gaussian explains log r as well, by Schwarz's criterion
    (BIC), and so does who lies below the clean component's mean.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    tiny = np.finfo(np.float64).tiny
    everyone, own = (np.log(np.maximum(r, tiny))[:, None] for r in (known, rms))
    if len(everyone) < 4:
        return np.ones(len(rms))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (
            GaussianMixture(parts, reg_covar=1e-4, random_state=0).fit(everyone) for parts in (1, 2)
        )
    if one.bic(everyone) <= two.bic(everyone):
        return np.ones(len(rms))
    clean = int(two.means_[:, 0].argmin())
    posterior = two.predict_proba(own)[:, clean]
    return np.where(own[:, 0] <= two.means_[clean, 0], 1.0, posterior)


def between_variance(values: np.ndarray, errors: np.ndarray) -> float:
    """Return tau^2, the variance between clients beyond their standard errors.

    The moment estimate of DerSimonian and Laird (1986):
    ``max(0, (Q - (K - 1)) / (sum w - sum w^2 / sum w))`` with ``w = 1 / errors^2`` and Q the
    weighted sum of squares about the weighted mean.

    Parameters
    ----------
    values, errors : np.ndarray
        ``[clients]`` estimates and their standard errors, above 0.
    """
    weight = 1.0 / np.square(errors)
    centre = weight @ values / weight.sum()
    spread = weight @ np.square(values - centre) - (len(values) - 1)
    scale = weight.sum() - np.square(weight).sum() / weight.sum()
    return max(0.0, float(spread / scale)) if scale > 0.0 else 0.0


def shrunk(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` values drawn to their common mean by their standard errors.

    The empirical Bayes estimate of a random-effects model; without variance between clients
    (:func:`between_variance`) all are the mean.
    """
    between = between_variance(values, errors)
    weight = 1.0 / (np.square(errors) + between)
    centre = weight @ values / weight.sum()
    return np.asarray(centre + between / (between + np.square(errors)) * (values - centre))


class AbovePopulation(FedRMS):
    """FedRMS with the law :func:`above_population`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"law": above_population})


class Mixture(FedRMS):
    """FedRMS with the law :func:`mixture_posterior`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"law": mixture_posterior})


class RandomEffects(Weighting):
    """Scale by the inverse square of the mean loss while training, shrunk by its standard error.

    ``s = min(1, q / y)^2``, y a client's shrunk loss and q their lower quartile. A dead zone that
    evidence opens: where losses differ no more than by chance everyone counts in full.
    """

    asks = {"statistic": "prequential"}  # noqa: RUF012
    needs = ("loss-mean", "loss-variance")

    def __init__(self) -> None:
        self.estimates = ClientAverages(2, DECAY)

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Average loss and squared error over rounds, and shrink the cohort's."""
        examples = 0.5 * cohort.examples  # half an epoch was scored
        squared_error = cohort.metrics["loss-variance"] / examples
        where = self.estimates.place(cohort.clients)
        pair = np.stack([cohort.metrics["loss-mean"], squared_error], axis=1)
        self.estimates.add(server_round, where, pair)
        mean, square = self.estimates.everyone().T
        losses = np.maximum(shrunk(mean, np.sqrt(np.maximum(square, 1e-300))), 1e-300)
        scale = np.square(np.minimum(1.0, np.quantile(losses, CLEAN) / losses[where]))
        return Weighted(cohort, scale, {"rms": losses[where]})


def agreement(products: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` the cosine of each update with the weighted sum of all the others.

    Parameters
    ----------
    products : np.ndarray
        ``[clients, clients]`` inner products of the updates.
    weights : np.ndarray
        ``[clients]``.
    """
    own = np.diagonal(products)
    with_all = products @ weights
    with_others = with_all - weights * own
    others = weights @ with_all - 2.0 * weights * with_all + np.square(weights) * own
    length = np.sqrt(np.maximum(own * others, 0.0))
    return np.divide(with_others, length, out=np.zeros(len(own)), where=length > 0.0)


class Agreement(Weighting):
    """Scale by how far a client's update agrees with the others', on the server alone.

    The square of the cosine with the sum of the other updates (:func:`agreement`), averaged
    over rounds, over its upper quartile, 1 at most. Clients need to report nothing.
    """

    def __init__(self) -> None:
        self.cosines = ClientAverages(1, DECAY)

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by what the updates say."""
        examples = cohort.examples
        products = gram(cohort.parameters, received, torch.float64)
        before = self.cosines.find(cohort.clients)
        trust = np.ones(len(before))
        if (before >= 0).all():
            trust = self._scale(before)
        where = self.cosines.place(cohort.clients)
        self.cosines.add(server_round, where, agreement(products, examples * trust)[:, None])
        return Weighted(cohort, self._scale(where))

    def _scale(self, where: np.ndarray) -> np.ndarray:
        cosine = np.maximum(self.cosines.everyone()[:, 0], 0.0)
        best = np.quantile(cosine, 1.0 - CLEAN)
        if best == 0.0:
            return np.ones(len(where))
        return np.square(np.minimum(1.0, cosine[where] / best))
