"""The least error that a linear model can be expected to have on noisy clients' data."""

from __future__ import annotations

import math

import pandas as pd


def gauss_markov_bound(runs_clients: pd.DataFrame, parameters: int) -> float:
    r"""Return the expected test MSE of the best linear unbiased estimate of all clients' data.

    By the theorem of Gauss and Markov (Aitken 1935 for unequal variances) that is weighted
    least squares with weights :math:`1 / \sigma_k^2`. With standard normal features, its
    expected squared error on noiseless targets tends to

    .. math:: p \Big/ \sum_k n_k / \sigma_k^2.

    Parameters
    ----------
    runs_clients : DataFrame
        ``runs.clients`` of one run, with ``num_examples`` and ``true_noise`` (standard
        deviations).
    parameters : int
        p: one for each feature, and the bias.

    Returns
    -------
    float
        NaN if the noise of a client is not known, or zero: then nothing bounds the error.
    """
    each = runs_clients.groupby("client", observed=True)[["num_examples", "true_noise"]].last()
    if each["true_noise"].isna().any() or (each["true_noise"] <= 0).any() or each.empty:
        return math.nan
    return parameters / float((each["num_examples"] / each["true_noise"] ** 2).sum())
