"""Softmax regression stacked over clients, and a perceptron one client after the other."""

from __future__ import annotations

import functools
import time

import torch
import workloads
from torch import Tensor

from ceilings.layout import Data, mean, one_by_one, spread

ONEDNN = torch.ops.mkldnn._linear_pointwise
CHUNK = 100
"""Clients in one stack: their parameters and batches stay in the second-level cache."""


def softmax_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train softmax regression stacked; ``params`` is ``[classes * (features + 1)]``."""
    clients, batch = len(rows), data.batch
    order = data.sizes.argsort(descending=True)
    width = -(-rows.shape[1] // batch) * batch
    padded = torch.full((clients, width), -1)
    padded[:, : rows.shape[1]] = rows
    stack = torch.empty(clients, len(params), dtype=params.dtype)

    @torch.no_grad()
    def train(chunk: int) -> None:
        part = order[chunk * CHUNK : (chunk + 1) * CHUNK]
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

    spread(train, -(-clients // CHUNK))
    return mean(stack, data.sizes)


def mlp_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train 784-200-10 one client after the other; ``params`` in the order of the module.

    The two large products, forward and gradient, are those of BLAS, with the update fused into
    the second, or of oneDNN, whichever is faster here: on AMD processors oneDNN uses AVX-512
    where MKL does not, and takes two thirds of the time.
    """
    wide = onednn_is_faster(data.x.dtype)

    def step(own: list[Tensor], x: Tensor, hot: Tensor) -> None:
        w1, b1, w2, b2 = own
        rate = -data.lr / len(x)
        hidden = ONEDNN(x, w1, b1, "relu", [], "") if wide else torch.addmm(b1, x, w1.t()).relu_()
        slope = torch.addmm(b2, hidden, w2.t()).softmax(1).sub_(hot)
        back = torch.ops.aten.threshold_backward(slope.mm(w2), hidden, 0)
        w2.addmm_(slope.t(), hidden, alpha=rate)
        b2.add_(slope.sum(0), alpha=rate)
        if wide:
            w1.add_(ONEDNN(back.t(), x.t(), None, "none", [], ""), alpha=rate)
        else:
            w1.addmm_(back.t(), x, alpha=rate)
        b1.add_(back.sum(0), alpha=rate)

    return one_by_one(data, params, rows, ((200, 784), (200,), (10, 200), (10,)), step)


@functools.cache
def onednn_is_faster(dtype: torch.dtype) -> bool:
    """Time a 32 x 784 by 784 x 200 product both ways."""
    if dtype is not torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.randn(32, 784), torch.randn(200, 784), torch.zeros(200)
    ways = (
        lambda: ONEDNN(x, weight, bias, "none", [], ""),
        lambda: torch.addmm(bias, x, weight.t()),
    )
    seconds = [float("inf"), float("inf")]
    for _ in range(20):
        for way, product in enumerate(ways):
            started = time.perf_counter()
            product()
            seconds[way] = min(seconds[way], time.perf_counter() - started)
    return seconds[0] < seconds[1]
