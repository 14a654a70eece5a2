"""Tilted empirical risk minimisation (Li, Beirami, Sanjabi and Smith 2021, arXiv:2007.01162)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import INCOMING, UNSCALED, Weighted, Weighting


def tilted(losses: np.ndarray, t: float) -> np.ndarray:
    """Return ``exp(t losses)`` ``[clients]``, relative to its largest; t is per unit of loss."""
    exponent = t * losses
    return np.asarray(np.exp(exponent - exponent.max()))


class TERM(Weighting):
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

    Notes
    -----
    The weights are normalised over the round's cohort (the paper's Algorithm 1). Its
    stochastic form (Algorithm 2), and the authors' federated code, normalise by a running
    average of exp(t F_k) over rounds, so that their step has no fixed length; and the code
    draws clients by n_k instead of weighing them by it.
    """

    asks = INCOMING
    needs = ("loss-mean",)
    decides = UNSCALED

    def __init__(self, *, t: float = -2.0) -> None:
        if not np.isfinite(t):
            raise ConfigError("strategy.t", f"is {t}", "set a finite tilt")
        self.t = t

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by exp(t F_k), relative to the largest of the round."""
        return Weighted(cohort, tilted(cohort.metrics["loss-mean"], self.t))
