"""How the weights of a round compare with the truth that a simulator knows.

Small functions over one round's cohort. Every array has the shape ``[clients]``, in one
common order; NaN means "not known", and a client whose value is not known is left out of
that metric. Sums are exactly rounded (`math.fsum`), so that the order of the clients does
not change a bit of the result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

NAN = float("nan")


def _floats(values: Array) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _average_ranks(values: Floats) -> Floats:
    """Rank from 1, where tied values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    bounds = np.append(np.flatnonzero(new), len(values))  # of runs of equal values
    ranks = np.empty(len(values))
    ranks[order] = (0.5 * (bounds[:-1] + bounds[1:] + 1))[np.cumsum(new) - 1]
    return ranks


def noise_auroc(rms: Array, noisy: Array) -> float:
    """Probability that a noisy client's noise estimate exceeds a clean client's.

    The area under the ROC curve of `rms` as a detector of noisy clients, by the
    Mann-Whitney statistic (ties count one half): 1 separates perfectly, 0.5 is chance.

    Parameters
    ----------
    rms : array ``[clients]``
        Noise estimate of each client, in units of loss; NaN where there is none.
    noisy : array ``[clients]``
        True where the client really is noisy; a float array may hold NaN for "not known".

    Returns
    -------
    float
        In [0, 1]; NaN if all or none of the known clients are noisy.
    """
    score, label = _floats(rms), _floats(noisy)
    known = ~np.isnan(score) & ~np.isnan(label)
    score, positive = score[known], label[known] > 0
    hits = int(positive.sum())
    misses = positive.size - hits
    if hits == 0 or misses == 0:
        return NAN
    rank_sum = float(_average_ranks(score)[positive].sum())
    return (rank_sum - hits * (hits + 1) / 2.0) / (hits * misses)


def noise_spearman(rms: Array, level: Array) -> float:
    """Spearman's rank correlation between the noise estimates and the true noise levels.

    Parameters
    ----------
    rms : array ``[clients]``
        Noise estimate of each client, in units of loss; NaN where there is none.
    level : array ``[clients]``
        True noise level (a flip rate, or a standard deviation); NaN where not known.

    Returns
    -------
    float
        In [-1, 1]; NaN if either side is constant or fewer than two clients are known.
    """
    estimate, truth = _floats(rms), _floats(level)
    known = ~np.isnan(estimate) & ~np.isnan(truth)
    if int(known.sum()) < 2:
        return NAN
    a, b = _average_ranks(estimate[known]), _average_ranks(truth[known])
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else NAN


def clean_weight_share(weight: Array, true_noise: Array) -> float:
    """Share of the total weight that the clean clients (true noise 0) hold.

    Weights that already sum to 1 are summed over the clean clients. NaN where no weight,
    or no truth, is known.
    """
    w, level = _floats(weight), _floats(true_noise)
    known = ~np.isnan(w) & ~np.isnan(level)
    w, clean = w[known], level[known] == 0
    total = math.fsum(w)
    return math.fsum(w[clean]) / total if total > 0 else NAN


def false_penalty_share(
    num_examples: Array, weight: Array, true_noise: Array, among: Array | None = None
) -> float:
    r"""Share of the server's step that weighting took away from clean clients.

    With :math:`p_k = n_k / \sum_j n_j` over the clients whose weight is known, and
    :math:`w_k` the factor by which client k's update entered the step,

    .. math:: \sum_{k\ \mathrm{clean}} \max(0,\ p_k - w_k).

    0 means that no clean client got less than its sample-size share; the worst value is
    the sample-size share of all clean clients. Weights are taken as they were applied: if
    they sum to less than 1 (a step made smaller on purpose), what the clean clients lost
    by that counts as well.

    Parameters
    ----------
    num_examples : array ``[clients]``
        Training examples of each client.
    weight : array ``[clients]``
        Effective weight in the aggregation; NaN where there is none (a failed client).
    true_noise : array ``[clients]``
        True noise level; 0 is a clean client, NaN is not known.
    among : array ``[clients]``, optional
        If given, only clean clients marked here (such as holders of rare data) are summed;
        their :math:`p_k` still is a share of everyone's examples.

    Returns
    -------
    float
        In [0, 1]; NaN if there is no clean (and marked) client with a known weight.
    """
    w, level = _floats(weight), _floats(true_noise)
    answered = ~np.isnan(w)
    n = np.where(answered, _floats(num_examples), 0.0)
    total = math.fsum(n)
    counted = answered & (level == 0)
    if among is not None:
        counted &= _floats(among) > 0
    if not counted.any() or not total > 0:
        return NAN
    lost = n[counted] / total - w[counted]
    return math.fsum(np.maximum(lost, 0.0))


def least_clean_weight(num_examples: Array, weight: Array, true_noise: Array) -> float:
    r"""Least weight of a clean client, as a multiple of what FedAvg gives it.

    :math:`\min_{k\ \mathrm{clean}} w_k / p_k` with p_k as in :func:`false_penalty_share`: 1 in
    FedAvg, 0 where a clean client is silenced.

    Parameters
    ----------
    num_examples, weight, true_noise : array ``[clients]``
        As there.

    Returns
    -------
    float
        NaN if there is no clean client with examples and a known weight.
    """
    n, w, level = _floats(num_examples), _floats(weight), _floats(true_noise)
    answered = ~np.isnan(w) & (n > 0)
    counted = answered & (level == 0)
    if not counted.any():
        return NAN
    return float((w[counted] * math.fsum(n[answered]) / n[counted]).min())


def effective_sample_size(weight: Array) -> float:
    r"""Kish's effective number of clients, :math:`(\sum w)^2 / \sum w^2`.

    The number of equally weighted clients with the same averaging power; NaN if every
    weight is zero or unknown.
    """
    w = _floats(weight)
    w = w[~np.isnan(w)]
    largest = float(np.abs(w).max()) if w.size else 0.0
    if not (0 < largest < math.inf):
        return NAN
    w = w / largest
    return math.fsum(w) ** 2 / math.fsum(w * w)
