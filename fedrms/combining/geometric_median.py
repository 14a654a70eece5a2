"""The weighted geometric median of a stack of client models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.gram import gram
from fedrms.combining.row_blocks import Stack
from fedrms.combining.weighted_mean import mean


def geometric_median(
    parameters: Stack,
    received: Tensor,
    weights: Tensor,
    *,
    iterations: int = 50,
    tolerance: float = 1e-6,
    smoothing: float = 1e-6,
) -> Tensor:
    """Return the step to the weighted geometric median (RFA, Pillutla et al., arXiv:1912.13445).

    Smoothed Weiszfeld iterations, started at the weighted mean. Every centre is a weighted mean
    of the updates, so its distances follow from the updates' inner products, and an iteration
    does not touch the models.

    Parameters
    ----------
    iterations : int
        Most iterations.
    tolerance : float
        Stop when the centre moves less than this share of its distance from ``received``.
    smoothing : float
        Smallest distance that divides, as a share of the median client update, which one
        far outlier cannot inflate.
    """
    products = gram(parameters, received, torch.float64)
    squares = np.diagonal(products)
    share = (weights / weights.sum()).numpy()
    pull = share
    floor = max(smoothing * float(np.median(np.sqrt(squares))), 1e-300)
    for _ in range(iterations):
        along = products @ pull
        distance = np.sqrt(np.maximum(squares - 2.0 * along + pull @ along, 0.0))
        following = share / np.maximum(distance, floor)
        following /= following.sum()
        moved, pull = _norm(products, following - pull), following
        if moved <= tolerance * _norm(products, pull):
            break
    return mean(parameters, received, weights.sum() * torch.from_numpy(pull))


def _norm(products: np.ndarray, of: np.ndarray) -> float:
    return float(np.sqrt(max(0.0, of @ products @ of)))
