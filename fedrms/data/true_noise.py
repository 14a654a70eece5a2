"""How noisy clients' labels really are, where a person's own data say or leave it open."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedrms.data.dataset import Dataset
from fedrms.data.noise import Noise
from fedrms.errors import ConfigError

Truth = Literal["simulated", "measured", "unknown"]
"""Whence the true noise is known: it was added here; labels were compared; not at all."""


def known_labels(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a true label is known: neither -1 nor NaN."""
    return np.asarray(truth >= 0 if truth.dtype.kind == "i" else ~np.isnan(truth))


def truth_of(dataset: Dataset, noise: Noise) -> Truth:
    """Say whence the noise of a federation is known.

    Noise that a person asks for is added to labels that then count as right. Labels with a truth
    and noise of features are refused: a client has one level.
    """
    touches = noise.kind.touches
    if dataset.truth is None:
        return "unknown" if dataset.reading is not None and touches == "nothing" else "simulated"
    if touches in ("x", "rows"):
        raise ConfigError(
            "noise",
            f"{noise.name} may spoil features, and data.true_label_column measures the labels",
            "set noise=none, or leave the column unset and list it in data.drop_columns",
        )
    return "measured"


def measured_noise(
    y: NDArray[Any], truth: NDArray[Any], offsets: NDArray[np.int64], shares: bool | None = None
) -> NDArray[np.float64]:
    """Return ``[clients]`` the share of labels that are not the true ones, NaN where nobody knows.

    For targets it is the root mean square difference; ``shares`` counts what is wrong, by default
    where labels are whole numbers. Rows without a truth do not count.
    """
    told = known_labels(truth)
    shares = truth.dtype.kind == "i" if shares is None else shares
    wrong = y != truth if shares else (y.astype(np.float64) - truth) ** 2
    if told.ndim > 1:
        told, wrong = np.asarray(told.all(1)), np.mean(wrong, axis=1)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[told]
    counts = np.bincount(owner, minlength=len(offsets) - 1)
    sums = np.bincount(owner, np.asarray(wrong, np.float64)[told], len(offsets) - 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means if shares else np.sqrt(means)
