"""Tilted empirical risk minimisation (Li, Beirami, Sanjabi and Smith 2021, arXiv:2007.01162)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedrms.errors import ConfigError
from fedrms.replies.cohort import Cohort
from fedrms.server.baselines.fixed_options import UNSCALED, fixed
from fedrms.server.strategy import FedRMS
from fedrms.weighting.client_scaler import Scales


def tilted(losses: np.ndarray, t: float) -> np.ndarray:
    """Return ``exp(t losses)``, relative to its largest.

    Parameters
    ----------
    losses : np.ndarray
        ``[clients]`` units of loss.
    t : float
        The tilt, per unit of loss.
    """
    exponent = t * losses
    return np.asarray(np.exp(exponent - exponent.max()))


class TERM(FedRMS):
    """Minimise the tilted loss ``1/t log sum_k p_k exp(t F_k)``, p_k = n_k / sum n.

    Its gradient weighs client k's by ``p_k exp(t F_k)``, normalised (Lemma 1 of the paper, with
    clients as the groups). F_k is the client's loss at the received model, and its update
    stands for the gradient, as in the paper's federated experiment.

    Parameters
    ----------
    t : float (default: -2)
        Per unit of loss. Above 0 it magnifies high losses, for fairness (the paper's federated
        experiment has 0.1), below 0 it suppresses them, for noisy clients (the paper's noisy
        annotators have -2); 0 is FedAvg.
    **options
        As in :class:`FedRMS`, without those that scale. ``statistic`` says where the loss is
        read: ``incoming``, at the received model, as published.

    Notes
    -----
    The weights are normalised over the round's cohort (the paper's Algorithm 1). Its
    stochastic form (Algorithm 2), and the authors' federated code, normalise by a running
    average of exp(t F_k) over rounds, so that their step has no fixed length; and the code
    draws clients by n_k instead of weighing them by it.
    """

    required_metrics = ("loss-mean",)

    def __init__(self, *, t: float = -2.0, **options: Any) -> None:
        if not np.isfinite(t):
            raise ConfigError("strategy.t", f"is {t}", "set a finite tilt")
        super().__init__(**fixed("TERM", {"statistic": "incoming"} | options, UNSCALED))
        self.t = t

    def scale(self, server_round: int, cohort: Cohort, statistic: np.ndarray) -> Scales:
        """Scale by exp(t F_k), relative to the largest of the round."""
        watched = super().scale(server_round, cohort, statistic)
        return Scales(watched.ema, watched.rms, tilted(cohort.metrics["loss-mean"], self.t))
