"""Which part of the test set judges which client: its own rows, classes, and look."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.appearance import Change, Features
from fedrms.data.client_mix import class_counts, mix_of
from fedrms.data.dataset import Dataset

Groups = NDArray[np.int64]
Mix = NDArray[np.float64]


def class_groups(
    dataset: Dataset, clean_y: NDArray[Any], offsets: NDArray[np.int64]
) -> tuple[Groups, Mix]:
    """Group the test set by class; a client's mix is its clean training class shares.

    Without classes all test examples are one group.
    """
    if dataset.num_classes is None:
        return np.zeros(len(dataset.test), np.int64), np.ones((len(offsets) - 1, 1))
    counts = class_counts(clean_y, offsets, dataset.num_classes)
    return dataset.test.y, mix_of(counts, dataset.test.y)


def owners_groups(dataset: Dataset, first_rows: NDArray[np.int64]) -> tuple[Groups, Mix]:
    """Group the test set by the client it belongs to; the last group is everyone else."""
    assert dataset.natural_ids is not None
    assert dataset.test_natural_ids is not None
    ids = dataset.natural_ids[first_rows]
    index = {owner: client for client, owner in enumerate(ids.tolist())}
    owners = dataset.test_natural_ids.tolist()
    groups = np.array([index.get(owner, len(ids)) for owner in owners], np.int64)
    return groups, mix_of(np.eye(len(ids), len(ids) + 1), groups)


def with_owners_looks(
    test_x: Features, owners: Groups, different: NDArray[np.bool_], change: Change
) -> Features:
    """Give each test row the look of the client it belongs to, in place; nobody's stay usual."""
    mine = np.append(different, False)[owners]
    if mine.any():
        test_x[mine] = change(test_x[mine])
    return test_x


def block_a_look(
    test_x: Features,
    test_y: NDArray[Any],
    groups: Groups,
    mix: Mix,
    different: NDArray[np.bool_],
    change: Change,
) -> tuple[Features, NDArray[Any], Groups, Mix]:
    """Repeat the test set once for each look that clients have, with groups of its own.

    A client's mix lies on the block that looks like its own data. Means over the test set are
    then means over looks, however many clients have each.
    """
    if different.all():
        return np.ascontiguousarray(change(test_x)), test_y, groups, mix
    count = mix.shape[1]
    mine = different[:, None]
    return (
        np.concatenate([test_x, change(test_x)]),
        np.concatenate([test_y, test_y]),
        np.concatenate([groups, groups + count]),
        np.concatenate([np.where(mine, 0.0, mix), np.where(mine, mix, 0.0)], axis=1),
    )
