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
from fedrms.server.laws import Law, bind_law

ClientId = int | str


@dataclass(frozen=True)
class Scales:
    """What the scaler makes of a cohort; every array is ``[cohort]`` float64.

    Attributes
    ----------
    ema : np.ndarray
        v_k, loss squared, before bias correction.
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

    Notes
    -----
    The state is three compact arrays (``v``, gathered weight, last round), one entry a
    client ever seen, keyed by client id; an absent client keeps its place in the
    reference that the laws compare with.
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
    ) -> None:
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
        self._law = bind_law(law, law_options)
        self._place: dict[ClientId, int] = {}
        self._ema = np.zeros(0)
        self._gathered = np.zeros(0)
        self._last_round = np.zeros(0, dtype=np.int64)

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
        """
        statistic = np.asarray(statistic, dtype=np.float64)
        where = self._places(clients)
        missed = np.maximum(0, server_round - 1 - self._last_round[where])
        missed[self._gathered[where] == 0.0] = 0
        keep = self.decay ** (1.0 + self.staleness * missed)
        self._ema[where] = keep * self._ema[where] + (1.0 - keep) * statistic
        self._gathered[where] = keep * self._gathered[where] + (1.0 - keep)
        self._last_round[where] = server_round
        rms = self._rms()
        cohort = rms[where]
        scale = (
            np.ones_like(cohort) if server_round <= self.warmup else self._law(cohort, np.sort(rms))
        )
        return Scales(ema=self._ema[where], rms=cohort, scale=scale)

    def rms(self) -> dict[ClientId, float]:
        """Return the current noise estimate of every client ever seen, in units of loss."""
        return dict(zip(self._place, self._rms().tolist(), strict=True))

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        rms = self._rms()
        seen = [client for client in clients if client in self._place]
        scale = dict.fromkeys(clients, 1.0)
        if seen and self._last_round.max() >= self.warmup:
            places = [self._place[client] for client in seen]
            scale |= dict(zip(seen, self._law(rms[places], np.sort(rms)).tolist(), strict=True))
        return np.array([scale[client] for client in clients])

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, for a checkpoint."""
        return {
            "clients": list(self._place),
            "ema": self._ema.copy(),
            "gathered": self._gathered.copy(),
            "last_round": self._last_round.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._place = {client: place for place, client in enumerate(state["clients"])}
        self._ema = np.array(state["ema"], dtype=np.float64)
        self._gathered = np.array(state["gathered"], dtype=np.float64)
        self._last_round = np.array(state["last_round"], dtype=np.int64)

    def _places(self, clients: Sequence[ClientId]) -> np.ndarray:
        for client in clients:
            self._place.setdefault(client, len(self._place))
        new = len(self._place) - len(self._ema)
        if new:
            self._ema = np.pad(self._ema, (0, new))
            self._gathered = np.pad(self._gathered, (0, new))
            self._last_round = np.pad(self._last_round, (0, new))
        return np.array([self._place[client] for client in clients], dtype=np.int64)

    def _rms(self) -> np.ndarray:
        mean = self._ema / self._gathered if self.bias_correction else self._ema
        return np.sqrt(mean)
