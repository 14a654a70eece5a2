"""Where each client ever seen keeps its numbers: a compact map from client id to place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ClientId = int | str
Clients = Sequence[ClientId] | np.ndarray


class ClientIndex:
    """Give every client id a place 0, 1, 2, ... in the order in which they are first seen.

    Numbers lie in a sorted array and are looked up all at once, 12 bytes a client. Names,
    and numbers beyond 64 bits with a sign, lie in a dictionary.
    """

    def __init__(self) -> None:
        self._numbers = np.zeros(0, np.int64)
        self._places = np.zeros(0, np.int32)
        self._names: dict[ClientId, int] = {}

    def __len__(self) -> int:
        """Return how many clients have a place."""
        return len(self._numbers) + len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._numbers.nbytes + self._places.nbytes

    def find(self, clients: Clients) -> np.ndarray:
        """Return the place of each client, int64 ``[clients]``; -1 for those without one."""
        rows, numbers, names = _divide(clients)
        found = np.full(len(clients), -1, np.int64)
        if len(self._numbers):
            at = np.searchsorted(self._numbers, numbers)
            at = np.minimum(at, len(self._numbers) - 1)
            found[rows] = np.where(self._numbers[at] == numbers, self._places[at], -1)
        for row, name in names.items():
            found[row] = self._names.get(name, -1)
        return found

    def add(self, clients: Clients) -> np.ndarray:
        """Return the place of each of distinct clients; new ones take the places after the last."""
        found = self.find(clients)
        new = np.flatnonzero(found < 0)
        if new.size:
            found[new] = len(self) + np.arange(new.size)
            self._insert([clients[int(row)] for row in new], found[new])
        return found

    def clients(self) -> np.ndarray | list[ClientId]:
        """Return the ids in the order of their places: int64, or a list if some are names."""
        if not self._names:
            ids = np.empty_like(self._numbers)
            ids[self._places] = self._numbers
            return ids
        by_id = dict(self._names)
        by_id.update(zip(self._numbers.tolist(), self._places.tolist(), strict=True))
        return sorted(by_id, key=by_id.__getitem__)

    def _insert(self, clients: Clients, places: np.ndarray) -> None:
        rows, numbers, names = _divide(clients)
        order = np.argsort(numbers)
        numbers, own = numbers[order], places[rows][order]
        before = np.searchsorted(self._numbers, numbers)
        self._numbers = np.insert(self._numbers, before, numbers)
        self._places = np.insert(self._places, before, own.astype(np.int32))
        self._names |= {name: int(places[row]) for row, name in names.items()}


def _divide(clients: Clients) -> tuple[np.ndarray, np.ndarray, dict[int, ClientId]]:
    """Return the rows and values of the ids that are numbers, and the others by their row."""
    ids: np.ndarray[Any, Any] = np.asarray(clients)
    if ids.dtype.kind == "i" or not len(ids):
        return np.arange(len(ids)), ids.astype(np.int64), {}
    names: dict[int, ClientId] = {}
    numbers: dict[int, int] = {}
    for row, client in enumerate(clients):
        if isinstance(client, str):
            names[row] = client
        elif -(1 << 63) <= client < 1 << 63:
            numbers[row] = int(client)
        else:
            names[row] = int(client)
    return np.array(list(numbers), np.int64), np.array(list(numbers.values()), np.int64), names
