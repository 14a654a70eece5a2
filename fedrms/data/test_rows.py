"""Which rows are tested on where nobody says so: a share of each class and client, or whole groups.

Rows of one patient, speaker or day are alike; a model that has seen some of them is judged too well
by the others. Then whole groups are held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.randomness import generator

Marks = NDArray[np.bool_]


def of_classes_and_owners(
    labels: NDArray[Any] | None, owners: NDArray[Any] | None, fraction: float, seed: int, rows: int
) -> Marks:
    """Return ``[rows]`` which are tested on: of each class, and in it of each client, this share.

    The split has a seed of its own, not the run's, so that every run of a comparison is tested on
    the same examples. Rows of a class are shuffled, put in the order of the clients, and every so
    many is taken: the share of a class is right to a row, that of a client in it too. Nobody is
    tested on all that it has: a client keeps a row to train on.
    """
    shuffled = generator(seed, "held-out").permutation(rows)
    classes = np.zeros(rows, np.int64) if labels is None else labels[shuffled]
    test = np.zeros(rows, np.bool_)
    carried = 0.0
    for one in np.unique(classes):
        members = shuffled[classes == one]
        count = round(fraction * len(members))
        if owners is None:
            test[members[:count]] = True
            continue
        members = members[np.argsort(owners[members], kind="stable")]
        steps = np.floor(np.arange(len(members) + 1) * (count / len(members)) + carried)
        test[members[np.diff(steps) > 0]] = True
        carried = (carried + 0.5) % 1.0  # else the last clients would have those of every class
    if owners is not None:
        whose = np.unique(owners, return_inverse=True)[1]
        alone = np.flatnonzero(np.bincount(whose[~test], minlength=whose.max() + 1)[whose] == 0)
        test[alone[np.unique(whose[alone], return_index=True)[1]]] = False
    return test


def of_groups(
    groups: NDArray[Any], owners: NDArray[Any] | None, fraction: float, seed: int
) -> Marks:
    """Return ``[rows]`` which are tested on: whole groups, of each client about this share of rows.

    Groups come in random order, and one is taken where that brings the rows closer to the share. A
    client with several groups keeps one to train on and has one to be tested on; a group of several
    clients counts for its first.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    strata = np.zeros(len(first), np.int64)
    if owners is not None:
        strata = np.unique(owners[first], return_inverse=True)[1]
    order = generator(seed, "held-out").permutation(len(first))
    taken = np.zeros(len(first), np.bool_)
    for stratum in np.unique(strata):
        mine = order[strata[order] == stratum]
        wanted, have = fraction * sizes[mine].sum(), 0
        for place in mine[: len(mine) - 1]:
            if not have or have + sizes[place] / 2 <= wanted:
                taken[place] = fraction > 0
                have += int(sizes[place])
    return np.asarray(taken[group])


def in_both(groups: NDArray[Any], others: NDArray[Any]) -> list[Any]:
    """Return the groups that have rows in both of two parts."""
    both: list[Any] = np.intersect1d(groups, others).tolist()
    return both
