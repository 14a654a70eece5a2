"""A cohort's round: lay out its batches, train it, and report its losses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedrms.client.dense_layers import without_calls
from fedrms.client.draw_keys import at_step
from fedrms.client.local_update import LocalUpdate, Tree
from fedrms.client.products import faster_linear
from fedrms.client.reply import Scored, needs_received_losses, reply_metrics
from fedrms.client.schedule import Schedule, own_lr, schedule
from fedrms.combining.clip import update_norms
from fedrms.engines.example_products import ExampleProducts
from fedrms.engines.executor import Executor
from fedrms.engines.work import Work, own_parameters

SCORED_AT_ONCE = 1 << 15
"""Most rows scored in one forward pass outside of training."""
SCORED_NUMBERS = 1 << 22
"""Most numbers in the examples of such a pass: what it takes is not to show beside the models."""
SCORED_FROM = 1 << 16
"""Parameters from which it is worth looking which rows training has scored already."""
NORMS_AT_ONCE = 1 << 18
"""Numbers of a stack on a GPU that are handled at a time for its norms."""


@dataclass(frozen=True)
class ClientRows:
    """Clients' examples on the device: everyone's, laid out once, or a cohort's.

    Attributes
    ----------
    columns : dict of Tensor
        Each ``[total, ...]``; the client at place k has the rows ``offsets[k]:offsets[k + 1]``.
    offsets : np.ndarray
        ``[clients + 1]``.
    products : ExampleProducts, optional
        Of these examples, where they stay for many rounds.
    """

    columns: Tree
    offsets: np.ndarray
    products: ExampleProducts | None = None


@dataclass(frozen=True)
class Trained:
    """What a cohort's round leaves.

    Attributes
    ----------
    stack : Tensor
        ``[cohort, parameters]``: a client a row, in the order of the received parameters; and
        behind them the squared gradients, in the same order, where they are asked for.
    metrics : dict of np.ndarray
        ``[cohort]`` each, see :func:`fedrms.client.reply.reply_metrics`.
    losses : np.ndarray
        ``[steps, cohort, batch]`` before each update; 0 where padded.
    norms : np.ndarray
        ``[cohort]`` L2 norms of the updates.
    longest : float
        What no client's model is longer than: the received model and the longest update
        together; NaN or inf where one is not finite, or running statistics were not measured.
    """

    stack: Tensor
    metrics: dict[str, np.ndarray]
    losses: np.ndarray
    norms: np.ndarray
    longest: float


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
    lr_scale = lr_scale * own_lr(settings, clients)
    lr = settings.lr * lr_scale
    first = None
    large = sum(value.numel() for value in received.values()) >= SCORED_FROM
    width = update.scores(data.columns.get("y"))
    if large and width <= 2 and needs_received_losses(settings, plan).any():
        like = next(iter(received.values()))
        first = like.new_full((*plan.rows.shape[1:], width), torch.nan)
    work = Work(
        *(update, received, data.columns, starts, plan, lr, server_round, clients, first),
        products=data.products,
    )
    stack, losses = executor.train(work)

    flat = work.flat
    models = stack[:, : len(flat)]
    if settings.gradient_decay:
        gathered = torch.from_numpy(update.gathered(plan.steps)).to(stack)
        stack[:, len(flat) :].div_(gathered[:, None])
    other, other_present = _other_losses(work, models, data, places, executor)
    still = sum(received[name].numel() for name in update.moving)  # statistics are no step
    learned = slice(len(flat) - still)
    norms = _norms(models[:, learned], flat[learned])
    step_losses, update_norm, scored = to_host(losses, norms, other)
    outside = None
    if other_present is not None:
        spots = np.flatnonzero(other_present)
        scores = np.zeros((other_present.size, width))
        scores[spots] = scored
        by_class = settings.scores_chance  # labels leave the device only then
        labels = _labels(data, places, other_present, spots) if by_class else None
        outside = Scored(scores.reshape(*other_present.shape, -1), other_present, labels)
    metrics = reply_metrics(
        settings,
        plan,
        clients=clients,
        sizes=sizes,
        step_losses=step_losses,
        scored=outside,
        update_norm=update_norm,
        lr_scale=lr_scale,
        server_round=server_round,
    )
    longest = np.inf
    if not still and flat.device.type == "cpu":
        longest = float(torch.linalg.vector_norm(flat)) + float(update_norm.max())
    return Trained(stack, metrics, step_losses, update_norm, longest)


def _norms(stack: Tensor, flat: Tensor) -> Tensor:
    """Return the L2 norms of the updates, ``[cohort]`` float64, on the same device."""
    if flat.device.type == "cpu":
        return torch.from_numpy(update_norms(stack, flat))
    rows = max(1, NORMS_AT_ONCE // len(flat))
    norms = [
        torch.linalg.vector_norm(part - flat, dim=1, dtype=torch.float64)
        for part in torch.split(stack, rows)
    ]
    return torch.cat(norms)


def _other_losses(
    work: Work, stack: Tensor, data: ClientRows, places: np.ndarray, executor: Executor
) -> tuple[Tensor, np.ndarray | None]:
    """Score the rows that the statistic asks for outside of training (see ``reply_metrics``).

    Returns
    -------
    scores : Tensor
        ``[rows, scores]`` one after the other, on the device (see ``LocalUpdate.score``).
    present : np.ndarray or None
        ``[clients, rows]``: whose and which they are, in this order; None where there are none.
    """
    update, received, plan = work.update, work.received, work.plan
    at_received = needs_received_losses(update.settings, plan)
    held_out = plan.held_out.any(1) & ~at_received
    judged = np.flatnonzero(at_received | held_out)
    numbers = update.scores(data.columns.get("y"))
    if not len(judged):
        return stack.new_zeros(0, numbers), None
    sizes = np.diff(data.offsets)[places]
    width = int(sizes[judged].max())
    wanted = (np.arange(width) < sizes[:, None]) & at_received[:, None]
    wanted[held_out] = plan.held_out[held_out, :width]
    if len(work.received_scores) == len(judged):
        return torch.cat([work.received_scores[client] for client in judged.tolist()]), wanted
    who, row = np.nonzero(wanted)
    rows = data.offsets[places[who]] + row
    own_models = held_out.any() or update.local_statistics
    if not own_models and work.first_scores is None:
        told = executor.score(work, rows, numbers)
        if told is not None:
            return told, wanted
    picked = torch.from_numpy(rows).to(stack.device, non_blocking=True)
    wide = torch.promote_types(stack.dtype, torch.float32)
    scores = stack.new_zeros(len(picked), numbers, dtype=wide)

    judge = replace(update, apply=without_calls(update.apply))
    example = sum(column[:1].numel() for column in data.columns.values())
    at_once = max(1, min(SCORED_AT_ONCE, SCORED_NUMBERS // max(1, example)))

    def score(params: Tree, wanted: Tensor | None = None) -> None:
        for at in range(0, len(picked if wanted is None else wanted), at_once):
            some: slice | Tensor = slice(at, min(at + at_once, len(picked)))
            if wanted is not None:
                some = wanted[some]
            where: slice | Tensor = picked[some]
            if isinstance(some, slice) and in_order:  # the examples lie where they are wanted
                where = slice(rows[at], rows[at] + some.stop - at)
            batch = {name: column[where] for name, column in data.columns.items()}
            batch = at_step(batch, work.server_round, 0)
            with torch.no_grad(), faster_linear(params.values()):
                scores[some] = judge.score(params, batch).to(wide)

    in_order = bool((np.diff(rows) == 1).all())
    if own_models:
        ends = np.cumsum(wanted.sum(1))
        for client in np.flatnonzero(wanted.any(1)):
            own = own_parameters(received, stack[client]) if held_out[client] else received
            mine = slice(*data.offsets[places[client] : places[client] + 2].tolist())
            own = update.judging(own, data.columns["x"][mine])
            score(own, torch.arange(ends[client] - wanted[client].sum(), ends[client]))
    elif work.first_scores is None:
        score(received)
    else:
        spots = torch.from_numpy(_spots(plan, width)[who, row]).to(stack.device)
        given = work.first_scores[torch.from_numpy(who).to(stack.device), spots]
        known = (spots >= 0) & ~given.isnan().any(1)
        others = (~known).nonzero()[:, 0]
        told = executor.score(work, rows[others.numpy()], numbers) if stack.is_cpu else None
        if told is None:
            score(received, others)
        else:
            scores[others] = told
        scores[known] = given[known].to(wide)
    return scores, wanted


def _spots(plan: Schedule, width: int) -> np.ndarray:
    """Return ``[clients, width]`` where in its first batch a client has each row; -1 elsewhere."""
    found = np.full((plan.rows.shape[1], width), -1)
    who, spot = np.nonzero(plan.present[0])
    rows = plan.rows[0][who, spot]
    inside = rows < width
    found[who[inside], rows[inside]] = spot[inside]
    return found


def _labels(
    data: ClientRows, places: np.ndarray, present: np.ndarray, spots: np.ndarray
) -> np.ndarray:
    """Return ``[clients, rows]`` the classes of the present rows, at these spots; 0 elsewhere."""
    labels = np.zeros(present.size, dtype=np.int64)
    y = data.columns["y"]  # only what is asked for leaves the device
    if y.dim() == 1:  # several targets are of no class
        who, row = np.divmod(spots, present.shape[1])
        picked = torch.from_numpy(data.offsets[places].take(who) + row).to(y.device)
        labels[spots] = y[picked].cpu().numpy()
    return labels.reshape(present.shape)


def to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Return tensors of one device as arrays: from a GPU in one transfer, waited for once."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return [tensor.numpy() for tensor in tensors]
    together = torch.cat([tensor.double().reshape(-1) for tensor in tensors]).cpu()
    parts = torch.split(together, [tensor.numel() for tensor in tensors])
    return [
        part.view(tensor.shape).to(tensor.dtype).numpy()
        for part, tensor in zip(parts, tensors, strict=True)
    ]
