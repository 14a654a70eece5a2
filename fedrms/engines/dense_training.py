"""Train stacks of linear layers without autograd: clients batched, or one after the other.

The gradient of a linear layer is one matrix product, so the product that makes it adds it to
the weights. Both forms give what :meth:`fedrms.client.local_update.LocalUpdate.step` gives, to
rounding.

Class scores lie classes before examples, ``[clients, classes, batch]``: a softmax over a short
last axis takes several times as long. Of a client alone, all activations lie so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedrms.client.local_update import Tree
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.dense_steps import compiled, lone_steps, stacked_steps
from fedrms.engines.products import takes_onednn
from fedrms.engines.work import Batches, Work, own_parameters, repeated_parameters
from fedrms.tasks.classification import Classification, chance

SCORES_AT_ONCE = 1 << 20
"""Most class scores kept at a time, to read the losses from."""

Layer = tuple[Tensor, Tensor | None]


def train_stacked(network: DenseNetwork, work: Work, batches: Batches) -> tuple[Tree, Tensor]:
    """Train all clients as one batch.

    Returns
    -------
    parameters : Tree
        Each ``[clients, ...]``, in the order of ``work.received``.
    losses : Tensor
        ``[steps, clients, batch]`` before each update.
    """
    clients = batches.rows.shape[1]
    params = repeated_parameters(work.received, clients)
    layers = [(params[w], None if b is None else params[b]) for w, b in network.layers]
    outputs = layers[-1][0].shape[1]
    losses = batches.present.new_empty(batches.rows.shape)
    cells = clients * batches.rows.shape[2] * outputs
    for steps in _stretches(len(batches.active), cells):
        losses[steps] = _steps_stacked(layers, network.classify, work, batches, steps)
    return params, losses


def _steps_stacked(
    layers: Sequence[Layer], classify: bool, work: Work, batches: Batches, steps: slice
) -> Tensor:
    """Take some steps, writing over the layers; return the losses before each."""
    rows, present = batches.rows[steps], batches.present[steps]
    rate = (present * (batches.lr[:, None] / present.sum(2, keepdim=True).clamp(min=1)))[:, :, None]
    y = work.columns["y"][rows][:, :, None]
    scores = rate.new_zeros(*rows.shape[:2], layers[-1][0].shape[1], rows.shape[2])
    if classify:
        target = torch.zeros_like(scores).scatter_(2, y, 1.0)
    else:
        target, rate = y.to(rate.dtype), 2 * rate
    compiled(stacked_steps)(
        [weight for weight, _ in layers],
        [bias for _, bias in layers],
        classify,
        work.columns["x"].flatten(1),
        rows.flatten(1),
        scores,
        target,
        rate,
        batches.active[steps],
    )
    losses = -scores.gather(2, y).squeeze(2) if classify else scores.squeeze(2).square()
    return losses * present


def train_alone(
    network: DenseNetwork,
    work: Work,
    row: Tensor,
    batches: Batches,
    first_scores: Tensor | None = None,
) -> Tensor:
    """Train one client where its parameters lie.

    Parameters
    ----------
    network : DenseNetwork
        The layers.
    work : Work
        Of the cohort.
    row : Tensor
        ``[parameters]`` in the order of ``work.received``; written over.
    batches : Batches
        With a single client.
    first_scores : Tensor, optional
        ``[batch, scores]`` takes the scores of the first batch before any update.

    Returns
    -------
    Tensor
        ``[steps, batch]`` losses before each update.
    """
    params = own_parameters(work.received, row)
    layers = [(params[w], None if b is None else params[b]) for w, b in network.layers]
    losses = batches.present.new_empty(batches.rows.shape)[:, 0]
    counts = batches.present[:, 0].sum(1).int().tolist()
    for steps in _stretches(len(counts), losses.shape[1] * layers[-1][0].shape[0]):
        own, scores = _steps_alone(layers, network.classify, work, batches, steps, counts[steps])
        losses[steps] = own
        if steps.start == 0 and first_scores is not None:
            if first_scores.shape[1] == 1:
                first_scores[:, 0] = own[0]
            elif type(work.update.task).chance_losses is Classification.chance_losses:  # type: ignore[attr-defined]
                first_scores.copy_(torch.stack([own[0], chance(-scores[0].t(), own[0])], 1))
    return losses


def _steps_alone(
    layers: Sequence[Layer],
    classify: bool,
    work: Work,
    batches: Batches,
    steps: slice,
    counts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Take some steps, writing over the layers; return the losses before each, and the scores."""
    rows = batches.rows[steps, 0]
    y = work.columns["y"][rows][:, None]
    outputs, batch = layers[-1][0].shape[0], rows.shape[1]
    scores = layers[0][0].new_zeros(len(rows), outputs, batch)
    if classify:
        target = (y == torch.arange(outputs, device=y.device)[:, None]).to(scores.dtype)
    else:
        target = y.to(scores.dtype)
    compiled(lone_steps)(
        [weight for weight, _ in layers],
        [bias for _, bias in layers],
        [takes_onednn(weight, batch) for weight, _ in layers],
        classify,
        work.columns["x"].flatten(1),
        rows,
        scores,
        target,
        counts,
        -float(batches.lr[0]) * (1 if classify else 2),
    )
    losses = -scores.gather(1, y)[:, 0] if classify else scores[:, 0].square()
    return losses * batches.present[steps, 0], scores


def _stretches(steps: int, cells: int) -> Iterator[slice]:
    """Cut steps so that the scores of a stretch stay within bounds."""
    length = max(1, SCORES_AT_ONCE // cells)
    for start in range(0, steps, length):
        yield slice(start, min(start + length, steps))
