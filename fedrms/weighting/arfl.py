"""ARFL: weights that fill up under a level of loss (Li et al. 2021, arXiv:2101.05880)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedrms.errors import ConfigError
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import INCOMING, UNSCALED, Weighted, Weighting


def water_level(losses: np.ndarray, examples: np.ndarray, regularisation: float) -> float:
    """Return the loss eta above which a client has no weight.

    The weights that minimise ``sum_i a_i L_i + lambda/2 sum_i a_i^2 / n_i`` over the simplex are
    ``a_i = n_i max(eta - L_i, 0) / lambda``. With losses in rising order ``eta`` is ``(lambda +
    sum_{i<=p} n_i L_i) / sum_{i<=p} n_i`` for the largest p whose own loss lies below it. The
    regularisation lambda is in examples times loss.
    """
    order = np.argsort(losses, kind="stable")
    held = np.cumsum(examples[order])
    levels = (regularisation + np.cumsum(examples[order] * losses[order])) / held
    # Clients under the water come first in this order; the best client always is one.
    last = np.flatnonzero(levels > losses[order])[-1]
    return float(levels[last])


class ARFL(Weighting):
    """Weigh clients by how far their loss lies below a common level.

    Clients report their loss at the received model. The server alternates as published: local
    training and an average at fixed weights, then the weights that are best for the new losses
    (:func:`water_level`), ``a_k = n_k max(eta - L_k, 0) / lambda``. The first round has the
    weights of FedAvg. Clients whose loss lies above the level have no weight at all.

    Parameters
    ----------
    regularisation : float (default: 1.0)
        lambda as a multiple of the known clients' examples; in units of loss. Large values
        give FedAvg, small ones the best client alone. 1 is the default of the authors' code.

    Notes
    -----
    The published server asks the cohort for its loss at the new model after it averaged. Here
    the next cohort reports it, as it is that model that it receives: with full participation the
    weights are the published ones, in partial participation those of this round's clients are
    fresh. Of absent clients the latest loss counts, for the level only; of those never heard,
    none. Where no client of a cohort has any weight, the published server draws another one;
    here the round is averaged as in FedAvg, with a warning.

    The level depends on the unit of the loss, so lambda must be set for the task.
    """

    asks = INCOMING
    needs = ("loss-mean",)
    decides = UNSCALED

    def __init__(self, *, regularisation: float = 1.0) -> None:
        if not regularisation > 0:
            raise ConfigError("strategy.regularisation", f"is {regularisation}", "set it above 0")
        self.regularisation = regularisation
        self._heard: dict[ClientId, tuple[float, float]] = {}

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale by the depth under the level."""
        losses = np.asarray(cohort.metrics["loss-mean"], dtype=np.float64)
        examples = np.asarray(cohort.examples, dtype=np.float64)
        pairs = zip(losses.tolist(), examples.tolist(), strict=True)
        self._heard.update(zip(cohort.clients, pairs, strict=True))
        depth = np.ones_like(losses)
        if server_round > 1:
            known = np.array(list(self._heard.values()))
            total = self.regularisation * known[:, 1].sum()
            level = water_level(known[:, 0], known[:, 1], total)
            depth = np.maximum(level - losses, 0.0)
        return Weighted(cohort, depth)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        return {"heard": dict(self._heard)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._heard = dict(state["heard"])
