"""Batch normalisation of clients: statistics of the rows that are there, as values and not state.

``torch.nn.BatchNorm`` writes running statistics into its buffers while it trains, and takes every
row of a batch into account. Clients are stacked and their last batches padded, so here each
layer's statistics are part of a client's state, and padding counts for nothing. The numbers are
PyTorch's for the same rows (Ioffe and Szegedy 2015, arXiv:1502.03167).

A batch that leaves a channel a single value has no variance. PyTorch refuses it; here it is
normalised by the running statistics, as in evaluation, and leaves them as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from fedrms.errors import ConfigError

Tree = dict[str, Tensor]

COUNTER = "num_batches_tracked"


def moving_statistics(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the running statistics that training moves.

    Those of layers that someone put into evaluation mode, as is usual in fine-tuning, stay. A layer
    whose statistics cannot be followed is refused.
    """
    names: list[str] = []
    for prefix, layer in _tracking(module):
        if isinstance(layer, nn.SyncBatchNorm):
            raise ConfigError(
                "model",
                f"layer {prefix!r} (SyncBatchNorm) averages over processes of torch.distributed",
                "use BatchNorm1d, BatchNorm2d or BatchNorm3d",
            )
        if layer.momentum is None:
            raise ConfigError(
                "model",
                f"layer {prefix!r} ({type(layer).__name__}) has momentum=None, so that its running "
                "statistics depend on how many batches there ever were",
                "give it a momentum, such as PyTorch's default of 0.1",
            )
        names += [f"{prefix}.{name}".lstrip(".") for name in ("running_mean", "running_var")]
    return tuple(names)


def normalises(module: nn.Module) -> bool:
    """Say whether a layer normalises by the batch, with or without running statistics."""
    return any(isinstance(layer, _NormBase) for layer in module.modules())


def _tracking(module: nn.Module) -> list[tuple[str, Any]]:
    return [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats and layer.training
    ]


class BatchStatistics(TorchFunctionMode):
    """Let the layers inside see the rows that are present, and collect what they track.

    Parameters
    ----------
    module : nn.Module
        Whose layers they are.
    present : Tensor
        ``[batch]``, 1 for an example and 0 for padding.
    statistics : dict of Tensor
        The running statistics, as the module is given them.
    still : bool
        Leave them as they are: they are nobody's who is trained here. A batch that leaves a channel
        a single value then says nothing there.
    momentum : float, optional
        In place of the layers' own.

    Attributes
    ----------
    latest : dict of Tensor
        The statistics after what ran inside.
    """

    def __init__(
        self,
        module: nn.Module,
        present: Tensor,
        statistics: Tree,
        *,
        still: bool = False,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        self._present = present
        self._still, self._momentum = still, momentum
        self._given = statistics
        self._counters = [
            layer.num_batches_tracked
            for _, layer in _tracking(module)
            if layer.num_batches_tracked is not None
        ]
        self.latest = dict(statistics)

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Normalise by the rows that are there; leave every other function as it is."""
        if func is torch.Tensor.add_ and any(args[0] is counter for counter in self._counters):
            return args[0]  # steps are counted where they are taken
        named = _NAMED.get(func)
        if named is None:
            return func(*args, **(kwargs or {}))
        told = inspect.signature(func).bind(*args, **(kwargs or {}))
        told.apply_defaults()
        if not told.arguments[named]:
            return func(*args, **(kwargs or {}))
        make = self._by_batch if func is functional.batch_norm else self._by_instance
        return make(told.arguments)

    def _by_batch(self, told: dict[str, Any]) -> Tensor:
        x: Tensor = told["input"]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = self._rows(wide)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = rows.sum() * (wide[:1, :1].numel())
        many = count.clamp(min=1.0)
        mean = (wide * rows).sum(axes) / many
        apart = wide - _by_channel(mean, x.dim())
        variance = (apart.square() * rows).sum(axes) / many
        used_mean, used_variance = mean, variance
        if told["running_mean"] is not None and not self._still:
            enough = count > 1
            running = [self._current(told[key]) for key in ("running_mean", "running_var")]
            used_mean = torch.where(enough, mean, running[0])
            used_variance = torch.where(enough, variance, running[1])
            unbiased = variance * count / (count - 1.0).clamp(min=1.0)
            self._move(told, enough, mean, unbiased)
        y = (wide - _by_channel(used_mean, x.dim())) * _by_channel(
            (used_variance + told["eps"]).rsqrt(), x.dim()
        )
        return _scaled(y, told).to(x.dtype)

    def _by_instance(self, told: dict[str, Any]) -> Tensor:
        """Return each example normalised by itself; the mean over those present is tracked."""
        x: Tensor = told["input"]
        bare = {**told, "running_mean": None, "running_var": None}
        y: Tensor = functional.instance_norm(**bare)
        if told["running_mean"] is not None and not self._still:
            places = list(range(2, x.dim()))
            rows = self._rows(x).flatten(1)
            wide = x.to(rows.dtype)
            many = rows.sum().clamp(min=1.0)
            mean = (wide.mean(places) * rows).sum(0) / many
            variance = (wide.var(places, unbiased=True) * rows).sum(0) / many
            self._move(told, rows.sum() > 0, mean, variance)
        return y

    def _move(self, told: dict[str, Any], works: Tensor, mean: Tensor, variance: Tensor) -> None:
        for key, seen in (("running_mean", mean), ("running_var", variance)):
            before = self._current(told[key])
            rate = told["momentum"] if self._momentum is None else self._momentum
            step = rate * (seen.detach().to(before.dtype) - before)
            self.latest[self._name(told[key])] = before + works.to(before.dtype) * step

    def _rows(self, x: Tensor) -> Tensor:
        """Return which rows count, to multiply with: ``[rows, 1, ...]``."""
        present = self._present.to(torch.promote_types(x.dtype, torch.float32))
        times = x.shape[0] // max(1, len(present))
        if times * len(present) != x.shape[0]:
            raise ConfigError(
                "model",
                f"normalises {x.shape[0]} rows together where the batch has {len(present)} "
                "examples, so padding cannot be told from examples",
                "let batch normalisation see the same number of rows for each example",
            )
        return present.repeat_interleave(times).view(-1, *(1,) * (x.dim() - 1))

    def _current(self, buffer: Tensor) -> Tensor:
        return self.latest[self._name(buffer)]

    def _name(self, buffer: Tensor) -> str:
        for name, value in self._given.items():
            if value is buffer:
                return name
        raise ConfigError(
            "model",
            "tracks running statistics outside of a layer of torch.nn, in a buffer that clients "
            "cannot follow",
            "use torch.nn.BatchNorm1d, BatchNorm2d or BatchNorm3d",
        )


def _by_channel(values: Tensor, dimensions: int) -> Tensor:
    return values.view(1, -1, *(1,) * (dimensions - 2))


def _scaled(y: Tensor, told: dict[str, Any]) -> Tensor:
    if told["weight"] is not None:
        y = y * _by_channel(told["weight"], y.dim())
    return y if told["bias"] is None else y + _by_channel(told["bias"], y.dim())


_NAMED: dict[Callable[..., Any], str] = {
    functional.batch_norm: "training",
    functional.instance_norm: "use_input_stats",
}
"""The functions that normalise by the batch, and what says that they do."""
