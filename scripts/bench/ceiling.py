"""The ceiling: the arithmetic of a round written by hand, with no framework and no autograd.

``python ceiling.py WORKLOAD.npz`` checks each form against a plain autograd loop in float64.

softmax: clients stacked into batched matrix products, classes before examples.
mlp:     one client after the other, the update fused into the product that makes the gradient.
cnn:     the same, around torch's convolution primitives, each in the layout it likes best.

A round is: shuffle every client's rows, train, and one matrix-vector product for the mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import workloads
from torch import Tensor

ATEN = torch.ops.aten
CHUNK = 100
"""Clients in one stack: their parameters and batches stay in the second-level cache."""


@dataclass(frozen=True)
class Data:
    """Everyone's examples and the batches' shape.

    Attributes
    ----------
    x, y : Tensor
        ``[total, ...]``.
    offsets, sizes : Tensor
        First row and number of rows of each client.
    batch, lr
        Of local SGD.
    hot : Tensor
        ``[total, classes]`` the labels as ones and zeros.
    """

    x: Tensor
    y: Tensor
    offsets: Tensor
    sizes: Tensor
    batch: int
    lr: float
    hot: Tensor


def prepare(workload: workloads.Workload, dtype: torch.dtype = torch.float32) -> Data:
    """Lay the data out as the forms below want it; done once in a run."""
    spec = workload.spec
    x, y = torch.from_numpy(workload.x).to(dtype), torch.from_numpy(workload.y)
    if spec.model == "softmax":  # a constant feature takes the place of the bias
        x = torch.cat([x, torch.ones(len(x), 1, dtype=dtype)], 1)
    elif spec.model == "mlp":
        x = x.flatten(1)
    hot = torch.nn.functional.one_hot(y, workloads.CLASSES).to(dtype)
    offsets = torch.from_numpy(workload.offsets)
    return Data(x, y, offsets[:-1], offsets.diff(), spec.batch, spec.lr, hot)


def shuffle(data: Data, generator: torch.Generator) -> Tensor:
    """Return ``[clients, longest]`` global rows: each client's own in random order, then -1."""
    longest = int(data.sizes.max())
    keys = torch.rand(len(data.sizes), longest, generator=generator)
    keys[torch.arange(longest) >= data.sizes[:, None]] = 2.0
    order = keys.argsort(1)
    rows = order + data.offsets[:, None]
    return torch.where(torch.arange(longest) < data.sizes[:, None], rows, -1)


def softmax_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train softmax regression stacked; ``params`` is ``[classes * (features + 1)]``."""
    clients, batch = len(rows), data.batch
    order = data.sizes.argsort(descending=True)
    width = -(-rows.shape[1] // batch) * batch
    padded = torch.full((clients, width), -1)
    padded[:, : rows.shape[1]] = rows
    stack = torch.empty(clients, len(params), dtype=params.dtype)
    for start in range(0, clients, CHUNK):
        part = order[start : start + CHUNK]
        steps = -(-data.sizes[part] // batch)
        longest = int(steps[0])
        index = padded[part, : longest * batch].view(len(part), longest, batch).transpose(0, 1)
        present = index >= 0
        index = index.clamp(min=0).contiguous()
        rate = (present / present.sum(2, keepdim=True).clamp(min=1)).to(params.dtype) * data.lr
        active = (steps > torch.arange(longest)[:, None]).sum(1).tolist()
        weights = params.view(1, workloads.CLASSES, -1).repeat(len(part), 1, 1)
        for step, n in enumerate(active):
            flat = index[step, :n].view(-1)
            x = data.x.index_select(0, flat).view(n, batch, -1)
            hot = data.hot.index_select(0, flat).view(n, batch, -1).transpose(1, 2)
            mine = weights[:n]
            slope = mine.bmm(x.transpose(1, 2)).softmax(1).sub_(hot).mul_(rate[step, :n, None])
            mine.baddbmm_(slope, x, alpha=-1)
        stack[part] = weights.flatten(1)
    return _mean(stack, data.sizes)


def mlp_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train 784-200-10 one client after the other; ``params`` in the order of the module."""

    def step(own: list[Tensor], x: Tensor, hot: Tensor) -> None:
        w1, b1, w2, b2 = own
        hidden = torch.addmm(b1, x, w1.t()).relu_()
        slope = torch.addmm(b2, hidden, w2.t()).softmax(1).sub_(hot)
        back = slope.mm(w2).mul_(hidden.sign())
        rate = -data.lr / len(x)
        w2.addmm_(slope.t(), hidden, alpha=rate)
        b2.add_(slope.sum(0), alpha=rate)
        w1.addmm_(back.t(), x, alpha=rate)
        b1.add_(back.sum(0), alpha=rate)

    return _one_by_one(data, params, rows, ((200, 784), (200,), (10, 200), (10,)), step)


def cnn_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train the network of two convolutions one client after the other.

    Measured on AVX2: the first convolution, of one channel, is fastest as a matrix product;
    pooling wants channels last (a tenth of the time), the second convolution channels first.
    """
    last = torch.channels_last

    def pool(x: Tensor) -> tuple[Tensor, Tensor]:
        return ATEN.max_pool2d_with_indices(x, [2, 2], [2, 2])

    def unpool(slope: Tensor, x: Tensor, where: Tensor) -> Tensor:
        slope = slope.contiguous(memory_format=last)
        return ATEN.max_pool2d_with_indices_backward(
            *(slope, x, [2, 2], [2, 2], [0, 0], [1, 1], False, where)
        )

    def step(own: list[Tensor], x: Tensor, hot: Tensor) -> None:
        w1, b1, w2, b2, w3, b3 = own
        n = len(x)
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
        strides = (1024, 32, 1, 32, 1)
        windows = padded.as_strided((n, 28, 28, 5, 5), strides).reshape(-1, 25)
        first = torch.addmm(b1, windows, w1.view(32, 25).t()).view(n, 28, 28, 32)
        first = first.permute(0, 3, 1, 2)
        pooled, where_first = pool(first)
        pooled = pooled.relu_().contiguous()  # after pooling: a quarter of the work
        second = torch.convolution(pooled, w2, b2, [1, 1], [2, 2], [1, 1], False, [0, 0], 1)
        second = second.contiguous(memory_format=last)
        features, where_second = pool(second)
        flat = features.relu_().contiguous().flatten(1)
        slope = torch.addmm(b3, flat, w3.t()).softmax(1).sub_(hot).div_(n)
        back = slope.mm(w3).mul_(flat.sign()).view(n, 64, 7, 7)
        w3.addmm_(slope.t(), flat, alpha=-data.lr)
        b3.add_(slope.sum(0), alpha=-data.lr)
        back = unpool(back, second, where_second).contiguous()
        fixed = ([64], [1, 1], [2, 2], [1, 1], False, [0, 0], 1, [True, True, True])
        back, dw2, db2 = ATEN.convolution_backward(back, pooled, w2, *fixed)
        back = unpool(back.mul_(pooled.sign()), first, where_first)
        back = back.permute(0, 2, 3, 1).reshape(-1, 32)
        w2.add_(dw2, alpha=-data.lr)
        b2.add_(db2, alpha=-data.lr)
        w1.view(32, 25).addmm_(back.t(), windows, alpha=-data.lr)
        b1.add_(back.sum(0), alpha=-data.lr)

    shapes = ((32, 1, 5, 5), (32,), (64, 32, 5, 5), (64,), (10, 3136), (10,))
    return _one_by_one(data, params, rows, shapes, step)


def _one_by_one(
    data: Data,
    params: Tensor,
    rows: Tensor,
    shapes: tuple[tuple[int, ...], ...],
    step: Callable[[list[Tensor], Tensor, Tensor], None],
) -> Tensor:
    """Train each client where its row of the stack lies, and average."""
    stack = params.repeat(len(rows), 1)
    sizes = [int(np.prod(shape)) for shape in shapes]
    for own, order, count in zip(stack, rows, data.sizes.tolist(), strict=True):
        parts = [part.view(shape) for part, shape in zip(own.split(sizes), shapes, strict=True)]
        for batch in order[:count].split(data.batch):
            step(parts, data.x.index_select(0, batch), data.hot.index_select(0, batch))
    return _mean(stack, data.sizes)


def _mean(stack: Tensor, sizes: Tensor) -> Tensor:
    return (sizes / sizes.sum()).to(stack.dtype) @ stack


FORMS: Mapping[str, Callable[[Data, Tensor, Tensor], Tensor]] = {
    "softmax": softmax_round,
    "mlp": mlp_round,
    "cnn": cnn_round,
}


def pack(model: str, params: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Tensor:
    """Lay the torch module's parameters out as the forms take them."""
    values = [torch.as_tensor(value, dtype=dtype) for value in params.values()]
    if model == "softmax":
        return torch.cat([values[0], values[1][:, None]], 1).reshape(-1)
    return torch.cat([value.reshape(-1) for value in values])


def unpack(model: str, flat: Tensor, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Undo :func:`pack`."""
    if model == "softmax":
        table = flat.view(workloads.CLASSES, -1)
        return dict(zip(like, (table[:, :-1].numpy(), table[:, -1].numpy()), strict=True))
    parts = flat.split([value.size for value in like.values()])
    named = zip(like.items(), parts, strict=True)
    return {name: part.view(value.shape).numpy() for (name, value), part in named}


def check(workload: workloads.Workload) -> float:
    """Return the largest difference from an autograd loop after a float64 round."""
    model, wide = workload.spec.model, torch.float64
    data = prepare(workload, wide)
    rows = shuffle(data, torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = FORMS[model](data, pack(model, workload.initial, wide), rows)
    x = torch.from_numpy(workload.x).to(wide)
    module = workloads.make_model(model).double()
    total = torch.zeros_like(ours)
    for order, count in zip(rows, data.sizes.tolist(), strict=True):
        module.load_state_dict({n: torch.from_numpy(v) for n, v in workload.initial.items()})
        optimizer = torch.optim.SGD(module.parameters(), lr=data.lr)
        for batch in order[:count].split(data.batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[batch]), data.y[batch]).backward()
            optimizer.step()
        total += pack(model, module.state_dict(), wide) * (count / len(x))
    return float((ours - total).abs().max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=workloads.load, nargs="+")
    for given in parser.parse_args().workload:
        print(f"{given.name}: largest difference from autograd {check(given):.1e}")
