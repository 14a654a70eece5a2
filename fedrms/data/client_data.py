"""What every federation answers, whether it is laid out in memory, lazy, or elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_mix import group_means
from fedrms.data.dataset import Examples
from fedrms.errors import ConfigError

Clients = NDArray[np.int64]


class CohortRows(NamedTuple):
    """The examples of some clients in one round.

    The client asked for i-th has the rows ``offsets[i]:offsets[i + 1]``.
    """

    x: NDArray[np.float32]  # ``[total, *shape]`` normalised features
    y: NDArray[Any]  # ``[total]`` labels or targets as the clients have them, noise included
    offsets: NDArray[np.int64]  # ``[clients + 1]``


@dataclass(frozen=True, eq=False)
class Validation:
    """Examples of clients that never train, so that the test set chooses no settings."""

    test_x: NDArray[np.float32]
    test_y: NDArray[Any]
    """``[examples, *shape]`` as these clients have them in the first round, noise included: nobody
    knows the clean ones. Named as a federation's test set, because a model is scored on them
    alike."""


class ClientData(ABC):
    """Who holds what: the contract between those who have clients' data and those who use them.

    Attributes
    ----------
    clients : int
        Clients are the numbers below it.
    names : array ``[clients]`` or None
        What clients are called in tables and messages; None for their numbers.
    """

    @property
    @abstractmethod
    def clients(self) -> int: ...

    names: NDArray[Any] | None

    @property
    def listed(self) -> int | None:
        """How many clients there are; None where nobody knows."""
        return self.clients

    @property
    def everyone(self) -> Clients | None:
        """All clients, int64 ``[clients]``; None where they cannot be gone through at once."""
        return None

    def number(self, client: int | str) -> int | str:
        """Return the number of a client that has said who it is; here it is what it says."""
        return client

    def called(self, client: int | str) -> str:
        """Return what messages call a client; what is no client's number stays as it is."""
        known = isinstance(client, int) and 0 <= client < self.clients
        return str(client if self.names is None or not known else self.names[client])

    def names_of(self, clients: Clients) -> NDArray[Any]:
        """Return what some clients are called: their names, or numbers where they have none."""
        return clients if self.names is None else self.names[clients]

    @abstractmethod
    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        """Return the number of training examples of some clients."""

    @abstractmethod
    def rare_of(self, clients: Clients) -> NDArray[np.bool_]:
        """Return which of some clients alone hold certain classes."""

    def looks_of(self, clients: Clients) -> NDArray[Any] | None:
        """Return what some clients' inputs look like; None where nobody's look different."""
        return None

    @abstractmethod
    def true_noise(self, round: int) -> NDArray[np.float64]:
        """Return everyone's noise level in a round, float64 ``[clients]``."""

    @abstractmethod
    def true_noise_of(self, clients: Clients, round: int) -> NDArray[np.float64]:
        """Return the noise level of some clients in a round; NaN where it is unknown."""

    @abstractmethod
    def clean_of(self, clients: Clients, rounds: int) -> NDArray[np.bool_]:
        """Return which clients are known to have no noise in any of the first rounds."""

    @abstractmethod
    def rows_of(self, clients: Clients, round: int = 1) -> CohortRows:
        """Return the training examples of some clients in one round, together."""

    def laid_out(self, round: int) -> tuple[int, CohortRows] | None:
        """Return all rows as they lie, and the round since when; None where they do not."""
        return None

    def hold_out(self, count: int) -> tuple[Self, Validation | None]:
        """Take the last `count` clients out; what is left, and their examples.

        Raises
        ------
        ConfigError
            If clients' rows are made when they are asked for.
        """
        if not count:
            return self, None
        raise ConfigError(
            "validation_clients",
            "a population's clients are made when they are asked for",
            "set 0, or choose other data",
        )

    def class_table(self) -> NDArray[np.int64] | None:
        """Return how many examples of each class everyone holds, ``[clients, classes]``.

        Of data without classes how many in all, ``[clients, 1]``; None where one would have to
        ask all clients.
        """
        return None

    def client(self, client: int, round: int = 1) -> Examples:
        """Return one client's training examples in one round."""
        rows = self.rows_of(np.array([client]), round)
        return Examples(rows.x, rows.y)

    def per_client_metric(
        self, values: NDArray[Any], clients: Clients | None = None
    ) -> NDArray[np.float64]:
        """Return what each client would score on its own clean test mix.

        The exact expectation over test examples drawn in the client's mix: with classes
        as groups, client k gets ``sum_c mix[k, c] * mean(values of class c)``.

        Parameters
        ----------
        values : array ``[test]``
            A score of one global model on each test example (0/1 correct, a loss).
        clients : array, int64, optional
            Only these clients; by default all.

        Returns
        -------
        array, float64 ``[clients]``
        """
        groups, mix = self.test_mix(clients)
        return np.asarray(mix @ group_means(values, groups, mix.shape[1]))

    @abstractmethod
    def test_mix(
        self, clients: Clients | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the group of each test example, and clients' mixes ``[clients, groups]``."""
