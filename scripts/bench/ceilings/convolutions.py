"""Networks of convolutions one client after the other, around torch's convolution primitives.

Measured on AVX-512: channels last is as fast as channels first for the 5x5 convolution of 32
channels, two to three times as fast for 3x3 convolutions of 16 to 64, and a tenth of the time
for pooling; so every map and every kernel lies channels last from one end to the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ceilings.layout import Data, one_by_one

ATEN = torch.ops.aten
GROUPS, EPSILON = 8, 1e-5


class Convolution:
    """One convolution of one step; its operands are kept for the way back.

    Parameters
    ----------
    x, kernel : Tensor
        ``[n, in, height, width]`` and ``[out, in, k, k]``, channels last.
    stride : int
        Padding is what keeps the size at stride 1.
    dtype : torch.dtype
        What it is computed in; results come back in ``x``'s own.
    """

    def __init__(self, x: Tensor, kernel: Tensor, stride: int, dtype: torch.dtype) -> None:
        self._own = x.dtype
        self._x, self._kernel = x.to(dtype), kernel.to(dtype)
        pad = kernel.shape[2] // 2
        self._how = ([stride, stride], [pad, pad], [1, 1], False, [0, 0], 1)
        self.y = torch.convolution(self._x, self._kernel, None, *self._how).to(self._own)

    def back(self, slope: Tensor, to_input: bool = True) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of the input and of the kernel."""
        dx, dw, _ = ATEN.convolution_backward(
            slope.to(self._x.dtype),
            self._x,
            self._kernel,
            None,
            *self._how,
            [to_input, True, False],
        )
        return dx.to(self._own) if to_input else None, dw.to(self._own)


def cnn_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train the network of two convolutions; the first, of one channel, as a matrix product."""

    def unpool(slope: Tensor, x: Tensor, where: Tensor) -> Tensor:
        return ATEN.max_pool2d_with_indices_backward(
            slope, x, [2, 2], [2, 2], [0, 0], [1, 1], False, where
        )

    def step(own: list[Tensor], x: Tensor, hot: Tensor) -> None:
        w1, b1, w2, b2, w3, b3 = own
        n, kernel = len(x), w2.permute(0, 3, 1, 2)
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
        windows = padded.as_strided((n, 28, 28, 5, 5), (1024, 32, 1, 32, 1)).reshape(-1, 25)
        first = torch.addmm(b1, windows, w1.t()).view(n, 28, 28, 32).permute(0, 3, 1, 2)
        pooled, where_first = ATEN.max_pool2d_with_indices(first, [2, 2], [2, 2])
        second = Convolution(pooled.relu_(), kernel, 1, data.convolve)  # a quarter of the work
        features, where_second = ATEN.max_pool2d_with_indices(second.y, [2, 2], [2, 2])
        features.add_(b2.view(64, 1, 1)).relu_()
        flat = features.permute(0, 2, 3, 1).view(n, -1)
        slope = torch.addmm(b3, flat, w3.t()).softmax(1).sub_(hot).div_(n)
        back = ATEN.threshold_backward(slope.mm(w3), flat, 0)
        w3.addmm_(slope.t(), flat, alpha=-data.lr)
        b3.add_(slope.sum(0), alpha=-data.lr)
        b2.add_(back.view(-1, 64).sum(0), alpha=-data.lr)
        back = unpool(back.view(n, 7, 7, 64).permute(0, 3, 1, 2), second.y, where_second)
        back, dw2 = second.back(back)
        back = unpool(ATEN.threshold_backward(back, pooled, 0), first, where_first)
        back = back.permute(0, 2, 3, 1).reshape(-1, 32)
        kernel.add_(dw2, alpha=-data.lr)
        w1.addmm_(back.t(), windows, alpha=-data.lr)
        b1.add_(back.sum(0), alpha=-data.lr)

    shapes = ((32, 25), (32,), (64, 5, 5, 32), (64,), (10, 3136), (10,))
    return one_by_one(data, params, rows, shapes, step)


class Norm:
    """One GroupNorm of one step."""

    def __init__(self, x: Tensor, gain: Tensor, shift: Tensor) -> None:
        n, channels, height, width = x.shape
        self._x, self._gain = x, gain
        self._shape = (n, channels, height * width, GROUPS)
        self.y, self._mean, self._scale = ATEN.native_group_norm(
            x, gain, shift, *self._shape, EPSILON
        )

    def back(self, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the input, the gain and the shift."""
        return ATEN.native_group_norm_backward(
            slope,
            self._x,
            self._mean,
            self._scale,
            self._gain,
            *self._shape,
            [True, True, True],
        )


STAGES = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
"""Channels in, channels out and stride of the three blocks of ResNet-8."""


def resnet8_round(data: Data, params: Tensor, rows: Tensor) -> Tensor:
    """Train ResNet-8 with GroupNorm; ``params`` in the order of the module."""

    def update(own: list[Tensor], *slopes: Tensor) -> None:
        for value, slope in zip(own, slopes, strict=True):
            value.add_(slope, alpha=-data.lr)

    def joined(x: Tensor, own: list[Tensor], stride: int = 1) -> tuple[Convolution, Norm]:
        convolution = Convolution(x, own[0], stride, data.convolve)
        return convolution, Norm(convolution.y, own[1], own[2])

    def joined_back(
        layer: tuple[Convolution, Norm], slope: Tensor, own: list[Tensor], to_input: bool = True
    ) -> Tensor | None:
        slope, gain, shift = layer[1].back(slope)
        slope, kernel = layer[0].back(slope, to_input)
        update(own, kernel, gain, shift)
        return slope

    def step(given: list[Tensor], x: Tensor, hot: Tensor) -> None:
        own = [v.permute(0, 3, 1, 2) if v.dim() == 4 else v for v in given]
        stem = joined(x, own[:3])
        out, passed, at = stem[1].y.relu_(), [], 3
        for wide, wider, stride in STAGES:
            first = joined(out, own[at : at + 3], stride)
            inner = first[1].y.relu_()
            second = joined(inner, own[at + 3 : at + 6])
            side = None if wide == wider else joined(out, own[at + 6 : at + 9], stride)
            received, out = out, second[1].y.add_(out if side is None else side[1].y).relu_()
            passed.append((at, received, first, inner, second, side, out))
            at += 6 if side is None else 9
        features = out.mean((2, 3))
        slope = torch.addmm(own[-1], features, own[-2].t()).softmax(1).sub_(hot).div_(len(x))
        back = slope.mm(own[-2]).div_(64)[:, :, None, None].expand(out.shape)
        update(own[-2:], slope.t().mm(features), slope.sum(0))
        for at, _, first, inner, second, side, after in reversed(passed):
            back = ATEN.threshold_backward(back, after, 0)
            deep = joined_back(second, back, own[at + 3 : at + 6])
            deep = ATEN.threshold_backward(deep, inner, 0)
            deep = joined_back(first, deep, own[at : at + 3])
            beside = back if side is None else joined_back(side, back, own[at + 6 : at + 9])
            back = deep.add_(beside)
        joined_back(stem, ATEN.threshold_backward(back, passed[0][1], 0), own[:3], to_input=False)

    return one_by_one(data, params, rows, tuple(_shapes()), step)


def _shapes() -> list[tuple[int, ...]]:
    """Return the shapes of the packed parameters, kernels channels last."""

    def layer(wide: int, wider: int, k: int) -> list[tuple[int, ...]]:
        return [(wider, k, k, wide), (wider,), (wider,)]

    shapes = layer(3, 16, 3)
    for wide, wider, _ in STAGES:
        shapes += layer(wide, wider, 3) + layer(wider, wider, 3)
        shapes += layer(wide, wider, 1) if wide != wider else []
    return [*shapes, (10, 64), (10,)]
