"""A federation as a real server sees it: clients with names, whose data stay with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.client_data import Clients
from fedrms.data.dataset import Examples
from fedrms.data.population import Population

NUMBERS = 1 << 52
"""Clients' numbers are below this, so that a float64 holds them."""


def number_of(name: str) -> int:
    """Return a client's number: the address of its draws, the same wherever it is asked for.

    Among a thousand names two share a number with a probability of about 1e-10.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % NUMBERS


class _Elsewhere:
    """Examples that are not here."""

    clients = NUMBERS

    def sizes_of(self, clients: Clients) -> NDArray[np.int64]:
        return np.zeros(len(clients), np.int64)

    def examples_of(self, clients: Clients) -> Examples:
        raise NotImplementedError("clients' data stay with the clients")


@dataclass(frozen=True, eq=False)
class Roster(Population):
    """Clients whose data nobody here knows, by name; and perhaps a test set of the server's own.

    Their noise is unknown (NaN), as are their sizes until they report them and their scores
    unless they report those. Nobody counts as holding classes alone.
    """

    numbered: dict[int, str] = field(default_factory=dict)
    """Name by number, of those that were asked about."""

    @property
    def listed(self) -> None:
        """Nobody knows how many clients there are."""
        return

    def called(self, client: int | str) -> str:
        """Return the name of one that was asked about, by its number."""
        known = client if isinstance(client, str) else self.numbered.get(client)
        return str(client) if known is None else known

    def number(self, client: int | str) -> int:
        """Return a client's number, and remember its name."""
        number = number_of(str(client))
        self.numbered[number] = str(client)
        return number

    def names_of(self, clients: Clients) -> NDArray[Any]:
        """Return clients' names by their numbers."""
        return np.array([self.numbered[int(number)] for number in clients], dtype=object)

    def true_noise(self, round: int) -> NDArray[np.float64]:
        """Refuse: there is no list of all clients."""
        raise NotImplementedError("a real server does not know its clients' noise")

    def true_noise_of(self, clients: Clients, round: int) -> NDArray[np.float64]:
        """Return NaN for each client: nobody knows."""
        return np.full(len(clients), np.nan)

    def clean_of(self, clients: Clients, rounds: int) -> NDArray[np.bool_]:
        """Return False for each client: nobody is known to be clean."""
        return np.zeros(len(clients), np.bool_)

    def test_mix(
        self, clients: Clients | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return NaN for each client: its class mix is its own business."""
        count = 0 if clients is None else len(clients)
        return np.zeros(len(self.test_y), np.int64), np.full((count, 1), np.nan)


def roster(
    *,
    task: Any,
    num_classes: int | None,
    shape: tuple[int, ...],
    test_x: NDArray[np.float32],
    test_y: NDArray[Any],
    class_names: tuple[str, ...] | None,
) -> Roster:
    """Make a roster that nobody is on yet; see :class:`fedrms.data.population.Population`."""
    return Roster(
        source=_Elsewhere(),
        task=task,
        num_classes=num_classes,
        shape=shape,
        test_x=test_x,
        test_y=test_y,
        class_names=class_names,
        truth="unknown",
    )
