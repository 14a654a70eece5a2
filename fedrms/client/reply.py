"""What a client reports beside its parameters: one row of numbers a client."""

from __future__ import annotations

import numpy as np

from fedrms.client.loss_moments import metric_key, stacked_moments
from fedrms.client.schedule import Schedule
from fedrms.client.settings import LocalSettings


def needs_received_losses(settings: LocalSettings, plan: Schedule) -> np.ndarray:
    """Return ``[clients]``: who must score all its data at the received model."""
    if settings.statistic == "holdout":
        return np.asarray(~plan.held_out.any(1))
    return np.asarray(plan.fallback | (settings.statistic == "incoming"))


def reply_metrics(
    settings: LocalSettings,
    plan: Schedule,
    *,
    clients: np.ndarray,
    sizes: np.ndarray,
    step_losses: np.ndarray,
    other_losses: np.ndarray,
    other_present: np.ndarray,
    update_norm: np.ndarray,
) -> dict[str, np.ndarray]:
    """Assemble the metrics of a cohort's replies, each ``[clients]``.

    Parameters
    ----------
    settings, plan
        The round's orders and batches.
    clients, sizes : np.ndarray
        ``[clients]`` index and number of examples.
    step_losses : np.ndarray
        ``[steps, clients, batch]`` losses before each update.
    other_losses, other_present : np.ndarray
        ``[clients, rows]`` losses for the statistics that are not prequential: at the
        received model (``incoming`` and the fallback) or on held-out rows (``holdout``),
        and which of them count.
    update_norm : np.ndarray
        ``[clients]`` L2 norm of the update.

    Returns
    -------
    dict
        ``partition-id``, ``num-examples``, ``steps``, ``train-loss`` (mean loss over all
        batches), ``update-norm``, the loss moments of the statistic (see
        :func:`fedrms.client.loss_moments.stacked_moments`) and ``statistic-fallback``,
        1 where the client had too little to score and reported ``incoming``.
    """
    by_client = np.moveaxis(step_losses, 1, 0).reshape(len(clients), -1)
    scored = np.moveaxis(plan.scored[:, :, None] & plan.present, 1, 0).reshape(len(clients), -1)
    trained = np.moveaxis(plan.present, 1, 0).reshape(len(clients), -1)
    elsewhere = other_present.any(1)
    prequential = stacked_moments(by_client, scored)
    other = stacked_moments(other_losses, other_present)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.where(trained, by_client.astype(np.float64), 0.0).sum(1)
    fallback = needs_received_losses(settings, plan) & (settings.statistic != "incoming")
    return {
        "partition-id": np.asarray(clients, dtype=np.int64),
        "num-examples": np.asarray(sizes, dtype=np.int64),
        "steps": plan.steps,
        "train-loss": total / trained.sum(1),
        "update-norm": np.asarray(update_norm, dtype=np.float64),
        "statistic-fallback": fallback.astype(np.int64),
    } | {
        metric_key(name): np.where(elsewhere, other[name], prequential[name])
        for name in prequential
    }
