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
from fedrms.engines.products import descend, forward, takes_onednn
from fedrms.engines.work import Batches, Work, own_parameters

SCORES_AT_ONCE = 1 << 20
"""Most class scores kept at a time, to read the losses from."""

threshold_backward = torch.ops.aten.threshold_backward
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
    params = {n: p.repeat(clients, *(1,) * p.dim()) for n, p in work.received.items()}
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
    examples, y = work.columns["x"].flatten(1), work.columns["y"][rows][:, :, None]
    outputs = layers[-1][0].shape[1]
    scores = rate.new_zeros(*rows.shape[:2], outputs, rows.shape[2])
    if classify:
        target = torch.zeros_like(scores).scatter_(2, y, 1.0)
    else:
        target, rate = y.to(rate.dtype), 2 * rate
    batch, width, flat_rows = rows.shape[2], -1, rows.flatten(1)
    for t, active in enumerate(batches.active[steps]):
        if active != width:
            width = active
            mine = [(w[:width], b if b is None else b[:width]) for w, b in layers]
        x = examples.index_select(0, flat_rows[t, : width * batch]).view(width, batch, -1)
        given = [x]
        for weight, bias in mine[:-1]:
            given.append(_products(bias, given[-1], weight.transpose(1, 2), 1).relu_())
        weight, bias = mine[-1]
        out = _products(bias, weight, given[-1].transpose(1, 2), 2)
        if classify:
            out = out.log_softmax(1)
            scores[t, :width] = out
            slope = out.exp_().sub_(target[t, :width]).mul_(rate[t, :width])
        else:
            out = out.sub_(target[t, :width])
            scores[t, :width] = out
            slope = out.mul_(rate[t, :width])
        slope = slope.transpose(1, 2)
        for (weight, bias), into in zip(reversed(mine), reversed(given), strict=True):
            below = slope.bmm(weight) if into is not x else None
            weight.baddbmm_(slope.transpose(1, 2), into, alpha=-1)
            if bias is not None:
                bias.sub_(slope.sum(1))
            if below is not None:
                slope = threshold_backward(below, into, 0)
    losses = -scores.gather(2, y).squeeze(2) if classify else scores.squeeze(2).square()
    return losses * present


def train_alone(network: DenseNetwork, work: Work, row: Tensor, batches: Batches) -> Tensor:
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
        losses[steps] = _steps_alone(layers, network.classify, work, batches, steps, counts[steps])
    return losses


def _steps_alone(
    layers: Sequence[Layer],
    classify: bool,
    work: Work,
    batches: Batches,
    steps: slice,
    counts: Sequence[int],
) -> Tensor:
    """Take some steps, writing over the layers; return the losses before each."""
    rows = batches.rows[steps, 0]
    examples, y = work.columns["x"].flatten(1), work.columns["y"][rows][:, None]
    outputs, batch = layers[-1][0].shape[0], rows.shape[1]
    scores = layers[0][0].new_zeros(len(rows), outputs, batch)
    if classify:
        target = (y == torch.arange(outputs, device=y.device)[:, None]).to(scores.dtype)
    else:
        target = y.to(scores.dtype)
    scale = -float(batches.lr[0]) * (1 if classify else 2)
    large = [takes_onednn(weight, batch) for weight, _ in layers]
    last, ones = len(layers) - 1, scores.new_ones(batch)
    columns = [bias if bias is None else bias[:, None] for _, bias in layers]
    turned = [weight.t() for weight, _ in layers]
    for own, kept, wanted, count in zip(
        rows.unbind(0), scores.unbind(0), target.unbind(0), counts, strict=True
    ):
        if count < batch:
            own, kept, wanted = own[:count], kept[:, :count], wanted[:, :count]
        rate = scale / count
        x = examples.index_select(0, own)
        given, given_turned = [x.t()], [x]
        for layer in range(last):
            into = forward(
                *(layers[layer][0], columns[layer], given[layer], given_turned[layer]),
                large[layer],
            ).relu_()
            given.append(into)
            given_turned.append(into.t())
        slope = forward(
            layers[last][0], columns[last], given[last], given_turned[last], large[last]
        )
        if classify:
            slope = slope.log_softmax(0)
            kept.copy_(slope)
            slope.exp_().sub_(wanted)
        else:
            kept.copy_(slope.sub_(wanted))
        for layer in range(last, -1, -1):
            weight, bias = layers[layer]
            below = turned[layer].mm(slope) if layer else None
            descend(weight, slope, given[layer], given_turned[layer], rate, large[layer])
            if bias is not None:
                bias.addmv_(slope, ones if count == batch else ones[:count], alpha=rate)
            if below is not None:
                slope = threshold_backward(below, given[layer], 0)
    losses = -scores.gather(1, y)[:, 0] if classify else scores[:, 0].square()
    return losses * batches.present[steps, 0]


def _products(bias: Tensor | None, a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Return a @ b for each client, with the bias ``[clients, outputs]`` along the other axis."""
    return a.bmm(b) if bias is None else torch.baddbmm(bias.unsqueeze(axis), a, b)


def _stretches(steps: int, cells: int) -> Iterator[slice]:
    """Cut steps so that the scores of a stretch stay within bounds."""
    length = max(1, SCORES_AT_ONCE // cells)
    for start in range(0, steps, length):
        yield slice(start, min(start + length, steps))
