"""The ceiling: the arithmetic of a round written by hand, with no framework and no autograd.

``python ceiling.py WORKLOAD.npz`` checks each form against a plain autograd loop in float64.

softmax: clients stacked into batched matrix products, classes before examples.
mlp:     one client after the other, the update fused into the product that makes the gradient.
cnn, resnet8: the same, around torch's convolution primitives, channels last throughout.

The forms are in ``ceilings/``. A round is: shuffle every client's rows, train, and one
matrix-vector product for the mean. With bf16, the operands of convolutions are rounded to it
and everything else, the parameters too, stays float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
import workloads
from ceilings.convolutions import cnn_round, resnet8_round
from ceilings.dense import mlp_round, softmax_round
from ceilings.layout import Data, pack, prepare, shuffle
from torch import Tensor

FORMS: Mapping[str, Callable[[Data, Tensor, Tensor], Tensor]] = {
    "softmax": softmax_round,
    "mlp": mlp_round,
    "cnn": cnn_round,
    "resnet8": resnet8_round,
}
BF16 = ("cnn", "resnet8")
"""Models that have a form with bf16 convolutions."""
CHECKED = 1200
"""Most examples that a check trains on, in whole clients: float64 convolutions are slow."""


def check(workload: workloads.Workload) -> float:
    """Return the largest difference from an autograd loop after a float64 round."""
    data = _first(prepare(workload, torch.float64))
    start = pack(workload.spec.model, workload.initial, torch.float64)
    rows = shuffle(data, torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = FORMS[workload.spec.model](data, start, rows)
    return float((ours - _autograd(workload, data, rows)).abs().max())


def price(workload: workloads.Workload) -> tuple[float, float]:
    """Return how far a bf16 and a float32 round end from float64's, as shares of its way."""
    exact = _first(prepare(workload, torch.float64))
    rows = shuffle(exact, torch.Generator().manual_seed(0))
    ends = []
    for dtype, convolve in (
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
    ):
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        data = _first(prepare(workload, wide, convolve))
        with torch.no_grad():
            start = pack(workload.spec.model, workload.initial, wide)
            ends.append(FORMS[workload.spec.model](data, start, rows).double())
    moved = (ends[0] - pack(workload.spec.model, workload.initial, torch.float64)).norm()
    return float((ends[1] - ends[0]).norm() / moved), float((ends[2] - ends[0]).norm() / moved)


def _first(data: Data) -> Data:
    """Keep the first clients, up to so many examples, and all of softmax's small ones."""
    from dataclasses import replace

    if data.x.dim() == 2:
        return data
    few = max(1, int((data.sizes.cumsum(0) <= CHECKED).sum()))
    return replace(data, offsets=data.offsets[:few], sizes=data.sizes[:few])


def _autograd(workload: workloads.Workload, data: Data, rows: Tensor) -> Tensor:
    """Train the torch module on the same batches with autograd and torch.optim."""
    model, dtype = workload.spec.model, data.x.dtype
    x = torch.from_numpy(workload.x).to(dtype)
    module = workloads.make_model(model).to(dtype)
    total = torch.zeros_like(pack(model, workload.initial, dtype))
    for order, count in zip(rows, data.sizes.tolist(), strict=True):
        module.load_state_dict({n: torch.from_numpy(v) for n, v in workload.initial.items()})
        optimizer = torch.optim.SGD(module.parameters(), lr=data.lr)
        for batch in order[:count].split(data.batch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[batch]), data.y[batch]).backward()
            optimizer.step()
        total += pack(model, module.state_dict(), dtype) * (count / int(data.sizes.sum()))
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=workloads.load, nargs="+")
    for given in parser.parse_args().workload:
        print(f"{given.name}: largest difference from autograd {check(given):.1e}")
        if given.spec.model in BF16:
            rounded, single = price(given)
            print(f"  off float64 by {rounded:.1e} of the way in bf16, {single:.1e} in float32")
