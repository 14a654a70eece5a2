"""Tilted ERM on two levels (Li, Beirami, Sanjabi and Smith 2021, arXiv:2007.01162)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.replies.cohort import Cohort
from fedrms.weighting.term import tilted
from fedrms.weighting.weighting import INCOMING, UNSCALED, Weighted, Weighting


class TieredTERM(Weighting):
    """Tilt over a client's examples by tau, and over clients by t.

    The paper's hierarchical objective, with clients as its groups::

        J(t, tau) = 1/t log sum_k p_k exp(t R_k),                      p_k = n_k / sum n
        R_k       = 1/tau log (1/n_k sum_i exp(tau f_i)),              f_i the losses of client k

    The gradient of J weighs client k's gradient of R_k by ``p_k exp(t R_k)``. What a server
    can do of it, without a change to the clients, is this weight:

    - **Covered**: the outer level, exactly, given R_k.
    - **Approximated**: R_k, from the two moments that clients report, to second order:
      ``mean + tau / 2 * variance``. That is exact for Gaussian losses, and good while tau
      times the losses' standard deviation is below about 1.
    - **Not covered**: within a client the gradient of R_k weighs example i by exp(tau f_i).
      Clients here train on the plain mean of their losses. Groups that cut across clients,
      such as the classes in the paper's (class, annotator) experiment, are not covered either.

    Parameters
    ----------
    t : float (default: -2)
        The tilt over clients, per unit of loss: below 0 it suppresses clients with high
        R_k (the paper's tilt over annotators is -2), above 0 it magnifies them.
    tau : float (default: 0.1)
        The tilt over a client's examples, per unit of loss; 0 makes R_k the mean loss, which
        is :class:`~fedrms.weighting.TERM`. Above 0 a client whose losses spread counts
        as one of higher loss, below 0 as one of lower.
    """

    asks = INCOMING
    needs = ("loss-mean", "loss-variance")
    decides = UNSCALED

    def __init__(self, *, t: float = -2.0, tau: float = 0.1) -> None:
        for key, value in (("t", t), ("tau", tau)):
            if not np.isfinite(value):
                raise ConfigError(f"strategy.{key}", f"is {value}", "set a finite tilt")
        self.t = t
        self.tau = tau

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by exp(t R_k), relative to the largest of the round."""
        mean, variance = cohort.metrics["loss-mean"], cohort.metrics["loss-variance"]
        risks = mean + self.tau / 2.0 * variance
        return Weighted(cohort, tilted(risks, self.t))
