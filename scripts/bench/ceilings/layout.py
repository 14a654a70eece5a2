"""What the hand-written rounds share: data laid out once, the order of a round, the mean."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import workloads
from torch import Tensor

Step = Callable[[list[Tensor], Tensor, Tensor], None]
"""``step(parameters, x, hot)`` trains one client on one batch, in place."""


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
    convolve : torch.dtype
        What convolutions other than a first one of a single channel are computed in.
    """

    x: Tensor
    y: Tensor
    offsets: Tensor
    sizes: Tensor
    batch: int
    lr: float
    hot: Tensor
    convolve: torch.dtype


def prepare(
    workload: workloads.Workload,
    dtype: torch.dtype = torch.float32,
    convolve: torch.dtype | None = None,
) -> Data:
    """Lay the data out as the forms want it; done once in a run."""
    spec = workload.spec
    x, y = torch.from_numpy(workload.x).to(dtype), torch.from_numpy(workload.y)
    if spec.model == "softmax":  # a constant feature takes the place of the bias
        x = torch.cat([x, torch.ones(len(x), 1, dtype=dtype)], 1)
    elif spec.model == "mlp":
        x = x.flatten(1)
    elif spec.model == "resnet8":
        x = x.contiguous(memory_format=torch.channels_last)
    hot = torch.nn.functional.one_hot(y, workloads.CLASSES).to(dtype)
    offsets = torch.from_numpy(workload.offsets)
    return Data(x, y, offsets[:-1], offsets.diff(), spec.batch, spec.lr, hot, convolve or dtype)


def shuffle(data: Data, generator: torch.Generator) -> Tensor:
    """Return ``[clients, longest]`` global rows: each client's own in random order, then -1."""
    longest = int(data.sizes.max())
    keys = torch.rand(len(data.sizes), longest, generator=generator)
    keys[torch.arange(longest) >= data.sizes[:, None]] = 2.0
    order = keys.argsort(1)
    rows = order + data.offsets[:, None]
    return torch.where(torch.arange(longest) < data.sizes[:, None], rows, -1)


def mean(stack: Tensor, sizes: Tensor) -> Tensor:
    """Average the clients by examples: one matrix-vector product."""
    return (sizes / sizes.sum()).to(stack.dtype) @ stack


def one_by_one(
    data: Data, params: Tensor, rows: Tensor, shapes: tuple[tuple[int, ...], ...], step: Step
) -> Tensor:
    """Train each client where its row of the stack lies, and average; a thread a core."""
    stack = params.repeat(len(rows), 1)
    sizes = [int(np.prod(shape)) for shape in shapes]
    counts = data.sizes.tolist()

    @torch.no_grad()
    def train(client: int) -> None:
        pieces = stack[client].split(sizes)
        parts = [part.view(shape) for part, shape in zip(pieces, shapes, strict=True)]
        for batch in rows[client, : counts[client]].split(data.batch):
            step(parts, data.x.index_select(0, batch), data.hot.index_select(0, batch))

    spread(train, len(rows))
    return mean(stack, data.sizes)


def spread(run: Callable[[int], None], parts: int) -> None:
    """Run the parts on as many threads as PyTorch has, each operation on one."""
    threads = torch.get_num_threads()
    if threads == 1:
        for part in range(parts):
            run(part)
    else:
        list(_pool(threads).map(run, range(parts)))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def pack(model: str, params: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Tensor:
    """Lay the torch module's parameters out as the forms take them: channels last."""
    values = [torch.as_tensor(value, dtype=dtype) for value in params.values()]
    if model == "softmax":
        return torch.cat([values[0], values[1][:, None]], 1).reshape(-1)
    shapes = _four_axes(model, params)
    values = [v.reshape(s).movedim(1, -1) for v, s in zip(values, shapes, strict=True)]
    return torch.cat([value.reshape(-1) for value in values])


def unpack(model: str, flat: Tensor, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Undo :func:`pack`."""
    if model == "softmax":
        table = flat.view(workloads.CLASSES, -1)
        return dict(zip(like, (table[:, :-1].numpy(), table[:, -1].numpy()), strict=True))
    named = {}
    parts = flat.split([value.size for value in like.values()])
    for (name, value), part, shape in zip(
        like.items(), parts, _four_axes(model, like), strict=True
    ):
        last = (shape[0], *shape[2:], shape[1])
        named[name] = part.view(last).movedim(-1, 1).reshape(value.shape).numpy()
    return named


def _four_axes(model: str, params: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the shapes as (out, in, height, width): what lies beneath a flattened map too."""
    shapes = []
    for value in params.values():
        shape = tuple(value.shape)
        if model == "cnn" and shape == (workloads.CLASSES, 3136):
            shape = (workloads.CLASSES, 64, 7, 7)
        shapes.append(shape if len(shape) == 4 else (*shape, 1, 1, 1)[:4])
    return shapes
