"""The steps of dense training, in the part of Python that TorchScript compiles.

As they stand they run under Python's lock, an operation at a time; compiled, a chunk of
clients runs without it, so that several worker threads really work side by side.
"""

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger("fedrms")


def stacked_steps(
    weights: list[torch.Tensor],
    biases: list[torch.Tensor | None],
    classify: bool,
    examples: torch.Tensor,
    rows: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    rate: torch.Tensor,
    active: list[int],
) -> None:
    """Train a batch of clients, writing over weights, biases and scores.

    Parameters
    ----------
    weights, biases : list of Tensor
        A layer each: ``[clients, outputs, inputs]`` and ``[clients, outputs]``.
    classify : bool
        Cross-entropy on class scores, or the squared error of one output.
    examples : Tensor
        ``[total, inputs]``.
    rows : Tensor
        ``[steps, clients * batch]``.
    scores : Tensor
        ``[steps, outputs, clients, batch]``: takes log-probabilities, or errors.
    target : Tensor
        Of the same shape: ones for the true classes, or targets.
    rate : Tensor
        ``[steps, clients, batch]``: what a slope at the output is multiplied by.
    active : list of int
        ``[steps]`` clients still at work.
    """
    batch = scores.size(3)
    last = len(weights) - 1
    width = -1
    mine: list[torch.Tensor] = []
    offsets: list[torch.Tensor | None] = []
    for t in range(len(active)):
        if active[t] != width:
            width = active[t]
            mine = [weight[:width] for weight in weights]
            offsets = []
            for bias in biases:
                if bias is None:
                    offsets.append(None)
                else:
                    offsets.append(bias[:width])
        x = examples.index_select(0, rows[t, : width * batch]).view(width, batch, -1)
        given = [x]
        for layer in range(last):
            turned = mine[layer].transpose(1, 2)
            bias = offsets[layer]
            if bias is None:
                into = given[layer].bmm(turned)
            else:
                into = torch.baddbmm(bias.unsqueeze(1), given[layer], turned)
            given.append(into.relu_())
        bias = offsets[last]
        if bias is None:
            out = mine[last].bmm(given[last].transpose(1, 2))
        else:
            out = torch.baddbmm(bias.unsqueeze(2), mine[last], given[last].transpose(1, 2))
        out = out.transpose(0, 1)
        kept, wanted = scores[t, :, :width], target[t, :, :width]
        out = output_slope(out, wanted, kept, classify)
        slope = out.mul_(rate[t, :width]).permute(1, 2, 0)
        for above in range(last + 1):
            layer = last - above
            below = slope
            if layer > 0:
                below = slope.bmm(mine[layer])
                below = torch.ops.aten.threshold_backward(below, given[layer], 0)
            mine[layer].baddbmm_(slope.transpose(1, 2), given[layer], alpha=-1)
            bias = offsets[layer]
            if bias is not None:
                bias.sub_(slope.sum(1))
            slope = below


def lone_clients(
    received: torch.Tensor | None,
    models: list[torch.Tensor],
    weights: list[list[torch.Tensor]],
    biases: list[list[torch.Tensor | None]],
    onednn: list[bool],
    classify: bool,
    examples: torch.Tensor,
    rows: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    counts: list[list[int]],
    scales: list[float],
) -> None:
    """Train some clients one after the other, see :func:`lone_steps`.

    Parameters
    ----------
    received : Tensor, optional
        ``[parameters]`` that a client begins with; by default what its model holds.
    models : list of Tensor
        ``[parameters]`` a client, in which its weights and biases lie.
    rows : Tensor
        ``[steps, clients, batch]``.
    scores, target : Tensor
        ``[steps, clients, outputs, batch]``.
    weights, biases, onednn, classify, examples, counts, scales
        As there, a list for each client of what is the client's own.
    """
    for client in range(len(models)):
        if received is not None:
            models[client].copy_(received)
        lone_steps(
            weights[client],
            biases[client],
            onednn,
            classify,
            examples,
            rows[:, client],
            scores[:, client],
            target[:, client],
            counts[client],
            scales[client],
        )


def lone_steps(
    weights: list[torch.Tensor],
    biases: list[torch.Tensor | None],
    onednn: list[bool],
    classify: bool,
    examples: torch.Tensor,
    rows: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    counts: list[int],
    scale: float,
) -> None:
    """Train one client, writing over weights, biases and scores.

    Activations lie features before examples, ``[features, batch]``.

    Parameters
    ----------
    weights, biases : list of Tensor
        A layer each: ``[outputs, inputs]`` and ``[outputs]``.
    onednn : list of bool
        Which layers' products go to oneDNN, see :mod:`fedrms.client.products`.
    classify, examples
        As of :func:`stacked_steps`.
    rows : Tensor
        ``[steps, batch]``.
    scores, target : Tensor
        ``[steps, outputs, batch]``.
    counts : list of int
        ``[steps]`` examples in each batch; none from where the client has finished.
    scale : float
        What a slope at the output is multiplied by, times the examples of its batch.
    """
    last = len(weights) - 1
    batch = scores.size(2)
    ones = torch.ones(batch, dtype=scores.dtype, device=scores.device)
    for t in range(len(counts)):
        count = counts[t]
        if count == 0:
            break
        rate = scale / count
        own, kept, wanted, one = rows[t], scores[t], target[t], ones
        if count < batch:
            own, kept, wanted = own[:count], kept[:, :count], wanted[:, :count]
            one = ones[:count]
        x = examples.index_select(0, own)
        given = [x.t()]
        turned = [x]
        for layer in range(last):
            into = forward(
                weights[layer], biases[layer], given[layer], turned[layer], onednn[layer]
            ).relu_()
            given.append(into)
            turned.append(into.t())
        slope = forward(weights[last], biases[last], given[last], turned[last], onednn[last])
        slope = output_slope(slope, wanted, kept, classify)
        for above in range(last + 1):
            layer = last - above
            weight = weights[layer]
            below = slope
            if layer > 0:
                below = backward(weight, slope, onednn[layer])
                below = torch.ops.aten.threshold_backward(below, given[layer], 0)
            weight.addmm_(slope, turned[layer], alpha=rate)
            bias = biases[layer]
            if bias is not None:
                bias.addmv_(slope, one, alpha=rate)
            slope = below


def output_slope(
    out: torch.Tensor, wanted: torch.Tensor, kept: torch.Tensor, classify: bool
) -> torch.Tensor:
    """Return the slope of the losses at the outputs ``[outputs, ...]``.

    ``kept`` takes log-probabilities, or errors.
    """
    if classify:
        out = out.log_softmax(0)
        kept.copy_(out)
        return out.exp_().sub_(wanted)
    out = out.sub(wanted)
    kept.copy_(out)
    return out


def forward(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    given: torch.Tensor,
    turned: torch.Tensor,
    onednn: bool,
) -> torch.Tensor:
    """Return ``weight @ given + bias``, ``[outputs, batch]``.

    Parameters
    ----------
    weight, bias : Tensor
        ``[outputs, inputs]`` and ``[outputs]``.
    given, turned : Tensor
        ``[inputs, batch]``, and the same the other way round.
    onednn : bool
        Whether oneDNN multiplies.
    """
    if not onednn:
        if bias is None:
            return weight.mm(given)
        return torch.addmm(bias.unsqueeze(1), weight, given)
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(weight, turned, None, "none", [], "")
    if bias is not None:
        result.add_(bias.unsqueeze(1))
    return result


def backward(weight: torch.Tensor, slope: torch.Tensor, onednn: bool) -> torch.Tensor:
    """Return ``weight.t() @ slope``, ``[inputs, batch]``, where slope is ``[outputs, batch]``."""
    if not onednn:
        return weight.t().mm(slope)
    turned: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        slope.t(), weight.t(), None, "none", [], ""
    )
    return turned.t()


@functools.cache
def compiled(steps: Callable[..., None]) -> Callable[..., Any]:
    """Return one of the functions above compiled, or as it is where there is no TorchScript.

    It is deprecated, and nothing that took its place runs eager operations without Python's lock.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            made: Callable[..., Any] = torch.jit.script(steps)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            log.debug("linear layers are trained under Python's lock: %s", str(error)[:200])
            return steps
    return made
