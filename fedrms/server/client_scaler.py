"""The RMSProp of clients: an exponential moving average of each client's loss noise.

v_k    <- beta v_k + (1 - beta) u_k          u_k: this round's noise statistic
vhat_k  = v_k / (1 - beta^(rounds k took part))
r_k     = sqrt(vhat_k)                        in units of loss
s_k     = law(r_k; r of all known clients)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrms.errors import ConfigError
from fedrms.server.client_index import ClientId, ClientIndex
from fedrms.server.laws import Law, bind_law

__all__ = ["ClientId", "ClientScaler", "Scales"]

MEMORIES = ("ema", "cumulative")
"""How past rounds are kept: with weights that fall, or all alike."""


@dataclass(frozen=True)
class Scales:
    """What the scaler makes of a cohort; every array is ``[cohort]`` float64.

    Attributes
    ----------
    ema : np.ndarray
        v_k, loss squared, before bias correction; with ``memory="cumulative"`` the mean.
    rms : np.ndarray
        r_k, units of loss.
    scale : np.ndarray
        s_k, no unit; 1 leaves a client's update as it is.
    """

    ema: np.ndarray
    rms: np.ndarray
    scale: np.ndarray


class ClientScaler:
    """Estimate every client's noise over rounds, and scale clients by it.

    Parameters
    ----------
    decay : float
        beta: how much of the past is kept each time a client takes part. 0.9 remembers
        about ten rounds; 0 uses this round alone and is poor under label noise.
    law : str or callable
        See :mod:`fedrms.server.laws`.
    law_options : mapping, optional
        The law's parameters.
    bias_correction : bool
        Divide by the weight that the average has gathered, by the client's own count of
        rounds (as Adam does by steps), so that a client's first round counts in full.
    staleness : float
        How much of each missed round counts for forgetting: the past is kept with weight
        ``decay ** (1 + staleness * rounds missed)``. 0 forgets only by the client's own
        rounds; 1 forgets by the clock.
    warmup : int
        Rounds in which everyone's scale stays 1 while the estimates gather.
    memory : str
        ``ema`` forgets, as RMSProp does. ``cumulative`` is the mean of all rounds that the
        client took part in, each with weight 1 / count: it never forgets, as the sum of
        Adagrad (Duchi, Hazan and Singer 2011), so it is steadier where a client's noise
        stays the same and slow where it changes. It reads neither `decay` nor
        `bias_correction`, and no `staleness`. For no memory at all set ``decay=0``.

    Notes
    -----
    The state is compact arrays keyed by client id, about 42 bytes a client ever seen: a
    million clients take less than 50 MB. An absent client keeps its place in the reference
    that the laws compare with. The reference is kept sorted: a round moves the cohort's
    values in it and sorts nothing else.
    """

    def __init__(
        self,
        decay: float = 0.9,
        law: str | Law = "deadzone",
        law_options: Mapping[str, Any] | None = None,
        *,
        bias_correction: bool = True,
        staleness: float = 0.0,
        warmup: int = 0,
        memory: str = "ema",
    ) -> None:
        if memory not in MEMORIES:
            raise ConfigError(
                "strategy.memory", f"there is no {memory!r}", f"choose one of {', '.join(MEMORIES)}"
            )
        if memory == "cumulative" and staleness:
            raise ConfigError(
                "strategy.staleness",
                f"is {staleness}, but strategy.memory=cumulative forgets nothing",
                "set it to 0, or strategy.memory=ema",
            )
        if not 0.0 <= decay < 1.0:
            raise ConfigError("strategy.decay", f"is {decay}", "set it in [0, 1)")
        if not 0.0 <= staleness <= 1.0:
            raise ConfigError("strategy.staleness", f"is {staleness}", "set it in [0, 1]")
        if warmup < 0:
            raise ConfigError("strategy.warmup", f"is {warmup}", "set rounds, 0 or more")
        self.decay = decay
        self.bias_correction = bias_correction
        self.staleness = staleness
        self.warmup = warmup
        self.memory = memory
        self._law = bind_law(law, law_options)
        self._index = ClientIndex()
        self._ema = np.zeros(0)
        self._gathered = np.zeros(0)
        self._last_round = np.zeros(0, dtype=np.int32)
        self._sorted_rms = np.zeros(0)

    @property
    def nbytes(self) -> int:
        """Bytes of the state's arrays."""
        arrays = (self._ema, self._gathered, self._last_round, self._sorted_rms)
        return self._index.nbytes + sum(array.nbytes for array in arrays)

    def update(
        self, server_round: int, clients: Sequence[ClientId], statistic: np.ndarray
    ) -> Scales:
        """Take in a round's statistics and return the cohort's scales.

        Parameters
        ----------
        server_round : int
            The round, from 1.
        clients : sequence of int or str
            ``[cohort]`` distinct client ids; their order does not matter.
        statistic : np.ndarray
            ``[cohort]`` noise statistics, loss squared, 0 or more and finite.

        Raises
        ------
        ValueError
            If a client is listed twice.
        """
        if len(set(clients)) < len(clients):
            raise ValueError("a client is listed twice in one round")
        statistic = np.asarray(statistic, dtype=np.float64)
        known = len(self._index)
        where = self._index.add(clients)
        self._make_room()
        earlier = self._rms(where[where < known])
        if self.memory == "cumulative":
            self._gathered[where] += 1.0
            self._ema[where] += (statistic - self._ema[where]) / self._gathered[where]
        else:
            missed = np.maximum(0, server_round - 1 - self._last_round[where])
            missed[self._gathered[where] == 0.0] = 0
            keep = self.decay ** (1.0 + self.staleness * missed)
            self._ema[where] = keep * self._ema[where] + (1.0 - keep) * statistic
            self._gathered[where] = keep * self._gathered[where] + (1.0 - keep)
        self._last_round[where] = server_round
        rms = self._rms(where)
        self._sorted_rms = exchange(self._sorted_rms, earlier, rms)
        warming = server_round <= self.warmup
        scale = np.ones_like(rms) if warming else self._law(rms, self._sorted_rms)
        return Scales(ema=self._ema[where], rms=rms, scale=scale)

    def rms(self) -> dict[ClientId, float]:
        """Return the current noise estimate of every client ever seen, in units of loss."""
        clients = self._index.clients()
        names = clients.tolist() if isinstance(clients, np.ndarray) else clients
        return dict(zip(names, self._rms(np.arange(len(names))).tolist(), strict=True))

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        where = self._index.find(clients)
        seen = where >= 0
        scale = np.ones(len(where))
        if seen.any() and self._last_round.max() >= self.warmup:
            scale[seen] = self._law(self._rms(where[seen]), self._sorted_rms)
        return scale

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, for a checkpoint.

        Returns
        -------
        dict
            ``clients``, ids in the order in which they were first seen: an int64 array, or
            a list where some are names; and ``ema``, ``gathered`` (the weight of the average,
            or the count of rounds of a cumulative mean), ``last_round``, an array each in the
            same order.
        """
        known = len(self._index)
        return {
            "clients": self._index.clients(),
            "ema": self._ema[:known].copy(),
            "gathered": self._gathered[:known].copy(),
            "last_round": self._last_round[:known].copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back; ``clients`` may be an array or a list."""
        self._index = ClientIndex()
        self._index.add(state["clients"])
        self._ema = np.array(state["ema"], dtype=np.float64)
        self._gathered = np.array(state["gathered"], dtype=np.float64)
        self._last_round = np.array(state["last_round"], dtype=np.int32)
        self._sorted_rms = np.sort(self._rms(np.arange(len(self._index))))

    def _make_room(self) -> None:
        """Lengthen the arrays by an eighth more than is needed, so that few rounds copy them."""
        short = len(self._index) - len(self._ema)
        if short > 0:
            room = (0, short + len(self._index) // 8)
            self._ema = np.pad(self._ema, room)
            self._gathered = np.pad(self._gathered, room)
            self._last_round = np.pad(self._last_round, room)

    def _rms(self, where: np.ndarray) -> np.ndarray:
        ema = self._ema[where]
        corrected = self.bias_correction and self.memory == "ema"
        mean = ema / self._gathered[where] if corrected else ema
        return np.asarray(np.sqrt(mean))


def exchange(ordered: np.ndarray, out: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Take the values ``out`` from a sorted array and put the values ``into`` it.

    Parameters
    ----------
    ordered : np.ndarray
        ``[n]``, sorted; NaN last.
    out : np.ndarray
        Values to remove, in any order, each as often as it is listed; all are there.
    into : np.ndarray
        Values to insert, in any order.

    Returns
    -------
    np.ndarray
        What ``np.sort`` makes of the remaining and the new values.
    """
    out, into = np.sort(out), np.sort(into)
    # Equal values lie side by side: the second of them is found one further on.
    twins = np.arange(len(out)) - np.searchsorted(out, out)
    rest = np.delete(ordered, np.searchsorted(ordered, out) + twins)
    result = np.insert(rest, np.searchsorted(rest, into), into)
    result.flags.writeable = False  # laws get it as it is
    return result
