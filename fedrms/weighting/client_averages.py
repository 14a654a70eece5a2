"""Averages of what each client reports over its own rounds, for every client ever seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrms.errors import ConfigError
from fedrms.options import number, one_of
from fedrms.replies.client_index import ClientId, ClientIndex, Clients

MEMORIES = ("ema", "cumulative")
"""How the past of a client is kept."""


class ClientAverages:
    """Moving averages of a few numbers of each client, kept in compact arrays.

    Options are as in :class:`fedrms.weighting.client_scaler.ClientScaler`.
    """

    def __init__(
        self,
        columns: int,
        decay: float = 0.9,
        *,
        bias_correction: bool = True,
        staleness: float = 0.0,
        memory: str = "ema",
    ) -> None:
        one_of("strategy.memory", memory, MEMORIES)
        if memory == "cumulative" and staleness:
            raise ConfigError(
                "strategy.staleness",
                f"is {staleness}, but strategy.memory=cumulative forgets nothing",
                "set it to 0, or strategy.memory=ema",
            )
        number("strategy.decay", decay, 0, 1, "[)")
        number("strategy.staleness", staleness, 0, 1)
        self.decay = decay
        self.bias_correction = bias_correction
        self.staleness = staleness
        self.memory = memory
        self._index = ClientIndex()
        self._sums = np.zeros((0, columns))
        self._gathered = np.zeros(0)
        self._last_round = np.zeros(0, dtype=np.int32)

    def __len__(self) -> int:
        """Return how many clients were ever seen."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of the state's arrays."""
        arrays = (self._sums, self._gathered, self._last_round)
        return self._index.nbytes + sum(array.nbytes for array in arrays)

    @property
    def last_round(self) -> int:
        """The latest round that anybody took part in; 0 before the first."""
        return int(self._last_round.max(initial=0))

    def clients(self) -> list[ClientId]:
        """Return the ids of all clients in the order of their places."""
        clients = self._index.clients()
        return clients.tolist() if isinstance(clients, np.ndarray) else clients

    def find(self, clients: Clients) -> np.ndarray:
        """Return the place of each client ``[clients]``; -1 for those never seen."""
        return self._index.find(clients)

    def place(self, clients: Clients) -> np.ndarray:
        """Return the place of each client ``[cohort]``, giving new ones the next places.

        A client that is listed twice is a `ValueError`.
        """
        if len(set(clients)) < len(clients):
            raise ValueError("a client is listed twice in one round")
        where = self._index.add(clients)
        short = len(self._index) - len(self._sums)
        if short > 0:  # an eighth more than is needed, so that few rounds copy the arrays
            room = short + len(self._index) // 8
            self._sums = np.pad(self._sums, ((0, room), (0, 0)))
            self._gathered = np.pad(self._gathered, (0, room))
            self._last_round = np.pad(self._last_round, (0, room))
        return where

    def add(self, server_round: int, where: np.ndarray, values: np.ndarray) -> None:
        """Take in a round's numbers ``[cohort, columns]`` of the clients at some places."""
        if self.memory == "cumulative":
            self._gathered[where] += 1.0
            self._sums[where] += (values - self._sums[where]) / self._gathered[where][:, None]
        else:
            missed = np.maximum(0, server_round - 1 - self._last_round[where])
            missed[self._gathered[where] == 0.0] = 0
            keep = self.decay ** (1.0 + self.staleness * missed)
            kept = keep[:, None] * self._sums[where]
            self._sums[where] = kept + (1.0 - keep)[:, None] * values
            self._gathered[where] = keep * self._gathered[where] + (1.0 - keep)
        self._last_round[where] = server_round

    def raw(self, where: np.ndarray) -> np.ndarray:
        """Return the averages ``[places, columns]`` before bias correction."""
        return np.asarray(self._sums[where])

    def mean(self, where: np.ndarray) -> np.ndarray:
        """Return the averages ``[places, columns]`` of the clients at some places."""
        if self.bias_correction and self.memory == "ema":
            return np.asarray(self._sums[where] / self._gathered[where][:, None])
        return self.raw(where)

    def everyone(self) -> np.ndarray:
        """Return the averages ``[clients, columns]`` of every client ever seen."""
        return self.mean(np.arange(len(self._index)))

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state: ids in the order of their places, and an array each.

        ``clients`` is an int64 array, or a list where some ids are names; ``sums`` is
        ``[clients, columns]``, ``gathered`` the weight of the average (or the count of rounds
        of a cumulative mean), ``last_round`` the round each was last heard in.
        """
        known = len(self._index)
        return {
            "clients": self._index.clients(),
            "sums": self._sums[:known].copy(),
            "gathered": self._gathered[:known].copy(),
            "last_round": self._last_round[:known].copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back; ``clients`` may be an array or a list."""
        self._index = ClientIndex()
        self._index.add(state["clients"])
        columns, known = self._sums.shape[1], len(self._index)
        sums = np.array(state["sums"], dtype=np.float64)
        sums = sums.reshape(known, -1) if known else np.zeros((0, columns))
        missing = columns - sums.shape[1]  # in a state of before there were as many
        self._sums = np.pad(sums, ((0, 0), (0, missing)))
        self._gathered = np.array(state["gathered"], dtype=np.float64)
        self._last_round = np.array(state["last_round"], dtype=np.int32)
