"""Other inputs, told by losses that no label enters.

The losses that an example would have under each of the K labels, summed, do not depend on the one
it has:

    sum_j loss(x, j) = loss + (K - 1) chance

since the chance loss is the mean under the other labels. Wrong labels therefore leave a client's
sum where the model has it for everybody, however many there are; inputs that look different move
it, for the model is less sure of them, or more. So

    d_k = sum_c n_kc A_kc / sum_c n_kc A_c - 1        A_c: median over clients of the sum

far from 0 says that the client's inputs differ, and that its excess is not noise of labels alone.
It tells a client half of whose pictures come from another device from one half of whose labels are
wrong, which make the same mixture of losses.

Where labels are wrong, an example may be of a class whose sum is another, so with a share p of
wrong labels d may be as large as p times the distance of the farthest class. Only what is beyond
that counts.

How far is far goes by the cohort: d_k sqrt(n_k) has a spread over clients, by sampling and by what
they hold, and :data:`SURE` times that is passed by few. Inputs that differ without moving the sum,
as where a table's signs are turned round, are not seen.
"""

from __future__ import annotations

import numpy as np

from fedrms.replies.class_losses import ClassLosses
from fedrms.weighting.order_statistics import median, weighted_quantiles

LEAST = 0.05
"""Deviation below which inputs do not differ: what noisy labels and class mixes may have."""

SURE = 4.0
"""Deviation in the cohort's standard deviations below which inputs do not differ; twice that, or
twice :data:`LEAST`, is full evidence."""

MIXED = 1.25
"""Times what the rate of wrong labels explains by the classes that the examples may truly have."""

MOST_BELOW = 0.5
"""Largest share of the usual sum that other inputs are believed to take away."""


def other_inputs(
    losses: ClassLosses, weights: np.ndarray, rows: np.ndarray, rate: np.ndarray
) -> np.ndarray:
    """Return ``[cohort]`` how sure it is that a client's inputs differ from others': 0 to 1.

    ``weights`` ``[cohort, classes]`` are how much each counts for what is usual, and ``rate``
    ``[cohort]`` the share of a client's labels that its losses would have wrong. With more labels
    than ``rows`` ``[cohort]`` a row has several, each with two values or each of all classes; then
    the smaller deviation of both counts.
    """
    assert losses.chance is not None
    count = losses.count
    labels, classes = count.sum(axis=1), count.shape[1]
    ways = [1.0 / (classes - 1) if classes > 1 else 0.0]
    if (labels > rows).any():
        ways.append(1.0)
    each = [_deviation(count, way * losses.mean + losses.chance, weights) for way in ways]
    found, mixed = np.stack(each, axis=1)
    size = np.sqrt(np.maximum(rows, 1.0))
    deviation = np.abs(found).min(axis=0)
    spread = 1.4826 * median(np.sort(deviation * size))
    limit = np.maximum(LEAST, SURE * spread / size)
    limit = np.maximum(limit, MIXED * rate * mixed.max(axis=0))
    sure: np.ndarray = np.clip(deviation / limit - 1.0, 0.0, 1.0)
    return np.where(found.min(axis=0) < -MOST_BELOW, 0.0, sure)


def _deviation(
    count: np.ndarray, level: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[cohort]`` how far a client's sum is from what is usual for its classes.

    Beside it how far on that side it would be if all its examples were of one class.
    """
    each = weighted_quantiles(level, weights, 0.5)
    usual, known = count @ each, each[weights.sum(axis=0) > 0.0]
    own = (count * level).sum(axis=1)
    found = np.divide(own, usual, out=np.ones(len(own)), where=usual > 0.0) - 1.0
    mean = usual / np.maximum(count.sum(axis=1), 1.0)
    ends = np.where(found < 0.0, known.min(initial=np.inf), known.max(initial=0.0))
    mixed = np.divide(ends, mean, out=np.ones(len(own)), where=mean > 0.0) - 1.0
    return found, np.where(np.isfinite(mixed), np.abs(mixed), 0.0)
