"""What a client reports beside its parameters: one row of numbers a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fedrms.client.class_losses import stacked_class_losses
from fedrms.client.loss_moments import stacked_moments
from fedrms.client.own_statistics import own_statistics
from fedrms.client.schedule import Schedule
from fedrms.client.settings import LocalSettings
from fedrms.client.similar_sizes import similar_sizes
from fedrms.client.statistic_privacy import private_losses
from fedrms.own_function import OwnFunction
from fedrms.statistic import MOMENTS, of_losses

LEAST_BRAKE = 0.01
"""Momentum carries a step no farther than a hundredfold."""


class Scored(NamedTuple):
    """Rows that were scored outside of training.

    Attributes
    ----------
    scores : np.ndarray
        ``[clients, rows, scores]`` losses, and perhaps chance losses beside them.
    present : np.ndarray
        ``[clients, rows]`` which of these rows count.
    labels : np.ndarray or None
        ``[clients, rows]``, where losses by class are ordered.
    """

    scores: np.ndarray
    present: np.ndarray
    labels: np.ndarray | None


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
    scored: Scored | None,
    update_norm: np.ndarray,
    lr_scale: np.ndarray,
    server_round: int = 1,
    noise_seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Assemble the metrics of a cohort's replies, each ``[clients]`` or ``[clients, classes]``.

    Losses are those before each update, ``step_losses`` ``[steps, clients, batch]`` (0 where
    padded), or ``scored`` outside of training: at the received model (``incoming`` and the
    fallback) or on held-out rows (``holdout``).

    The metrics are ``partition-id``, ``num-examples``, ``steps``, ``work`` (the sum of its learning
    rates over its steps, as far as momentum carries them), ``train-loss`` (mean loss over all
    batches), ``update-norm``, the loss moments of the statistic (see
    :func:`fedrms.client.loss_moments.stacked_moments`) and ``statistic-fallback``, 1 where the
    client had too little to score and reported ``incoming``. Where they are ordered also losses by
    class, see :func:`fedrms.client.class_losses.stacked_class_losses`. Where losses are private,
    :func:`fedrms.client.statistic_privacy.private_losses` in the place of all that is said of them,
    with noise drawn at ``(noise_seed, client, server_round)``.
    """
    about = _about_the_client(plan, clients, sizes, update_norm, step_losses)
    reach = settings.lr / max(1.0 - settings.momentum, LEAST_BRAKE)
    about["work"] = plan.steps * reach * lr_scale
    if settings.statistic_epsilon and scored is not None:
        told = private_losses(
            settings, server_round, clients=clients, **scored._asdict(), seed=noise_seed
        )
        return about | told
    further = own_statistics(settings.statistics)
    moments = {name: np.empty(len(clients)) for name in (*MOMENTS, *further)}
    prequential = np.arange(len(clients))
    by_class = {}
    if scored is not None:
        elsewhere = scored.present.any(1)
        prequential, others = np.flatnonzero(~elsewhere), np.flatnonzero(elsewhere)
        losses = scored.scores[others, :, 0]
        _fill(moments, further, others, *_narrow(losses, scored.present[others]))
        if settings.class_losses:
            by_class = stacked_class_losses(settings.class_losses, **scored._asdict())
    if len(prequential):
        for group in similar_sizes(plan.scored.sum(0)[prequential] * plan.present.shape[2]):
            own = prequential[group]
            _fill(moments, further, own, *_scored(plan, step_losses, own))
    fallback = needs_received_losses(settings, plan) & (settings.statistic != "incoming")
    return (
        about
        | {"statistic-fallback": fallback.astype(np.int64)}
        | {of_losses(name).key: value for name, value in moments.items()}
        | by_class
    )


def _about_the_client(
    plan: Schedule,
    clients: np.ndarray,
    sizes: np.ndarray,
    update_norm: np.ndarray,
    step_losses: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return what a client says besides its statistic."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = step_losses.sum(0, dtype=np.float64).sum(1)
    return {
        "partition-id": np.asarray(clients, dtype=np.int64),
        "num-examples": np.asarray(sizes, dtype=np.int64),
        "steps": plan.steps,
        "train-loss": total / plan.present.sum(0).sum(1),
        "update-norm": np.asarray(update_norm, dtype=np.float64),
    }


def _fill(
    moments: dict[str, np.ndarray],
    further: Mapping[str, OwnFunction],
    own: np.ndarray,
    losses: np.ndarray,
    present: np.ndarray,
) -> None:
    """Compute the moments, and further statistics, of some clients and put them in their places."""
    for name, statistic in further.items():
        told = [statistic(row[there]) for row, there in zip(losses, present, strict=True)]
        moments[name][own] = told
    for name, values in stacked_moments(losses, present).items():
        moments[name][own] = values


def _scored(
    plan: Schedule, step_losses: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses that the statistic is read from, ``[clients, examples]``, and a mask."""
    scored = plan.scored.take(own, 1)
    steps = np.flatnonzero(scored.any(1))
    window = slice(steps[0], steps[-1] + 1)
    losses = step_losses[window].take(own, 1)
    present = plan.present[window].take(own, 1) & scored[window, :, None]
    return (
        np.moveaxis(losses, 1, 0).reshape(len(own), -1),
        np.moveaxis(present, 1, 0).reshape(len(own), -1),
    )


def _narrow(losses: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the rows that nobody is scored on."""
    wanted = present.any(0)
    return losses[:, wanted], present[:, wanted]
