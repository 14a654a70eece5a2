"""Train any module: a chunk of clients as one batch, or one client, on traced steps."""

from __future__ import annotations

import torch
from torch import Tensor

from fedrms.client.draw_keys import at_step
from fedrms.client.layer_draws import LAYER_KEY, layer_keys
from fedrms.client.local_optimizer import LocalOptimizer
from fedrms.client.local_update import State, Tree
from fedrms.engines.traced_step import StepCache
from fedrms.engines.work import Batches, Work, own_parameters, repeated_parameters

SHRINK = 0.85
"""A stack is cut when the clients still at work fall below this share of it."""


def train_stacked(steps: StepCache, work: Work, batches: Batches) -> tuple[Tree, Tensor]:
    """Train some clients as one batch.

    Returns
    -------
    parameters : Tree
        Each ``[clients, ...]``, in the order of ``work.received``; squared gradients behind.
    losses : Tensor
        ``[steps, clients, batch]`` before each update.
    """
    clients = batches.rows.shape[1]
    params = repeated_parameters(work.received, clients)
    everyone = state = _begin(work, params, batches.lr)
    losses = batches.present.new_zeros(batches.rows.shape)
    optimizer = _optimizer(work, state["params"])
    share = batches.lr / work.update.settings.lr
    unlike = optimizer is not None and bool((share != 1).any())
    width, keys = clients, _layer_keys(work, batches)
    for t, active in enumerate(batches.active):
        if active < SHRINK * width and optimizer is None:  # which knows the whole stack
            width = active
            state = {part: {n: v[:width] for n, v in tree.items()} for part, tree in state.items()}
        if active < width:
            state["lr"]["lr"][active:] = share[active:] = 0.0  # they have finished, and stay put
            unlike = True
        index = batches.rows[t, :width]
        batch = {
            name: column.index_select(0, index.reshape(-1)).view(*index.shape, *column.shape[1:])
            for name, column in work.columns.items()
        }
        batch = at_step(batch, work.server_round, t + 1)
        batch |= {"present": batches.present[t, :width], LAYER_KEY: keys[t, :width]}
        losses[t, :width] = steps.step(work.update, state, batch)(state, batch)
        if optimizer is not None:
            optimizer.step(state["gradients"], share if unlike else None)
    return work.update.finish(everyone), losses


def train_alone(steps: StepCache, work: Work, row: Tensor, batches: Batches) -> Tensor:
    """Train one client where its parameters lie.

    Parameters
    ----------
    steps : StepCache
        The traced steps of one client.
    work : Work
        Of the cohort.
    row : Tensor
        ``[parameters]`` in the order of ``work.received``; written over. With squared gradients
        ``[2 parameters]``, and these behind.
    batches : Batches
        With a single client.

    Returns
    -------
    Tensor
        ``[steps, batch]`` losses before each update.
    """
    halves = torch.split(row, sum(value.numel() for value in work.received.values()))
    state = _begin(work, own_parameters(work.received, halves[0]), batches.lr[0])
    if "squares" in state:
        behind = own_parameters(work.received, halves[1].zero_())
        state["squares"] = {name: behind[name] for name in state["params"]}
    optimizer = _optimizer(work, state["params"])
    share = None
    if optimizer is not None and batches.lr[0] != work.update.settings.lr:
        share = batches.lr[0] / work.update.settings.lr
    losses = batches.present.new_zeros(batches.rows.shape)[:, 0]
    keys = _layer_keys(work, batches)[:, 0]
    for t, (index, present) in enumerate(
        zip(batches.rows[:, 0], batches.present[:, 0], strict=True)
    ):
        batch = {name: column.index_select(0, index) for name, column in work.columns.items()}
        batch = at_step(batch, work.server_round, t + 1)
        batch |= {"present": present, LAYER_KEY: keys[t]}
        losses[t] = steps.step(work.update, state, batch)(state, batch)
        if optimizer is not None:
            optimizer.step(state["gradients"], share)
    return losses


def _begin(work: Work, params: dict[str, Tensor], lr: Tensor) -> State:
    state = work.update.begin(params, lr)
    if "anchor" in state:  # the parameters will be written over; what was received stays
        state["anchor"] = {
            n: work.received[n].expand_as(value) for n, value in state["params"].items()
        }
    return state


def _layer_keys(work: Work, batches: Batches) -> Tensor:
    """Return the address of what layers draw, ``[steps, clients]``."""
    seed, steps = work.update.settings.seed, len(batches.rows)
    keys = layer_keys(seed, batches.clients, work.server_round, steps)
    return torch.from_numpy(keys).to(batches.rows.device)


def _optimizer(work: Work, params: dict[str, Tensor]) -> LocalOptimizer | None:
    """Return what steps the parameters where they lie; None where the traced step does."""
    settings = work.update.settings
    return LocalOptimizer(settings, params) if settings.optimizer else None
