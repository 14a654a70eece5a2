"""What a client reports beside its parameters: one row of numbers a client."""

from __future__ import annotations

import numpy as np

from fedrms.client.loss_moments import MOMENTS, metric_key, stacked_moments
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
    other_losses: np.ndarray | None,
    other_present: np.ndarray | None,
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
        ``[steps, clients, batch]`` losses before each update; 0 where padded.
    other_losses, other_present : np.ndarray, optional
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
    elsewhere: np.ndarray = np.zeros(len(clients), dtype=bool)
    if other_present is not None:
        elsewhere = np.asarray(other_present.any(1))
    moments = {name: np.empty(len(clients)) for name in MOMENTS}
    for own in (~elsewhere, elsewhere):
        if not own.any():
            continue
        if own is elsewhere and other_losses is not None and other_present is not None:
            values = stacked_moments(*_narrow(other_losses[own], other_present[own]))
        else:
            values = stacked_moments(*_scored(plan, step_losses, own))
        for name, column in moments.items():
            column[own] = values[name]
    with np.errstate(invalid="ignore", over="ignore"):
        total = step_losses.sum(0, dtype=np.float64).sum(1)
    fallback = needs_received_losses(settings, plan) & (settings.statistic != "incoming")
    return {
        "partition-id": np.asarray(clients, dtype=np.int64),
        "num-examples": np.asarray(sizes, dtype=np.int64),
        "steps": plan.steps,
        "train-loss": total / plan.present.sum(0).sum(1),
        "update-norm": np.asarray(update_norm, dtype=np.float64),
        "statistic-fallback": fallback.astype(np.int64),
    } | {metric_key(name): value for name, value in moments.items()}


def _scored(
    plan: Schedule, step_losses: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses that the statistic is read from, ``[clients, examples]``, and a mask."""
    steps = np.flatnonzero(plan.scored[:, own].any(1))
    window = slice(steps[0], steps[-1] + 1)
    losses = step_losses[window].compress(own, 1)
    present = (
        plan.present[window].compress(own, 1) & plan.scored[window].compress(own, 1)[..., None]
    )
    count = losses.shape[1]
    return (
        np.moveaxis(losses, 1, 0).reshape(count, -1),
        np.moveaxis(present, 1, 0).reshape(count, -1),
    )


def _narrow(losses: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the rows that nobody is scored on."""
    wanted = present.any(0)
    return losses[:, wanted], present[:, wanted]
