"""A federation of any size: clients' rows are made or read only for those who are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_data import ClientData, Clients, CohortRows
from fedrms.data.client_mix import class_counts, mix_of, offsets_of
from fedrms.data.dataset import Dataset, Examples, Task
from fedrms.data.levels import since
from fedrms.data.noise import Noise
from fedrms.data.true_noise import Truth

AT_ONCE = 10_000
"""Clients whose examples are in memory at a time, where all are gone through."""


class ClientSource(Protocol):
    """Where a population's examples come from; a client's do not depend on who else is asked."""

    @property
    def clients(self) -> int:
        """Number of clients; they are 0 to ``clients - 1``."""
        ...

    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        """Return the number of examples of each client."""
        ...

    def examples_of(self, clients: Clients) -> Examples:
        """Return clean examples of clients, one client after the other."""
        ...


@dataclass(frozen=True, eq=False)
class Population(ClientData):
    """Who holds what, where nobody holds it all: a lazy :class:`fedrms.data.Federation`.

    What it keeps does not grow with the number of clients, but for what its source keeps.
    Nobody holds classes alone here, and everyone is judged on the one global test set,
    weighted by the client's own clean class mix.

    Parameters
    ----------
    source : ClientSource
        Makes or reads clean examples.
    task : {"classification", "regression"}
        What the targets are.
    num_classes : int or None
        Number of classes; None for regression.
    shape : tuple of int
        Shape of one example.
    test_x, test_y : arrays, float32 ``[test, *shape]`` and ``[test]``
        The global clean test set, normalised.
    noise : Noise
        Added as rows are asked for.
    class_names : tuple of str or None
        Names of the classes in label order.
    names : array ``[clients]`` or None
        What clients are called in tables and messages; None for their numbers.
    truth : {"simulated", "unknown"}
        Whether the labels are right but for `noise`, or nobody knows: levels are then NaN.
    account : str
        What was made of a person's own data, in a line; empty for built-in data.
    warnings : tuple of str
        What a person should look at, a sentence each.
    """

    source: ClientSource
    task: Task
    num_classes: int | None
    shape: tuple[int, ...]
    test_x: NDArray[np.float32]
    test_y: NDArray[Any]
    noise: Noise = field(default_factory=Noise)
    class_names: tuple[str, ...] | None = None
    names: NDArray[Any] | None = None
    truth: Truth = "simulated"
    account: str = ""
    warnings: tuple[str, ...] = ()
    _latest: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    _levels: dict[int, NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.source.clients

    @property
    def dataset(self) -> Dataset:
        """What kinds of noise are told of the data: all but the training rows, held by nobody."""
        nothing = Examples(np.zeros((0, *self.shape), np.float32), self.test_y[:0])
        tests = Examples(self.test_x, self.test_y)
        return Dataset(
            nothing, tests, self.task, self.num_classes, self.shape, class_names=self.class_names
        )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of training examples of each client, int64 ``[clients]``; made anew."""
        return self.source.sizes_of(np.arange(self.clients))

    @property
    def rare(self) -> NDArray[np.bool_]:
        """Who alone holds certain classes: nobody, bool ``[clients]``; made anew."""
        return np.zeros(self.clients, np.bool_)

    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        """Return the number of training examples of some clients."""
        return self.source.sizes_of(self._checked(clients))

    def rare_of(self, clients: Clients) -> NDArray[np.bool_]:
        """Return which of some clients alone hold certain classes: none."""
        return np.zeros(len(clients), np.bool_)

    def true_noise(self, round: int) -> NDArray[np.float64]:
        """Return everyone's noise level in a round, float64 ``[clients]``; kept while it holds."""
        start = since(self.noise.levels.starts, round)
        if start not in self._levels:
            self._levels.clear()
            self._levels[start] = self.true_noise_of(np.arange(self.clients), round)
        return self._levels[start]

    def true_noise_of(self, clients: Clients, round: int) -> NDArray[np.float64]:
        """Return the noise level of some clients in a round."""
        clients = self._checked(clients)
        if self.truth == "unknown":
            return np.full(len(clients), np.nan)
        return self.noise.levels.of(clients, round)

    def clean_of(self, clients: Clients, rounds: int) -> NDArray[np.bool_]:
        """Return which clients are known to have no noise in any of the first rounds."""
        clean = np.ones(len(clients), np.bool_)
        for start in self.noise.levels.starts:
            if start <= rounds:
                clean &= self.true_noise_of(clients, start) == 0
        return clean

    def rows_of(self, clients: Clients, round: int = 1) -> CohortRows:
        """Return the training examples of some clients in one round, made or read now."""
        clients = self._checked(clients)
        offsets = offsets_of(self.source.sizes_of(clients))
        examples = self.source.examples_of(clients)
        if self.num_classes is not None:
            counts = class_counts(examples.y, offsets, self.num_classes)
            self._latest.update(clients=clients.copy(), counts=counts)
        x, y = self.noise.spoil(examples.x, examples.y, offsets, clients, round, self.dataset)
        return CohortRows(x, y, offsets)

    def test_mix(
        self, clients: Clients | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the group of each test example, and clients' mixes ``[clients, groups]``."""
        clients = self._checked(np.arange(self.clients) if clients is None else clients)
        if self.num_classes is None:
            return np.zeros(len(self.test_y), np.int64), np.ones((len(clients), 1))
        return self.test_y, mix_of(self._class_counts(clients), self.test_y)

    def _class_counts(self, clients: Clients) -> NDArray[np.int64]:
        """Return ``[clients, classes]``; the cohort that was asked for last is remembered."""
        counts = np.zeros((len(clients), self.num_classes or 0), np.int64)
        missing = np.ones(len(clients), np.bool_)
        if self._latest:
            known, order = np.unique(self._latest["clients"], return_index=True)
            at = np.minimum(np.searchsorted(known, clients), len(known) - 1)
            missing = known[at] != clients
            counts[~missing] = self._latest["counts"][order[at[~missing]]]
        rows = np.flatnonzero(missing)
        for part in (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)):
            offsets = offsets_of(self.source.sizes_of(clients[part]))
            labels = self.source.examples_of(clients[part]).y
            counts[part] = class_counts(labels, offsets, self.num_classes or 0)
        return counts

    def _checked(self, clients: Clients) -> Clients:
        clients = np.asarray(clients, np.int64)
        outside = clients[(clients < 0) | (clients >= self.clients)]
        if outside.size:
            raise IndexError(f"client {outside[0]} is not one of 0 to {self.clients - 1}")
        return clients
