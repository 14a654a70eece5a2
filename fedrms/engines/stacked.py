"""Train a cohort as one batched program: ``step`` mapped over a stack of clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from fedrms.client.local_update import LocalUpdate, State, Tree
from fedrms.client.reply import needs_received_losses, reply_metrics
from fedrms.client.schedule import Schedule, schedule

SCORED_AT_ONCE = 1 << 15
"""Rows scored in one forward pass outside of training."""


@dataclass(frozen=True)
class ClientRows:
    """Every client's examples, laid out once on the device.

    Attributes
    ----------
    columns : dict of Tensor
        Each ``[total, ...]``; client k's rows are ``offsets[k]:offsets[k + 1]``.
    offsets : np.ndarray
        ``[clients + 1]``.
    """

    columns: Tree
    offsets: np.ndarray


def train_cohort(
    update: LocalUpdate,
    received: Tree,
    data: ClientRows,
    *,
    clients: np.ndarray,
    server_round: int,
    lr_scale: np.ndarray,
) -> tuple[Tree, dict[str, np.ndarray]]:
    """Train many clients from the same model for one round.

    Gives each client the numbers that :func:`fedrms.client.train.train_client` gives it,
    to rounding. Clients are ordered by their number of steps, so that those still at work
    at any step are the first rows of the stack and nobody waits under a mask.

    Parameters
    ----------
    update, received
        As for one client.
    data : ClientRows
        Everyone's data.
    clients : np.ndarray
        ``[cohort]`` client indices.
    server_round : int
        The round, from 1.
    lr_scale : np.ndarray
        ``[cohort]`` factors on the local learning rate.

    Returns
    -------
    params : dict of Tensor
        ``[cohort, ...]`` each, in the order of ``clients``.
    metrics : dict of np.ndarray
        ``[cohort]`` each, see :func:`fedrms.client.reply.reply_metrics`.
    """
    settings = update.settings
    sizes = np.diff(data.offsets)[clients]
    plan = schedule(settings, server_round, clients, sizes)
    order = np.argsort(-plan.steps, kind="stable")
    device = next(iter(received.values())).device
    starts = data.offsets[:-1][clients]
    rows = torch.from_numpy(starts[None, order, None] + plan.rows[:, order]).to(device)
    present = torch.from_numpy(plan.present[:, order]).to(device, torch.float32)
    lr = torch.from_numpy(settings.lr * lr_scale[order]).to(device, torch.float32)

    state = _begin(update, received, lr)
    step = vmap(update.step, randomness="different")
    step_losses = torch.zeros(rows.shape, device=device)
    active = (plan.steps[None, :] > np.arange(rows.shape[0])[:, None]).sum(1)
    for t, count in enumerate(active.tolist()):
        batch = {name: column[rows[t, :count]] for name, column in data.columns.items()}
        batch["present"] = present[t, :count]
        front = {part: {n: v[:count] for n, v in tree.items()} for part, tree in state.items()}
        after, losses = step(front, batch)
        step_losses[t, :count] = losses.detach()
        state = after if count == len(clients) else _write_front(state, after, count)
    back = torch.from_numpy(np.argsort(order)).to(device)
    params = {name: value[back] for name, value in update.finish(state).items()}

    other_losses, other_present = _other_losses(update, received, params, data, clients, plan)
    squared = sum(
        (params[name] - received[name]).double().square().flatten(1).sum(1) for name in params
    )
    assert isinstance(squared, Tensor)
    metrics = reply_metrics(
        settings,
        plan,
        clients=clients,
        sizes=sizes,
        step_losses=step_losses[:, back].cpu().numpy(),
        other_losses=other_losses,
        other_present=other_present,
        update_norm=squared.sqrt().cpu().numpy(),
    )
    return params, metrics


def _begin(update: LocalUpdate, received: Tree, lr: Tensor) -> State:
    def one(rate: Tensor) -> State:
        return update.begin(received, rate)

    state: State = vmap(one, out_dims=0)(lr)
    return state


def _write_front(state: State, after: State, count: int) -> State:
    for part in ("params", "velocity"):
        for name, value in after.get(part, {}).items():
            state[part][name][:count] = value
    return state


def _other_losses(
    update: LocalUpdate,
    received: Tree,
    trained: Tree,
    data: ClientRows,
    clients: np.ndarray,
    plan: Schedule,
) -> tuple[np.ndarray, np.ndarray]:
    """Score the rows that the statistic asks for outside of training (see ``reply_metrics``)."""
    sizes = np.diff(data.offsets)[clients]
    width = int(sizes.max())
    losses, wanted = np.zeros((len(clients), width)), np.zeros((len(clients), width), bool)
    at_received = needs_received_losses(update.settings, plan)
    index = np.arange(width)[None, :]
    wanted[at_received] = (index < sizes[:, None])[at_received]
    if wanted.any():
        who, row = np.nonzero(wanted)
        picked = torch.from_numpy(data.offsets[clients[who]] + row)
        for start in range(0, len(picked), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            batch = {n: c[picked[part].to(c.device)] for n, c in data.columns.items()}
            losses[who[part], row[part]] = update.losses(received, batch).detach().cpu().numpy()
    for client in np.flatnonzero(~at_received & plan.held_out.any(1)):
        held = np.flatnonzero(plan.held_out[client])
        picked = torch.from_numpy(data.offsets[clients[client]] + held)
        batch = {n: c[picked.to(c.device)] for n, c in data.columns.items()}
        own = {name: value[client] for name, value in trained.items()}
        losses[client, held] = update.losses(own, batch).detach().cpu().numpy()
        wanted[client, held] = True
    return losses, wanted
