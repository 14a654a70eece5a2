"""A cohort's round: lay out its batches, train it, and report its losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedrms.client.local_update import LocalUpdate, Tree
from fedrms.client.reply import needs_received_losses, reply_metrics
from fedrms.client.schedule import Schedule, schedule
from fedrms.engines.executor import Executor
from fedrms.engines.work import Work

SCORED_AT_ONCE = 1 << 15
"""Rows scored in one forward pass outside of training."""
NORMS_AT_ONCE = 1 << 18
"""Numbers of a stack that are handled at a time for its norms: they stay in the caches."""


@dataclass(frozen=True)
class ClientRows:
    """Clients' examples on the device: everyone's, laid out once, or a cohort's.

    Attributes
    ----------
    columns : dict of Tensor
        Each ``[total, ...]``; the client at place k has the rows ``offsets[k]:offsets[k + 1]``.
    offsets : np.ndarray
        ``[clients + 1]``.
    """

    columns: Tree
    offsets: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What a cohort's round leaves.

    Attributes
    ----------
    stack : Tensor
        ``[cohort, parameters]``: a client a row, in the order of the received parameters.
    metrics : dict of np.ndarray
        ``[cohort]`` each, see :func:`fedrms.client.reply.reply_metrics`.
    losses : np.ndarray
        ``[steps, cohort, batch]`` before each update; 0 where padded.
    """

    stack: Tensor
    metrics: dict[str, np.ndarray]
    losses: np.ndarray


def train_cohort(
    update: LocalUpdate,
    received: Tree,
    data: ClientRows,
    *,
    clients: np.ndarray,
    places: np.ndarray | None = None,
    server_round: int,
    lr_scale: np.ndarray,
    executor: Executor,
) -> Trained:
    """Train many clients from the same model for one round.

    Gives each client the numbers that :func:`fedrms.client.train.train_client` gives it,
    to rounding.

    Parameters
    ----------
    update, received
        As for one client.
    data : ClientRows
        Their data, perhaps among that of others.
    clients : np.ndarray
        ``[cohort]`` client indices: the address of each client's draws.
    places : np.ndarray, optional
        ``[cohort]`` place of each client in ``data``; by default its index.
    server_round : int
        The round, from 1.
    lr_scale : np.ndarray
        ``[cohort]`` factors on the local learning rate.
    executor : Executor
        How the steps are run.

    Returns
    -------
    Trained
        In the order of ``clients``.
    """
    settings = update.settings
    places = clients if places is None else places
    sizes = np.diff(data.offsets)[places]
    plan = schedule(settings, server_round, clients, sizes)
    starts = data.offsets[:-1][places]
    work = Work(update, received, data.columns, starts, plan, settings.lr * lr_scale)
    stack, step_losses = executor.train(work)

    flat = torch.cat([value.reshape(-1) for value in received.values()])
    other_losses, other_present = _other_losses(update, received, stack, data, places, plan)
    metrics = reply_metrics(
        settings,
        plan,
        clients=clients,
        sizes=sizes,
        step_losses=step_losses,
        other_losses=other_losses,
        other_present=other_present,
        update_norm=_norms(stack, flat),
    )
    return Trained(stack, metrics, step_losses)


def _norms(stack: Tensor, flat: Tensor) -> np.ndarray:
    """Return the L2 norms of the updates, ``[cohort]``, summed in float64 a few rows at a time."""
    rows = max(1, NORMS_AT_ONCE // len(flat))
    norms = [
        torch.linalg.vector_norm(part - flat, dim=1, dtype=torch.float64)
        for part in torch.split(stack, rows)
    ]
    return np.asarray(torch.cat(norms).cpu().numpy())


def _other_losses(
    update: LocalUpdate,
    received: Tree,
    stack: Tensor,
    data: ClientRows,
    places: np.ndarray,
    plan: Schedule,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Score the rows that the statistic asks for outside of training (see ``reply_metrics``)."""
    at_received = needs_received_losses(update.settings, plan)
    held_out = plan.held_out.any(1) & ~at_received
    if not (at_received | held_out).any():
        return None, None
    sizes = np.diff(data.offsets)[places]
    width = int(sizes[at_received | held_out].max())
    losses, wanted = np.zeros((len(places), width)), np.zeros((len(places), width), bool)
    index = np.arange(width)[None, :]
    wanted[at_received] = (index < sizes[:, None])[at_received]
    if wanted.any():
        who, row = np.nonzero(wanted)
        picked = torch.from_numpy(data.offsets[places[who]] + row)
        for start in range(0, len(picked), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            batch = {n: c[picked[part].to(c.device)] for n, c in data.columns.items()}
            losses[who[part], row[part]] = update.losses(received, batch).detach().cpu().numpy()
    for client in np.flatnonzero(held_out):
        held = np.flatnonzero(plan.held_out[client])
        picked = torch.from_numpy(data.offsets[places[client]] + held)
        batch = {n: c[picked.to(c.device)] for n, c in data.columns.items()}
        parts = torch.split(stack[client], [value.numel() for value in received.values()])
        own = {n: part.view(received[n].shape) for n, part in zip(received, parts, strict=True)}
        losses[client, held] = update.losses(own, batch).detach().cpu().numpy()
        wanted[client, held] = True
    return losses, wanted
