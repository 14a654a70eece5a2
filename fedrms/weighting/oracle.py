"""Weights from the true noise, which only the simulator knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.options import one_of, positive
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import Weighted, Weighting

MODES = ("clean_only", "true_rate", "inverse_rate", "inverse_variance")


class Oracle(Weighting):
    """Weigh clients by the noise that only the simulator knows: the bar to reach.

    Parameters
    ----------
    mode : str
        ``clean_only`` averages the clients whose true noise is 0. ``true_rate`` scales by
        1 - level, the share of clean labels. ``inverse_rate`` scales by eps / (eps + level), the
        form of the default law with the true rates. ``inverse_variance`` scales by 1 / level^2,
        the Gauss-Markov weight when the level is the standard deviation of target noise.
        Adversaries get 0 in every mode, but where a cohort has nobody else; ``clean_only``
        averages all the honest clients of a cohort without a clean one.
    eps : float
        Of ``inverse_rate``: the level at which a client counts half.

    Raises
    ------
    ConfigError
        For a mode that there is not, and an eps that is not positive.

    Notes
    -----
    These are heuristic weights for label noise, not a bound: closing more than the whole
    gap between FedAvg and the oracle is possible. For target noise ``inverse_variance`` is
    the bound for linear models.
    """

    def __init__(self, *, mode: str = "clean_only", eps: float = 0.1) -> None:
        one_of("strategy.mode", mode, MODES)
        positive("strategy.eps", eps)
        self.mode, self.eps = mode, eps
        self._true_noise: Callable[[int], np.ndarray] | None = None
        self._lie: Callable[[np.ndarray], np.ndarray] | None = None

    def reveal_truth(
        self,
        true_noise: Callable[[int], np.ndarray],
        lie: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Take the truth; the simulator calls this.

        Parameters
        ----------
        true_noise : callable (int) -> array
            The true noise levels ``[clients]`` by round.
        lie : callable (array) -> array of bool, optional
            Which of some clients are adversaries; by default none.
        """
        self._true_noise, self._lie = true_noise, lie

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by the truth."""
        if self._true_noise is None:
            raise ConfigError(
                "strategy", "the oracle needs the true noise", "use it in simulation only"
            )
        clients = np.array(cohort.clients, dtype=np.int64)
        level = self._true_noise(server_round)[clients]
        lying = np.zeros(len(clients), bool) if self._lie is None else self._lie(clients)
        honest = ~lying if not lying.all() else lying
        scale = np.zeros(len(clients))
        scale[honest] = self._from_truth(level[honest])
        return Weighted(cohort, scale)

    def _from_truth(self, level: np.ndarray) -> np.ndarray:
        if self.mode == "clean_only":
            clean = (level == 0.0).astype(np.float64)
            return clean if clean.any() else np.ones_like(level)
        if self.mode == "true_rate":
            return np.clip(1.0 - level, 0.0, 1.0)
        if self.mode == "inverse_rate":
            return np.asarray(self.eps / (self.eps + level))
        positive = level[level > 0.0]
        smallest = float(positive.min()) if positive.size else 1.0
        floor = level if (level > 0.0).all() else np.maximum(level, 1e-3 * smallest)
        return np.asarray((floor.min() / floor) ** 2)
