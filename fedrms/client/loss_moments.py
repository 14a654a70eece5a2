"""Moments of a client's per-example losses: the evidence that FedRMS weighs clients by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedrms.statistic import MOMENTS


def stacked_moments(losses: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return the moments of many clients' losses ``[clients, examples]``, each ``[clients]``.

    ``mean`` (units of loss); ``variance`` (population, loss squared); ``second_moment`` (mean of
    squared losses); ``mad`` (the square of 1.4826 times the median absolute deviation, a variance
    that heavy tails do not inflate). A client without any ``present`` loss, or with one that is not
    finite, gets NaN.
    """
    losses = np.where(present, losses.astype(np.float64), 0.0)
    count = present.sum(1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = losses.sum(1) / count
        deviation = np.where(present, losses - mean[:, None], 0.0)
        variance = np.square(deviation).sum(1) / count
        second_moment = np.square(losses).sum(1) / count
        centre = _medians(losses, present, count)
        mad = np.square(1.4826 * _medians(np.abs(losses - centre[:, None]), present, count))
    mad[~np.isfinite(variance)] = np.nan
    return {"mean": mean, "variance": variance, "second_moment": second_moment, "mad": mad}


def _medians(values: np.ndarray, present: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the median of each row's present values; NaN where there is none."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    rising = np.sort(np.where(present, values, np.inf), axis=1)
    row = np.arange(len(rising))
    low = rising[row, np.maximum(count - 1, 0) // 2]
    high = rising[row, np.minimum(count // 2, rising.shape[1] - 1)]
    return np.where(count > 0, (low + high) / 2, np.nan)


def loss_moments(losses: torch.Tensor | np.ndarray | Sequence[float]) -> dict[str, float]:
    """Return one client's loss moments under the keys that :class:`fedrms.FedRMS` reads.

    This is all that an existing Flower ``ClientApp`` adds::

        metrics.update(loss_moments(per_example_losses))

    Parameters
    ----------
    losses : tensor, array or sequence of float
        Per-example losses, any shape, in units of loss. Best taken from the mini-batches
        *before* each update, over the second half of the first local epoch (prequential
        scoring, Dawid 1984): that tells noisy data from data that is merely rare.

    Returns
    -------
    dict
        ``loss-mean``, ``loss-variance``, ``loss-second-moment``, ``loss-mad``; see
        :func:`stacked_moments`.

    Raises
    ------
    ValueError
        If there is no loss.
    """
    if isinstance(losses, torch.Tensor):
        losses = losses.detach().to(torch.float64).cpu().numpy()
    values = np.asarray(losses, dtype=np.float64).reshape(1, -1)
    if values.size == 0:
        raise ValueError("loss_moments needs at least one per-example loss")
    moments = stacked_moments(values, np.ones(values.shape, dtype=bool))
    return {MOMENTS[name].key: float(value[0]) for name, value in moments.items()}
