"""Pool images with their channels last: a tenth of the time on a CPU.

PyTorch's max-pooling walks images of ``[examples, channels, height, width]`` one number at a
time; where channels lie last it takes them many at a time. So a step brings images into that
layout before they are pooled; convolutions and activations after it keep the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from fedrms.client.plain_dispatch import PlainDispatch

ATEN = torch.ops.aten


def _pool(x: Tensor, *options: Any) -> Any:
    if not _unfit(x):
        return NotImplemented
    return ATEN.max_pool2d_with_indices(_last(x), *options)


def _pool_backward(
    slope: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Any:
    if not (_unfit(x) or _unfit(slope) or _unfit(indices)):
        return NotImplemented
    return ATEN.max_pool2d_with_indices_backward(
        _last(slope), _last(x), kernel, stride, padding, dilation, ceil_mode, _last(indices)
    )


def _relu_backward(slope: Tensor, result: Tensor, threshold: float) -> Any:
    if _unfit(slope) or not _unfit(result):
        return NotImplemented
    return ATEN.threshold_backward(slope, _last(result), threshold)


CHANNELS_LAST: Mapping[torch._ops.OpOverload[..., Any], Callable[..., Any]] = {
    ATEN.max_pool2d_with_indices.default: _pool,
    ATEN.max_pool2d_with_indices_backward.default: _pool_backward,
    ATEN.threshold_backward.default: _relu_backward,
}
"""What is done in place of an operation; NotImplemented leaves it as it is."""


class ChannelsLast(PlainDispatch):  # type: ignore[no-untyped-call]
    """Do so where a step is not traced, so that it takes the same ways to the same bits."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation, in its other layout where it has one."""
        other = CHANNELS_LAST.get(func)
        result = NotImplemented if other is None else other(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is NotImplemented else result


def share_layouts(graph: GraphModule) -> None:
    """Bring a tensor into a layout once, however many operations ask for it.

    Nothing writes to what was copied: updates in place come later and change parameters only.
    """
    copies: dict[Any, Node] = {}
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is ATEN.clone.default and node.kwargs:
            first = copies.setdefault((node.args, tuple(node.kwargs.items())), node)
            if first is not node:
                node.replace_all_uses_with(first)


def _unfit(x: Tensor) -> bool:
    """Say whether images on a CPU lie in another layout."""
    on_cpu = x.device.type == "cpu" and x.dim() == 4
    return on_cpu and not x.is_contiguous(memory_format=torch.channels_last)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
