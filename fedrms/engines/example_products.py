"""Train the first layer of a client alone by inner products of its examples.

Under plain SGD a layer stays the received one and a sum of slopes times examples, so what it
answers to an example x needs none of its weights but the received ones:

    W_t x = W_0 x - sum_s g_s (x_s . x)

The inner products of a client's examples are the same in every round, and are kept. With fewer
examples than an example has numbers they are the shorter way: W_0 x is one product for all of a
client's examples, and the weights are put together once, when it has trained. The law ``excess``
scores every example with the received model, for which that same product is most of the work.
This is the perceptron's dual form (Aizerman, Braverman and Rozonoer 1964).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedrms.client.products import takes_onednn
from fedrms.client.reply import needs_received_losses
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.dense_steps import backward, compiled, forward, output_slope
from fedrms.engines.dense_training import losses_of
from fedrms.engines.work import Work, own_parameters
from fedrms.tasks.classification import chance

MOST_BYTES = 1 << 28
"""Largest inner products of all clients that are kept."""
SCORES_AT_ONCE = 1 << 20
"""Most class scores of a client's steps that are kept at a time."""
WORTH_IT = 0.85
"""Share of the multiplications of the other way up to which this one is taken: its products are
smaller, and it gathers. At .79 it takes .92 of the time (docs/benchmarks/defaults.md)."""
HEAVY = 1 << 16
"""Weights of a first layer from which it is taken: smaller ones do not wait for products."""


class ExampleProducts:
    """Inner products between the examples of each client, made at their first use.

    Parameters
    ----------
    x : Tensor
        ``[total, ...]`` everyone's examples, on a CPU.
    offsets : np.ndarray
        ``[clients + 1]`` the client at place k has the rows ``offsets[k]:offsets[k + 1]``.
    memory : int, optional
        Bytes that a round was given; a quarter of them is the most that is kept.
    """

    def __init__(self, x: Tensor, offsets: np.ndarray, memory: int | None = None) -> None:
        self.x = x
        self._offsets = offsets
        self._known: dict[int, Tensor] = {}
        squares = np.square(np.diff(offsets), dtype=np.float64)
        most = MOST_BYTES if memory is None else min(MOST_BYTES, memory // 4)
        self.fits = float(squares.sum()) * x.element_size() <= most

    def sizes(self, starts: np.ndarray) -> np.ndarray:
        """Return how many examples the clients have whose first rows are given."""
        ends = self._offsets[np.searchsorted(self._offsets, starts, side="right")]
        return np.asarray(ends - starts)

    def of(self, start: int, stop: int) -> Tensor:
        """Return ``[examples, examples]`` of the client with these rows."""
        if start not in self._known:
            own = self.x[start:stop].flatten(1)
            self._known[start] = own @ own.t()
        return self._known[start]


def pays(network: DenseNetwork | None, work: Work) -> bool:
    """Say whether a cohort's clients, one after the other, are trained faster in this way."""
    products, plan = work.products, work.plan
    if network is None or products is None or not products.fits or plan.held_out.any():
        return False
    weight = work.received[network.layers[0][0]]
    outputs, inputs = work.received[network.layers[-1][0]].shape[0], weight.shape[1]
    if weight.numel() < HEAVY or weight.dtype is not products.x.dtype:
        return False
    if len(plan.rows) * plan.rows.shape[2] * outputs > SCORES_AT_ONCE:
        return False
    sizes, trained = products.sizes(work.starts), plan.present.sum(axis=(0, 2))
    judged = needs_received_losses(work.update.settings, plan) & _knows_scores(work)
    usual = inputs * (2 * trained + judged * sizes)
    fresh = np.minimum(trained, sizes)
    ours = 2 * inputs * sizes + fresh * fresh // 2 + (trained - fresh) * sizes
    return float(ours.sum()) <= WORTH_IT * float(usual.sum())


def train_by_products(
    network: DenseNetwork,
    work: Work,
    client: int,
    row: Tensor,
    rows: Tensor,
    present: Tensor,
    lr: float,
) -> Tensor:
    """Train one client where its parameters lie, and score its examples where they are asked for.

    Parameters
    ----------
    network, work
        The layers, and the cohort's work; takes the scores into ``work.received_scores``.
    client : int
        Its position in the cohort.
    row : Tensor
        ``[parameters]`` the received ones, in the order of ``work.received``; written over.
    rows, present : Tensor
        ``[steps, batch]`` rows of ``work.columns``, and 1 for those that are no padding.
    lr : float
        Its learning rate.

    Returns
    -------
    Tensor
        ``[steps, batch]`` losses before each update.
    """
    assert work.products is not None
    start = int(work.starts[client])
    examples = int(work.products.sizes(work.starts[client : client + 1])[0])
    counts = present.sum(1).int().tolist()
    fresh = _first_epoch(counts, examples)
    order = (rows[:fresh] - start)[present[:fresh] > 0]
    if len(order) < examples:
        left = torch.ones(examples, dtype=torch.bool)
        left[order] = False
        order = torch.cat([order, left.nonzero()[:, 0]])
    place = torch.empty_like(order).scatter_(0, order, torch.arange(examples))
    x = work.columns["x"][start : start + examples].flatten(1)
    params = own_parameters(work.received, row)
    weights = [params[weight] for weight, _ in network.layers]
    biases = [None if bias is None else params[bias] for _, bias in network.layers]
    onednn = [takes_onednn(weight, rows.shape[1]) for weight in weights]
    into = forward(weights[0], None, x.t(), x, onednn[0])
    if needs_received_losses(work.update.settings, work.plan)[client] and _knows_scores(work):
        labels = work.columns["y"][start : start + examples]
        found = _scores(work, network.classify, weights, biases, into, labels)
        work.received_scores[client] = found
    y = work.columns["y"][rows][:, None]
    scores = row.new_zeros(len(rows), weights[-1].shape[0], rows.shape[1])
    if network.classify:
        target = torch.zeros_like(scores).scatter_(1, y, 1.0)
    else:
        target = y.to(scores.dtype)
    slopes = torch.zeros_like(into)
    compiled(steps_by_products)(
        into.index_select(1, order),
        slopes,
        work.products.of(start, start + examples),
        order,
        weights,
        biases,
        onednn,
        network.classify,
        rows - start,
        place[rows - start],
        fresh,
        scores,
        target,
        counts,
        -lr * (1 if network.classify else 2),
    )
    weights[0].addmm_(slopes.index_select(1, place), x)
    return losses_of(network.classify, scores, y, 1) * present


def _first_epoch(counts: Sequence[int], examples: int) -> int:
    """Return how many steps are taken before any example comes again."""
    visited = np.cumsum(counts)
    return int(((visited <= examples) & (np.asarray(counts) > 0)).sum())


def _knows_scores(work: Work) -> bool:
    """Say whether what the orders score by can be read from a network's outputs here."""
    update = work.update
    if not update.knows_chance:
        return update.scores(work.columns["y"]) == 1
    return work.usual_chance


def _scores(
    work: Work,
    classify: bool,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    into: Tensor,
    y: Tensor,
) -> Tensor:
    """Return ``[examples, scores]`` of the received model, see ``LocalUpdate.score``."""
    out = into
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if layer:
            hidden = out.relu()
            out = forward(weight, None, hidden, hidden.t(), takes_onednn(weight, len(y)))
        out = out if bias is None else out + bias[:, None]
    if not classify:
        return (out[0] - y).square()[:, None]
    surprise = out.log_softmax(0).neg_()
    loss = surprise.gather(0, y[None])[0]
    if not work.update.knows_chance:
        return loss[:, None]
    return torch.stack([loss, chance(surprise.t(), loss)], 1)


def steps_by_products(
    into: Tensor,
    slopes: Tensor,
    kernel: Tensor,
    order: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    onednn: list[bool],
    classify: bool,
    rows: Tensor,
    places: Tensor,
    fresh: int,
    scores: Tensor,
    target: Tensor,
    counts: list[int],
    scale: float,
) -> None:
    """Train one client, writing over slopes, biases, scores and all weights but the first.

    Activations lie features before examples, ``[features, batch]``.

    Parameters
    ----------
    into, slopes : Tensor
        ``[outputs, examples]`` what the received first layer answers without its bias, in the
        order in which examples come first, and zeros: the layer ends as
        ``weights[0] + slopes @ examples``.
    kernel, order : Tensor
        ``[examples, examples]`` inner products, and ``[examples]`` that order.
    weights, biases, onednn, classify, scores, target, counts, scale
        As of :func:`fedrms.engines.dense_steps.lone_steps`.
    rows, places : Tensor
        ``[steps, batch]`` examples as in ``kernel``, and as in ``order``.
    fresh : int
        Steps before any example comes again.
    """
    last = len(weights) - 1
    batch = scores.size(2)
    ones = torch.ones(batch, dtype=scores.dtype)
    seen = 0
    for t in range(len(counts)):
        count = counts[t]
        if count == 0:
            break
        rate = scale / count
        own, place, one = rows[t, :count], places[t, :count], ones[:count]
        kept, wanted = scores[t, :, :count], target[t, :, :count]
        out = into.narrow(1, seen, count) if t < fresh else into.index_select(1, place)
        if seen > 0:
            alike = kernel.index_select(0, own).index_select(1, order.narrow(0, 0, seen))
            out = torch.addmm(out, slopes.narrow(1, 0, seen), alike.t())
        first = biases[0]
        if first is not None:
            out = out.add(first.unsqueeze(1))
        given: list[Tensor] = []
        for layer in range(1, last + 1):
            hidden = out.relu()
            given.append(hidden)
            out = forward(weights[layer], biases[layer], hidden, hidden.t(), onednn[layer])
        slope = output_slope(out, wanted, kept, classify)
        for above in range(last):
            layer = last - above
            below = backward(weights[layer], slope, onednn[layer])
            below = torch.ops.aten.threshold_backward(below, given[layer - 1], 0)
            weights[layer].addmm_(slope, given[layer - 1].t(), alpha=rate)
            bias = biases[layer]
            if bias is not None:
                bias.addmv_(slope, one, alpha=rate)
            slope = below
        if first is not None:
            first.addmv_(slope, one, alpha=rate)
        if t < fresh:
            slopes.narrow(1, seen, count).copy_(slope.mul_(rate))
            seen += count
        else:
            slopes.index_add_(1, place, slope, alpha=rate)
