"""Precision-Weighted Federated Learning (Reyes et al. 2021, arXiv:2107.09627)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import over_columns
from fedrms.combining.row_blocks import Stack, blocks_of
from fedrms.errors import ConfigError
from fedrms.replies.cohort import Cohort
from fedrms.weighting.weighting import OWN_STEP, Weighted, Weighting

CELLS = 1 << 17
"""Most numbers handled at a time."""


class PrecisionWeighted(Weighting):
    """Average every parameter with its own weights: the inverse variance of its gradient.

    ``w_j <- sum_k w_kj / v_kj / sum_k 1 / v_kj``, where v_kj is the second raw moment
    (uncentred variance) of client k's gradient of parameter j, as Adam keeps it. Numbers of
    examples do not enter. Where all variances are alike it is the plain mean.

    Parameters
    ----------
    gradient_decay : float (default: 0.999)
        beta_2 of the moving average over the mini-batches of a client's round, which starts at
        0 and is corrected for that as in Adam.
    eps : float (default: 1e-8)
        Added to every v, in squared gradients; one that is large beside v gives the plain mean,
        which is no longer the paper's method. A parameter that a client's data never touches
        has v = 0 there: as published, that client's value, which is the received one, then
        outweighs the others'.

    Notes
    -----
    The variances and the average are the paper's. What differs: the paper's clients also step by
    Adam, those here by the optimizer that all strategies share, and v is taken along their way.
    The average of squares begins anew each round, as clients keep nothing between rounds; how
    the paper has it could not be made certain. Replies are twice as large, in memory and over a
    network, and linear layers are trained on the slower way that forms gradients.

    In the tables a client's ``weight`` is its mean share over parameters.
    """

    decides = OWN_STEP

    def __init__(self, *, gradient_decay: float = 0.999, eps: float = 1e-8) -> None:
        if not 0.0 < gradient_decay < 1.0:
            raise ConfigError("strategy.gradient_decay", f"is {gradient_decay}", "set it in (0, 1)")
        if not eps > 0.0:
            raise ConfigError("strategy.eps", f"is {eps}", "set it above 0")
        self.asks = {"gradient-decay": gradient_decay}
        self.eps = eps

    def __call__(self, server_round: int, cohort: Cohort, received: Tensor) -> Weighted:
        """Scale nobody: whose parameter counts how much, the rule of combination says."""
        return Weighted(cohort, np.ones(len(cohort.clients)))

    def rule(self, parameters: Stack, received: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return the update ``[parameters]`` and the clients' mean shares in it ``[cohort]``."""
        return precision_weighted_mean(parameters, received, self.eps)


def precision_weighted_mean(rows: Stack, received: Tensor, eps: float) -> tuple[Tensor, np.ndarray]:
    """Average models by parameter with weights 1 / (v + eps), in float64.

    Rows are ``[clients, 2 parameters]``: the model that each client returned, and behind it the
    variance of each parameter's gradient. Returns the step ``[parameters]`` from ``received``, and
    ``[clients]`` the mean over parameters of each client's share of the weight.
    """
    clients, size = rows.shape[0], len(received)
    width = max(256, CELLS // clients)
    precision = torch.zeros(size, dtype=torch.float64)
    for _, block in blocks_of(rows):
        models, variances = block[:, :size].cpu(), block[:, size:].cpu()

        def add(columns: slice, variances: Tensor = variances) -> None:
            precision[columns] += (variances[:, columns].double() + eps).reciprocal().sum(0)

        over_columns(add, models.shape, width)

    step = torch.zeros(size, dtype=torch.float64)
    shares = np.empty(clients)
    for places, block in blocks_of(rows):
        models, variances = block[:, :size].cpu(), block[:, size:].cpu()
        parts: dict[int, Tensor] = {}

        def move(
            columns: slice,
            models: Tensor = models,
            variances: Tensor = variances,
            parts: dict[int, Tensor] = parts,
        ) -> None:
            share = (variances[:, columns].double() + eps).reciprocal() / precision[columns]
            away = models[:, columns].double() - received[columns].double()
            step[columns] += (share * away).sum(0)
            parts[columns.start] = share.sum(1)

        over_columns(move, models.shape, width)
        whole = torch.stack([parts[start] for start in sorted(parts)]).sum(0)
        shares[places.numpy()] = whole.numpy() / size
    return step.to(received.dtype), shares
