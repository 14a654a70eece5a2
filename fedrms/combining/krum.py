"""Krum: the updates with the nearest neighbours (Blanchard et al. 2017, NeurIPS, arXiv:1703.02757).

A client's score is the sum of squared distances to its ``n - byzantine - 2`` nearest others;
those of least score are chosen. The published guarantee needs ``n >= 2 byzantine + 3`` clients.

Weights do not enter scores, so a client cannot buy its way in; but one of weight 0 neither
counts as a neighbour nor can be chosen, and those chosen are averaged by their weights.

Time and memory grow with the square of the cohort: some 50 bytes for every pair of clients.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.gram import gram, gram_error, gram_rows
from fedrms.combining.row_blocks import Stack, take_rows
from fedrms.combining.weighted_mean import mean

TIE = 1e-12
"""Scores nearer than this share of the squared norms count as equal: the first client wins."""


def krum(parameters: Stack, received: Tensor, weights: Tensor, *, byzantine: int = 1) -> Tensor:
    """Return the step to the one model of least score.

    Parameters
    ----------
    byzantine : int
        f, how many clients may lie.
    """
    return multi_krum(parameters, received, weights, byzantine=byzantine, keep=1)


def multi_krum(
    parameters: Stack, received: Tensor, weights: Tensor, *, byzantine: int = 1, keep: int = 0
) -> Tensor:
    """Return the step to the weighted mean of the ``keep`` models of least score.

    Parameters
    ----------
    byzantine : int
        f, how many clients may lie.
    keep : int
        m, how many models are averaged; 1 is Krum, 0 means all but ``byzantine``.
    """
    counted = np.flatnonzero(weights.numpy() > 0.0)
    if len(counted) < len(weights):
        parameters = take_rows(parameters, counted)
    wanted = keep or max(1, len(counted) - byzantine)
    chosen = least_scores(parameters, received, byzantine=byzantine, keep=wanted)
    share = weights[torch.from_numpy(counted[chosen])]
    share = share * (weights.sum() / share.sum())
    return mean(take_rows(parameters, chosen), received, share)


def least_scores(parameters: Stack, received: Tensor, *, byzantine: int, keep: int) -> np.ndarray:
    """Return ``[keep]`` the rows of the least scores, in rising order of rows.

    Inner products in float32, or float64 for such a stack, decide as far as their error (see
    :func:`gram_error`) lets them; the clients that it leaves in doubt are scored again in float64.
    """
    clients = parameters.shape[0]
    if keep >= clients:
        return np.arange(clients)
    nearest = max(1, clients - byzantine - 2)
    dtype = torch.float64 if parameters.dtype == torch.float64 else torch.float32
    products = gram(parameters, received, dtype)
    if not np.isfinite(products).all():  # a far liar's squares are too large for float32
        dtype = torch.float64
        products = gram(parameters, received, dtype)
    norms = np.diagonal(products)
    reach = norms[:, None] + norms  # at least 2 |u_i| |u_j|
    squared = reach - 2.0 * products
    slack = 2.0 * gram_error(dtype) * reach
    everyone = np.arange(clients)
    low = _nearest_sum(squared - slack, everyone, nearest)
    high = _nearest_sum(squared + slack, everyone, nearest)
    sure = high < np.partition(low, keep)[keep]
    doubtful = np.flatnonzero(~sure & (low <= np.partition(high, keep - 1)[keep - 1]))
    missing = keep - int(sure.sum())
    if missing < len(doubtful):
        products, norms = gram_rows(parameters, received, doubtful)
        squared = norms[doubtful, None] + norms - 2.0 * products
        scores = _nearest_sum(squared, doubtful, nearest)
        doubtful = doubtful[_in_order(scores, TIE * nearest * float(np.median(norms)))]
    return np.sort(np.concatenate([np.flatnonzero(sure), doubtful[:missing]]))


def _nearest_sum(squared: np.ndarray, rows: np.ndarray, nearest: int) -> np.ndarray:
    """Return ``[rows]`` the sum of every row's ``nearest`` least distances to others."""
    others = np.where(np.isnan(squared), np.inf, squared)
    others[np.arange(len(rows)), rows] = np.inf
    return np.asarray(np.partition(others, nearest - 1, axis=1)[:, :nearest].sum(axis=1))


def _in_order(scores: np.ndarray, resolution: float) -> np.ndarray:
    if resolution > 0.0:
        scores = np.round(scores / resolution)
    return np.argsort(scores, kind="stable")
