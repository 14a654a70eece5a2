"""What every partition is made of: shuffled rows, dealt to clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrms.randomness import generator

Rows = NDArray[np.int64]

DEFAULT_CLIENTS = 20
"""How many clients a federation has where nobody says."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Which training rows each client holds.

    Parameters
    ----------
    rows : list of int64 arrays
        Row indices into the training set, one array a client; no row is held twice.
    rare : array of bool, ``[clients]``
        The clients that alone hold certain classes (``partition=minority``).
    """

    rows: list[Rows]
    rare: NDArray[np.bool_]


def deal(rows: Rows, clients: int, n: int | None) -> list[Rows]:
    """Cut shuffled rows into `clients` hands, of `n` each or as equal as can be."""
    if n is None:
        return np.array_split(rows, clients)
    return [rows[client * n : (client + 1) * n] for client in range(clients)]


def shuffled(seed: int, total: int) -> Rows:
    """Return all row indices in the run's random order."""
    return generator(seed, "partition").permutation(total)
