"""What remains of a client's squared errors once its own targets' units are taken out.

A client whose targets are in another unit, or whose inputs are, loses more than others though its
labels are as good. So each output's targets are explained by the best affine function of the
model's predictions, ``y = a yhat + b`` by least squares, and what remains is measured in the unit
of what is explained:

    residual^2 n / (n - 2) / (a^2 variance of yhat)

which is noise over signal: free of the unit of targets, their zero, and how far inputs spread.
The slope is taken two standard errors smaller than it is, so that one that is large by chance makes
no noise small; where nothing above 0 is left of it, the output's plain loss counts. Several
outputs are summed before they are divided.
"""

from __future__ import annotations

import numpy as np

from fedrms.statistic import BY_CLASS

FORGIVEN = 2.0
"""Standard errors that are taken off the slope."""

FEWEST = 4
"""Rows from which a slope and its error are told."""


def unitless_losses(compared: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean and variance of many clients' unitless losses, each ``[clients, 1]``.

    Parameters
    ----------
    compared : np.ndarray
        ``[clients, rows, 2 targets]`` the received model's predictions, and targets behind them.
    present : np.ndarray
        ``[clients, rows]`` which rows count.

    Returns
    -------
    dict
        Under the keys of :data:`fedrms.statistic.BY_CLASS`; NaN where no output's slope is clearly
        above 0.
    """
    predicted, target = np.split(compared.astype(np.float64), 2, axis=2)
    there = present[:, :, None]
    count = present.sum(axis=1)[:, None, None].astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        kept = np.where(there, values, 0.0)
        return np.asarray(kept.sum(axis=1, keepdims=True) / count)

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        about, wanted = predicted - mean(predicted), target - mean(target)
        signal = mean(np.square(about))
        slope = mean(about * wanted) / signal
        left = np.square(wanted - slope * about) * count / (count - 2.0)
        low = slope - FORGIVEN * np.sqrt(mean(left) / (count * signal))
        known = (low > 0.0) & (count >= FEWEST)
        each = np.where(known, left / np.square(low), np.square(predicted - target))
        total = signal.sum(axis=2)
        level = np.where(known.any(axis=2), mean(each).sum(axis=2) / total, np.nan)
        apart = each.sum(axis=2) / total - level
        columns = {
            "unitless": level,
            "unitless_variance": mean(np.square(apart)[:, :, None])[:, :, 0],
        }
    return {BY_CLASS[name].key: values for name, values in columns.items()}
