"""One data set before anyone holds it: training and test examples, and how to scale them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "multilabel", "regression"]
Scale = float | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets, row by row.

    Parameters
    ----------
    x : array, ``[n, *shape]``
        float32 features, or int64 where they are indices; inside a :class:`Dataset` also pixels as
        they are stored, uint8 or uint16 (possibly memory-mapped), which :meth:`Dataset.raw` turns
        into floats in [0, 1].
    y : array, ``[n]``, or ``[n, targets]`` float32
        int64 class labels, or float32 regression targets; of several labels 0 or 1 each.
    """

    x: NDArray[Any]
    y: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.y)

    def first(self, count: int | None) -> Examples:
        """Return the first `count` examples (all of them for None)."""
        return Examples(self.x[:count], self.y[:count])


def joined(parts: Sequence[Examples]) -> Examples:
    """Return the examples of several one after the other."""
    return Examples(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))


@dataclass(frozen=True)
class Reading:
    """What was made of the columns of a person's own data."""

    label: str  # the column that is predicted
    features: tuple[str, ...]  # the columns that are learned from
    count: int  # numbers in one example
    aside: Mapping[str, str] = field(default_factory=dict)
    """Why, by the name of a column that is not learned from."""
    imputed: Mapping[str, int] = field(default_factory=dict)
    """Rows whose missing value was filled, by column."""
    owner: str | None = None
    truth: str | None = None
    """The columns that say whose each row is, and what its label should be."""
    split: str = ""  # how the test rows were chosen; empty where they were given
    warnings: tuple[str, ...] = ()  # what a person should look at, a sentence each


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a clean test set, with the scaling that is applied after any noise.

    Parameters
    ----------
    train, test : Examples
        The training examples to be shared among clients, and the global test examples.
    task : {"classification", "multilabel", "regression"}
        What the targets are.
    num_classes : int or None
        Number of classes; None for regression and several labels.
    shape : tuple of int
        Shape of one example after pooling (``(channels, height, width)`` or ``(features,)``).
    mean, std : float or array broadcastable to `shape`
        ``(x - mean) / std`` is what a model sees; noise acts on the raw x before it.
    natural_ids, test_natural_ids : array ``[n]`` or None
        Which client each example belongs to in the real world, where the source knows.
    class_names : tuple of str or None
        Names of the classes in label order.
    noise_unit : float or array broadcastable to `shape`
        What a feature-noise level of 1 means in raw units: 1 for pixels in [0, 1], one
        training standard deviation for tabular columns.
    pool : int
        Average-pooling factor that :meth:`raw` applies to stored pixels.
    truth : array ``[n]`` or None
        What each training label should be, where a person's data say so; -1 or NaN where a
        row does not.
    reading : Reading or None
        What was made of a person's own data, whose labels nobody knows to be right; None for
        built-in data.
    """

    train: Examples
    test: Examples
    task: Task
    num_classes: int | None
    shape: tuple[int, ...]
    mean: Scale = 0.0
    std: Scale = 1.0
    natural_ids: NDArray[Any] | None = None
    test_natural_ids: NDArray[Any] | None = None
    class_names: tuple[str, ...] | None = None
    noise_unit: Scale = 1.0
    pool: int = 1
    truth: NDArray[Any] | None = None
    reading: Reading | None = None

    def raw(self, examples: Examples, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return fresh float32 features ``[rows, *shape]``, pixels in [0, 1] and pooled."""
        return raw_features(examples.x if rows is None else examples.x[rows], self.pool)

    def normalise(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale `x` in place to ``(x - mean) / std`` and return it."""
        if x.dtype.kind != "i":  # indices stay what they are
            x -= self.mean
            x /= self.std
        return x


def raw_features(x: NDArray[Any], pool: int) -> NDArray[np.float32]:
    """Return a float32 copy of stored features; pixels ``[n, C, H, W]`` in [0, 1] and pooled."""
    pixels = x.dtype in (np.uint8, np.uint16)
    if x.dtype.kind == "i":
        return x.astype(np.int64)
    if pool > 1:
        n, channels, height, width = x.shape
        windows = (n, channels, height // pool, pool, width // pool, pool)
        features: NDArray[np.float32] = x.reshape(windows).mean(axis=(3, 5), dtype=np.float32)
    else:
        features = np.array(x, dtype=np.float32)
    if pixels:
        features /= np.float32(np.iinfo(x.dtype).max)
    return features
