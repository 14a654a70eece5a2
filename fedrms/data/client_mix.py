"""What a client would score on its own clean test mix, from one scoring of the test set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mix_of(counts: NDArray[Any], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much each group counts for each client: rows that sum to 1.

    From the examples ``[clients, groups]`` that each has, and the group of each test example
    ``[test]``. A group that is not tested counts for nobody; a client without any that is gets the
    mix of the test set.
    """
    tested = np.bincount(groups, minlength=counts.shape[1])
    mix = np.where(tested > 0, counts, 0).astype(np.float64)
    mix[mix.sum(axis=1) == 0] = tested
    mix /= mix.sum(axis=1, keepdims=True)
    return mix


def group_means(values: NDArray[Any], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return the mean of test scores ``[test]`` in each of `count` groups; 0 for an empty one."""
    sums = np.bincount(groups, np.asarray(values, np.float64), count)
    return np.asarray(sums / np.maximum(np.bincount(groups, minlength=count), 1))


def offsets_of(sizes: Any) -> NDArray[np.int64]:
    """Return where the rows of each of some clients begin, and where the last one's end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def class_counts(
    labels: NDArray[np.int64], offsets: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Return how many examples of each class each client has, ``[clients, classes]``."""
    clients = len(offsets) - 1
    owner = np.repeat(np.arange(clients), np.diff(offsets))
    counts = np.bincount(owner * classes + labels, minlength=clients * classes)
    return counts.reshape(clients, classes)
