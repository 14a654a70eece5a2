"""q-FedAvg as published (Li, Sanjabi, Beirami and Smith 2020, arXiv:1905.10497, Algorithm 2)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedrms.options import number, positive
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import INCOMING, OWN_STEP, Weighted, Weighting

TINY = 1e-10
"""Added to every loss, as the authors' code does, so that a loss of 0 has powers."""


class QFFL(Weighting):
    """Minimise ``sum_k p_k F_k^(q + 1) / (q + 1)``: clients with high losses count for more.

    With F_k the client's loss at the model w that it received, w_k the model that it returns
    and L the inverse of its learning rate::

        Delta w_k = L (w - w_k)
        Delta_k   = F_k^q Delta w_k
        h_k       = q F_k^(q - 1) ||Delta w_k||^2 + L F_k^q
        w        <- w - sum_k Delta_k / sum_k h_k

    So client k's update ``w_k - w`` has the weight ``L F_k^q / sum_j h_j``. For q > 0 the
    weights sum to less than 1: the step is shorter where updates are long against losses. A
    fairness method: it gives noisy clients, whose losses are high, more weight and not less.

    Parameters
    ----------
    q : float (default: 1)
        0 is FedAvg, the plain mean of the updates; large values approach the worst client's
        loss. The paper has 1 on its synthetic data, 5 on Vehicle, 0.001 on Shakespeare.
    client_learning_rate : float
        Its inverse stands for L, the Lipschitz constant of the gradient at q = 0.

    Notes
    -----
    The paper draws client k with probability p_k = n_k / n and sums without weights. Here
    clients are drawn alike, and are summed without weights all the same: every client has
    the same p_k, however many examples it holds.

    Flower's ``QFedAvg`` (``strategy=qfedavg``) takes the mean loss during local training in
    the place of F_k.
    """

    asks = INCOMING
    needs = ("loss-mean",)
    decides = OWN_STEP

    def __init__(self, *, client_learning_rate: float, q: float = 1.0) -> None:
        number("strategy.q", q, 0)
        positive("strategy.client_learning_rate", client_learning_rate)
        self.q = q
        self.lipschitz = 1.0 / client_learning_rate

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by F_k^q, relative to the highest loss of the round.

        The weights are L F_k^q / sum_j h_j; both sides are divided by L max F^q.
        """
        losses = np.asarray(cohort.metrics["loss-mean"] + TINY)
        scale = (losses / losses.max()) ** self.q
        squares = np.square(cohort.update_norms(received))
        stretch = 1.0 + self.q * self.lipschitz * squares / losses
        return Weighted(cohort, scale, weights=np.asarray(scale / (scale * stretch).sum()))
