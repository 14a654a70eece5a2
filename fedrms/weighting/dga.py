"""Dynamic Gradient Aggregation (Dimitriadis et al. 2021, arXiv:2106.07578), as FLUTE has it.

FLUTE: arXiv:2203.13789, github.com/microsoft/msrflute, ``core/strategies/dga.py``.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedrms.combining.row_blocks import Stack, blocks_of
from fedrms.options import number, one_of
from fedrms.replies.cohort import Cohort
from fedrms.weighting.term import tilted
from fedrms.weighting.weighting import OWN_WEIGHTS, Weighted, Weighting

MEASURES = ("loss", "variance")


class DGA(Weighting):
    """Weigh clients by the softmax of minus beta times a measure of how bad their update is.

    ``exp(-beta m_k) / sum_j exp(-beta m_j)``; how many examples a client has does not count,
    as in FLUTE.

    Parameters
    ----------
    measure : str (default: "loss")
        ``loss``: the mean loss over the batches of local training, ``train-loss`` in the
        reply (FLUTE's ``weight_train_loss: train_loss``). ``variance``: the variance of the
        numbers in the client's pseudo-gradient ``w - w_k`` (FLUTE's ``mag_var_loss`` with
        ``stats_on_smooth_grad``).
    beta : float (default: 1)
        Per unit of the measure; 0 is the plain mean. FLUTE's examples have 1 and 20. Neither
        measure is free of units: ``variance`` is tiny, so that a beta that does anything is of
        the order of its inverse.

    Notes
    -----
    What differs from FLUTE's code:

    - It divides the sum of the batches' mean losses by the number of examples, so that its
      beta is per (loss / batch size).
    - It computes the variance as the mean square minus the square of the root mean square,
      which is 0 whatever the gradient: its ``mag_var_loss`` weighs every client alike. Here
      the square of the mean is subtracted.
    - Without ``stats_on_smooth_grad`` it takes the variance over the gradients of all local
      steps, which a server does not see.
    - Its weights by reinforcement learning, and its stale gradients, are not here.
    """

    decides = OWN_WEIGHTS

    def __init__(self, *, measure: str = "loss", beta: float = 1.0) -> None:
        one_of("strategy.measure", measure, MEASURES)
        number("strategy.beta", beta, 0)
        self.measure = measure
        self.beta = beta
        self.needs = ("train-loss",) if measure == "loss" else ()

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by the softmax, times the cohort's size so that 1 is the plain mean.

        Examples do not count.
        """
        if self.measure == "loss":
            measured = cohort.metrics["train-loss"]
        else:
            measured = update_variances(cohort.parameters.to(received.device), received)
        share = tilted(measured, -self.beta)
        return Weighted(cohort, share / share.mean(), count=np.ones_like(share))


def update_variances(parameters: Stack, received: Tensor) -> np.ndarray:
    """Return ``[clients]`` the variance of the numbers in each client's update."""
    variances = np.empty(parameters.shape[0])
    for rows, block in blocks_of(parameters):
        for row, model in zip(rows.tolist(), block, strict=True):
            variances[row] = (model - received).double().var(correction=0)
    return variances
