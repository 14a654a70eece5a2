"""Which library multiplies the matrices of a linear layer faster on this processor.

PyTorch multiplies float32 matrices with MKL, which leaves the AVX-512 units of AMD processors
unused; oneDNN, which PyTorch brings for convolutions, uses them. From about 100,000 weights on
that outweighs its higher cost of a call (measured: docs/benchmarks.md). The product that updates
weights stays with MKL, which adds it where they lie: oneDNN's would be written out and read again.
For many examples and a few outputs MKL is slow as well where examples come first, and up to 2.7
times as fast where outputs do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LARGE = 100_000
"""Weights of a layer from which a product is worth a call of oneDNN, on such a processor."""
LEAST_BATCH = 16
"""Examples below which it is not, whatever the layer."""
NARROW = range(2, 16)
"""Outputs of a layer that are computed before examples, and not beside them."""
MANY = 256
"""Examples from which that is always faster."""


@functools.cache
def mkl_is_held_back() -> bool:
    """Say whether this is an AMD processor with AVX-512 and PyTorch has both libraries.

    The answer goes by the processor and not by a clock: the same machine gives the same bits.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processor = Path("/proc/cpuinfo")
    amd = processor.is_file() and "AuthenticAMD" in processor.read_text()
    return bool(amd and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


def takes_onednn(weight: Tensor, batch: int) -> bool:
    """Say whether the products of a layer ``[outputs, inputs]`` go to oneDNN."""
    return (
        weight.numel() >= LARGE
        and batch >= LEAST_BATCH
        and weight.dtype is torch.float32
        and weight.device.type == "cpu"
        and mkl_is_held_back()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a linear layer's outputs of examples ``[examples, inputs]``, without gradients."""
    if x.dim() == 2 and x.dtype is torch.float32:
        if takes_onednn(weight, len(x)):
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
            return y
        if _outputs_first(weight, len(x)):
            if bias is None:
                return weight.mm(x.t()).t()
            return torch.addmm(bias.unsqueeze(1), weight, x.t()).t()
    return functional.linear(x, weight, bias)


def _outputs_first(weight: Tensor, examples: int) -> bool:
    return (
        len(weight) in NARROW
        and examples >= MANY
        and weight.dtype is torch.float32
        and weight.device.type == "cpu"
        and mkl_is_held_back()
    )


def faster_linear(params: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Return what sends large layers among these parameters to the faster library."""
    large = any(p.numel() >= LARGE for p in params) and mkl_is_held_back()
    return FasterLinear() if large else nullcontext()


class FasterLinear(TorchFunctionMode):
    """Multiply the linear layers of a module as :func:`linear` does, while this is entered.

    For forward passes without gradients: it multiplies, and records nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one of PyTorch's functions, a linear layer perhaps with oneDNN."""
        kwargs = kwargs or {}
        if func is functional.linear and not kwargs and len(args) == 3:
            return linear(*args)
        return func(*args, **kwargs)
