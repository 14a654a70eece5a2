"""Train stacks of linear layers without autograd: clients batched, or one after the other.

The gradient of a linear layer is one matrix product, so the product that makes it adds it to
the weights. Both forms give what :meth:`fedrms.client.local_update.LocalUpdate.step` gives, to
rounding.

Class scores lie classes before clients and examples, ``[classes, clients, batch]``: a softmax
over a short last axis, or one before a short last axis, takes several times as long. Of a client
alone, all activations lie features before examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedrms.client.local_update import Tree
from fedrms.client.products import takes_onednn
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.dense_steps import compiled, lone_clients, stacked_steps
from fedrms.engines.work import Batches, Work, own_parameters, repeated_parameters
from fedrms.tasks.classification import chance

SCORES_AT_ONCE = 1 << 20
"""Most class scores kept at a time, to read the losses from."""
TURNS = 4
"""Calls that each of several worker threads makes at least, so that they end together."""

Layer = tuple[Tensor, Tensor | None]


def train_stacked(
    network: DenseNetwork, work: Work, batches: Batches, first_scores: Tensor | None = None
) -> tuple[Tree, Tensor]:
    """Train all clients as one batch.

    Parameters
    ----------
    network, work, batches, first_scores
        As of :func:`train_alone`.

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
        own, scores = _steps_stacked(layers, network.classify, work, batches, steps)
        losses[steps] = own
        if steps.start == 0 and first_scores is not None:
            _keep_first(work, first_scores, scores[0].permute(1, 2, 0), own[0])
    return params, losses


def _steps_stacked(
    layers: Sequence[Layer], classify: bool, work: Work, batches: Batches, steps: slice
) -> tuple[Tensor, Tensor]:
    """Take some steps, writing over the layers; return the losses before each, and the scores."""
    rows, present = batches.rows[steps], batches.present[steps]
    rate = present * (batches.lr[:, None] / present.sum(2, keepdim=True).clamp(min=1))
    y = work.columns["y"][rows][:, None]
    scores = rate.new_zeros(len(rows), layers[-1][0].shape[1], *rows.shape[1:])
    if classify:
        target = torch.zeros_like(scores).scatter_(1, y, 1.0)
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
    return losses_of(classify, scores, y, 1) * present, scores


def train_alone(
    network: DenseNetwork,
    work: Work,
    models: Sequence[Tensor],
    batches: Batches,
    first_scores: Tensor | None = None,
) -> Tensor:
    """Train some clients one after the other, each where its parameters lie.

    Parameters
    ----------
    network : DenseNetwork
        The layers.
    work : Work
        Of the cohort.
    models : sequence of Tensor
        ``[parameters]`` a client, in the order of ``work.received``; written over.
    batches : Batches
        Theirs; see :func:`clients_together` for how many at most.
    first_scores : Tensor, optional
        ``[clients, batch, scores]`` takes the scores of the first batches before any update.

    Returns
    -------
    Tensor
        ``[steps, clients, batch]`` losses before each update.
    """
    own = [own_parameters(work.received, model) for model in models]
    weights = [[params[weight] for weight, _ in network.layers] for params in own]
    biases = [[None if b is None else params[b] for _, b in network.layers] for params in own]
    counts = batches.present.sum(2).int().t().tolist()
    scales = (batches.lr * -(1 if network.classify else 2)).tolist()
    losses = batches.present.new_empty(batches.rows.shape)
    onednn = [takes_onednn(weight, losses.shape[2]) for weight in weights[0]]
    outputs = len(weights[0][-1])
    for steps in _stretches(len(losses), losses[0].numel() * outputs):
        rows = batches.rows[steps]
        y = work.columns["y"][rows][:, :, None]
        scores = work.flat.new_zeros(*rows.shape[:2], outputs, rows.shape[2])
        if network.classify:
            target = torch.zeros_like(scores).scatter_(2, y, 1.0)
        else:
            target = y.to(scores.dtype)
        compiled(lone_clients)(
            work.flat if steps.start == 0 else None,
            models,
            weights,
            biases,
            onednn,
            network.classify,
            work.columns["x"].flatten(1),
            rows,
            scores,
            target,
            [own[steps] for own in counts],
            scales,
        )
        losses[steps] = losses_of(network.classify, scores, y, 2) * batches.present[steps]
        if steps.start == 0 and first_scores is not None:
            _keep_first(work, first_scores, scores[0].transpose(1, 2), losses[0])
    return losses


def _keep_first(work: Work, into: Tensor, scores: Tensor, losses: Tensor) -> None:
    """Hand on what the first batches scored: ``[clients, batch, outputs]``, and the losses."""
    if into.shape[2] == 1:
        into[:, :, 0] = losses
    elif work.usual_chance:
        torch.stack([losses, chance(-scores, losses)], 2, out=into)


def losses_of(classify: bool, scores: Tensor, y: Tensor, outputs: int) -> Tensor:
    """Return losses from log-probabilities, or from errors; outputs lie at that axis."""
    own = scores.gather(outputs, y) if classify else scores
    return -own.squeeze(outputs) if classify else own.squeeze(outputs).square()


def clients_together(network: DenseNetwork, work: Work, workers: int) -> int:
    """Return how many clients at most are trained by one call, one after the other.

    What is laid out for a call is cold again after a client's products, so it is done for many:
    as long as their scores stay within bounds, and each worker thread has some turns.
    """
    steps, cohort, batch = work.plan.rows.shape
    outputs = len(work.received[network.layers[-1][0]])
    fits = SCORES_AT_ONCE // (steps * batch * outputs)
    share = cohort if workers == 1 else cohort // (TURNS * workers)
    return int(max(1, min(fits, share)))


def _stretches(steps: int, cells: int) -> Iterator[slice]:
    """Cut steps so that the scores of a stretch stay within bounds."""
    length = max(1, SCORES_AT_ONCE // cells)
    for start in range(0, steps, length):
        yield slice(start, min(start + length, steps))
