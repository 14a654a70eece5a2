"""Agnostic Federated Learning (Mohri, Sivek and Suresh 2019, arXiv:1902.00146)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.options import number
from fedrms.replies.client_index import ClientId, ClientIndex
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import INCOMING, OWN_WEIGHTS, Weighted, Weighting

ROUNDING = 1e-12
"""What a cohort may hold of the mixture by rounding alone."""


class AFL(Weighting):
    """Minimise the loss of the worst mixture of clients: ``min_w max_lambda sum lambda_k F_k(w)``.

    Stochastic-AFL (section 4 of the paper) steps both players at once, the model down and the
    mixture lambda, which lies on the simplex, up. With F_k the client's loss at the model w
    that it received and w_k the model that it returns, a round is::

        w      <- sum_k lambda_k w_k
        lambda <- projection of lambda + step * F on the simplex

    A fairness method: noisy clients, whose losses stay high, draw the mixture to themselves.

    Parameters
    ----------
    mixture_learning_rate : float (default: 0.1)
        The step of the mixture, per unit of loss; 0 leaves it uniform, which is the plain
        mean of the clients. 0.1 is what the code of Li et al. (arXiv:1905.10497) runs AFL with.

    Notes
    -----
    What differs from the paper:

    - Clients take several local steps where the paper takes one gradient step, so w_k - w
      stands for the gradient.
    - The mixture starts uniform over the clients. Those of later rounds enter with the share
      1 / (clients known), at the cost of all others in proportion.
    - The paper, and the code of Li et al., have every client in every round. Here the clients
      of a round share anew what they held together, and the others keep what they hold: the
      projection is on that part of the simplex. The round's model is averaged by
      lambda_k over their sum; where they hold nothing, which is usual once the mixture has
      gone to a few clients, they share the round equally.
    - The paper's bound is for the mean of the models of all rounds. Here, as in every other
      strategy, the latest model is the result.
    """

    asks = INCOMING
    needs = ("loss-mean",)
    decides = OWN_WEIGHTS

    def __init__(self, *, mixture_learning_rate: float = 0.1) -> None:
        number("strategy.mixture_learning_rate", mixture_learning_rate, 0)
        self.mixture_learning_rate = mixture_learning_rate
        self._index = ClientIndex()
        self._mixture = np.zeros(0)

    def mixture(self) -> dict[ClientId, float]:
        """Return lambda_k of every client ever seen, for the next round; they sum to 1."""
        clients = self._index.clients()
        names = clients.tolist() if isinstance(clients, np.ndarray) else clients
        return dict(zip(names, self._mixture.tolist(), strict=True))

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by lambda_k times the clients known, 1 in a uniform mixture, then step lambda.

        A cohort that holds nothing of the mixture has scales of 1. Examples do not count.
        """
        where = self._places(cohort)
        before = self._mixture[where]
        holds = before.sum() > ROUNDING
        scale = before * len(self._mixture) if holds else np.ones_like(before)
        climbed = before + self.mixture_learning_rate * cohort.metrics["loss-mean"]
        self._mixture[where] = project_on_simplex(climbed, before.sum())
        return Weighted(cohort, scale, count=np.ones_like(scale))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint.

        ``mixture_clients`` and ``mixture`` are ids and lambda_k in one order.
        """
        return {"mixture_clients": self._index.clients(), "mixture": self._mixture.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._index = ClientIndex()
        self._index.add(state["mixture_clients"])
        self._mixture = np.array(state["mixture"], dtype=np.float64)

    def _places(self, cohort: Cohort) -> np.ndarray:
        """Return where the cohort's lambda lie; clients not seen before enter first."""
        where = self._index.add(cohort.clients)
        known, new = len(self._index), len(self._index) - len(self._mixture)
        if new:
            kept = self._mixture * ((known - new) / known)
            self._mixture = np.append(kept, np.full(new, 1.0 / known))
        return where


def project_on_simplex(point: np.ndarray, total: float = 1.0) -> np.ndarray:
    """Return the nearest point ``[n]`` whose coordinates are 0 or more and sum to ``total``.

    One number is subtracted from every coordinate and what falls below 0 is set to 0; the number
    follows from the sorted coordinates (Duchi et al. 2008, "Efficient projections onto the l1-ball
    for learning in high dimensions", figure 1).
    """
    falling = np.sort(point)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(point) + 1)
    kept = np.flatnonzero(falling > excess)
    threshold = excess[kept[-1]] if kept.size else falling[0]  # nothing is kept of a total of 0
    return np.asarray(np.maximum(point - threshold, 0.0))
