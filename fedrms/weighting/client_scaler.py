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

from fedrms.options import whole
from fedrms.replies.client_index import ClientId
from fedrms.weighting.client_averages import ClientAverages
from fedrms.weighting.laws import Law, bind_law
from fedrms.weighting.python_names import in_python

__all__ = ["ClientId", "ClientScaler", "Scales"]

NAMES = (
    ("clients", "clients"),
    ("ema", "sums"),
    ("gathered", "gathered"),
    ("last_round", "last_round"),
)
"""Keys of the state, and what :class:`ClientAverages` calls them."""


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
    error : np.ndarray or None
        Standard error of r_k, in its units; None where the law knows none.
    low, high : np.ndarray or None
        Between which r_k is nine times of ten (:mod:`fedrms.weighting.interval`); likewise.
    """

    ema: np.ndarray
    rms: np.ndarray
    scale: np.ndarray
    error: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class ClientScaler:
    """Estimate every client's noise over rounds, and scale clients by it.

    Parameters
    ----------
    decay : float
        beta: how much of the past is kept each time a client takes part. 0.9 remembers
        about ten rounds; 0 uses this round alone and is poor under label noise.
    law : str or callable
        See :mod:`fedrms.weighting.laws`.
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

    @in_python
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
        whole("strategy.warmup", warmup, 0)
        self.warmup = warmup
        self.averages = ClientAverages(
            1,
            decay,
            bias_correction=bias_correction,
            staleness=staleness,
            memory=memory,
        )
        self._law = bind_law(law, law_options)
        self._sorted_rms = np.zeros(0)

    @property
    def nbytes(self) -> int:
        """Bytes of the state's arrays."""
        return self.averages.nbytes + self._sorted_rms.nbytes

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
        known = len(self.averages)
        where = self.averages.place(clients)
        earlier = self._rms(where[where < known])
        column = np.asarray(statistic, dtype=np.float64)[:, None]
        self.averages.add(server_round, where, column)
        rms = self._rms(where)
        self._sorted_rms = exchange(self._sorted_rms, earlier, rms)
        warming = server_round <= self.warmup
        scale = np.ones_like(rms) if warming else self._law(rms, self._sorted_rms)
        return Scales(ema=self.averages.raw(where)[:, 0], rms=rms, scale=scale)

    def rms(self) -> dict[ClientId, float]:
        """Return the current noise estimate of every client ever seen, in units of loss."""
        rms = self._rms(np.arange(len(self.averages))).tolist()
        return dict(zip(self.averages.clients(), rms, strict=True))

    def scale_of(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Return the scales that the current estimates give the next round; 1 for the unseen."""
        where = self.averages.find(clients)
        seen = where >= 0
        scale = np.ones(len(where))
        if seen.any() and self.averages.last_round >= self.warmup:
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
        state = self.averages.state_dict()
        return {name: state[key][:, 0] if key == "sums" else state[key] for name, key in NAMES}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back; ``clients`` may be an array or a list."""
        self.averages.load_state_dict({key: state[name] for name, key in NAMES})
        self._sorted_rms = np.sort(self._rms(np.arange(len(self.averages))))

    def _rms(self, where: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(self.averages.mean(where)[:, 0]))


def exchange(ordered: np.ndarray, out: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Take the values ``out`` from a sorted array ``[n]``, NaN last, and put ``into`` it others.

    All values to remove are there, as often as they are listed. The result is what ``np.sort``
    makes.
    """
    out, into = np.sort(out), np.sort(into)
    # Equal values lie side by side: the second of them is found one further on.
    twins = np.arange(len(out)) - np.searchsorted(out, out)
    rest = np.delete(ordered, np.searchsorted(ordered, out) + twins)
    result = np.insert(rest, np.searchsorted(rest, into), into)
    result.flags.writeable = False  # laws get it as it is
    return result
