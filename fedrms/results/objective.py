"""What a run really minimises: the share that each client had in all its steps together.

Federated averaging minimises the mean of the clients' losses, weighted by their examples.
A strategy that weighs clients in another way, or a cohort that leaves some out, minimises
another mean; its weights are the clients' shares in the sum of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedrms.results.attribution import NAN, Array, Floats, _floats

OBJECTIVE: Final = ("objective_clean", "objective_clean_examples", "objective_clients")
"""Names of the numbers that `Objective.metrics` returns."""


class Objective:
    r"""Add up each client's share in the global model's steps, round by round.

    After round T, client k's weight in the effective objective is

    .. math:: q_k = c_k / \sum_j c_j, \qquad c_k = \sum_{t \le T} \eta_t w_{k,t},

    with :math:`\eta_t` the server's learning rate and :math:`w_{k,t}` the weight of the
    client's update in round t (0 where it did not take part). A server optimizer with a
    memory spreads a step over later rounds, which is not followed here. Only clients that
    ever took part are held in memory.
    """

    def __init__(self) -> None:
        self._ids = np.zeros(0, dtype=np.int64)
        self._step = np.zeros(0)
        self._total = self._squares = 0.0
        self._clean = self._clean_examples = self._examples = 0.0

    def add(
        self, clients: Array, weight: Array, num_examples: Array, clean: Array, lr: float = 1.0
    ) -> None:
        """Add one round.

        Parameters
        ----------
        clients, weight, num_examples, clean : array ``[clients]``
            Those that took part: ids, weights as applied (NaN counts as 0), training
            examples, and whether each is clean in this round (bool). If no weight is
            known, the round is left out.
        lr : float
            The server's learning rate in this round.
        """
        if np.isnan(weight).all() or not math.isfinite(lr):
            return
        gained = lr * np.nan_to_num(_floats(weight))
        share = lr * _floats(num_examples) / max(float(np.sum(num_examples)), 1.0)
        rows = self._rows_for(clients)
        before = self._step[rows]
        self._step[rows] = before + gained
        self._squares += float(np.sum((before + gained) ** 2 - before**2))
        self._total += float(gained.sum())
        self._clean += float(gained[clean].sum())
        self._examples += float(share.sum())
        self._clean_examples += float(share[clean].sum())

    def share_of(self, clients: Array) -> Floats:
        """Return the weight of some clients in the objective so far; NaN if it is not known."""
        if not self._total > 0:
            return np.full(len(clients), NAN)
        rows = np.searchsorted(self._ids, clients).clip(max=len(self._ids) - 1)
        return np.where(self._ids[rows] == clients, self._step[rows] / self._total, 0.0)

    def metrics(self) -> dict[str, float]:
        r"""Return the objective so far in three numbers, NaN while it is not known.

        Returns
        -------
        dict of str to float
            ``objective_clean``: the clean clients' share. ``objective_clean_examples``:
            what their examples would have given them in the same rounds, as FedAvg does.
            ``objective_clients``: :math:`1 / \sum q_k^2`, the number of equally weighted
            clients that the objective amounts to.
        """
        if not self._total > 0:
            return dict.fromkeys(OBJECTIVE, NAN)
        values = (
            self._clean / self._total,
            self._clean_examples / self._examples if self._examples > 0 else NAN,
            self._total**2 / self._squares,
        )
        return dict(zip(OBJECTIVE, values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was added up, for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        vars(self).update(state)

    def _rows_for(self, clients: Array) -> NDArray[np.int64]:
        """Return the rows of clients, made for those that are new."""
        ids = np.union1d(self._ids, clients)
        if len(ids) > len(self._ids):
            step = np.zeros(len(ids))
            step[np.searchsorted(ids, self._ids)] = self._step
            self._ids, self._step = ids, step
        return np.searchsorted(self._ids, clients)


def objective_line(metrics: Mapping[str, float]) -> str | None:
    """Say in one line whom the model served; None if that is not known."""
    clean, examples, _ = (metrics.get(name, NAN) for name in OBJECTIVE)
    if not (math.isfinite(clean) and math.isfinite(examples)):
        return None
    return (
        f"over all rounds clean clients had {clean:.0%} of the weight, {examples:.0%} of the rows"
    )
