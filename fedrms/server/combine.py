"""From a stack of client updates to one: means and robust centres, all weighted.

Every function takes ``parameters`` ``[clients, parameters]``, the model each client
returned, ``received`` ``[parameters]``, the model they were all given, and ``weights``
``[clients]``; and returns the pseudo-gradient's opposite, ``[parameters]``: the step from
``received``. Sums are accumulated in float64 over blocks of columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedrms.errors import ConfigError

BLOCK = 1 << 13
"""Most columns handled at a time."""
CELLS = 1 << 20
"""Most numbers handled at a time: their float64 copy then stays in a CPU's caches."""


def mean(parameters: Tensor, received: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k w_k (x_k - received); weights that sum to 1 give the weighted mean."""
    step = torch.empty_like(received)
    total = weights.sum()
    for block in _blocks(parameters):
        summed = weights @ parameters[:, block].double()
        step[block] = (summed - total * received[block].double()).to(step.dtype)
    return step


def median(parameters: Tensor, received: Tensor, weights: Tensor) -> Tensor:
    """Return the step to the weighted coordinate median (Yin et al. 2018, arXiv:1803.01498).

    The value at which half of the weight lies on either side; the midpoint of two values
    where exactly half lies below the first.
    """
    share = weights / weights.sum()
    last = len(share) - 1
    alike = bool((share == share[0]).all())
    step = torch.empty_like(received)
    for block in _blocks(parameters):
        values, order = _sorted_by_coordinate(parameters, block)
        if alike:
            low, high = values[:, last // 2], values[:, len(share) // 2]
        else:
            below = share[order].cumsum(1)
            first = (below < 0.5 - 1e-9).sum(1, keepdim=True).clamp(max=last)
            second = (below <= 0.5 + 1e-9).sum(1, keepdim=True).clamp(max=last)
            low, high = values.gather(1, first)[:, 0], values.gather(1, second)[:, 0]
        middle = 0.5 * (low.double() + high.double())
        step[block] = (weights.sum() * (middle - received[block].double())).to(step.dtype)
    return step


def trimmed_mean(
    parameters: Tensor, received: Tensor, weights: Tensor, *, trim: float = 0.2
) -> Tensor:
    """Return the step to the weighted mean without the extremes (Yin et al. 2018).

    Parameters
    ----------
    trim : float
        Share of clients cut from each end of every coordinate, rounded down; below one
        half. Where only clients of weight 0 are left, they count alike.
    """
    cut = int(trim * len(weights))
    step = torch.empty_like(received)
    for block in _blocks(parameters):
        values, order = _sorted_by_coordinate(parameters, block)
        inside = slice(cut, len(weights) - cut)
        kept = weights[order[:, inside]]
        kept = torch.where(kept.sum(1, keepdim=True) > 0.0, kept, 1.0)
        centre = (kept * values[:, inside].double()).sum(1) / kept.sum(1)
        step[block] = (weights.sum() * (centre - received[block].double())).to(step.dtype)
    return step


def geometric_median(
    parameters: Tensor,
    received: Tensor,
    weights: Tensor,
    *,
    iterations: int = 50,
    tolerance: float = 1e-6,
    smoothing: float = 1e-6,
) -> Tensor:
    """Return the step to the weighted geometric median (RFA, Pillutla et al., arXiv:1912.13445).

    Smoothed Weiszfeld iterations, started at the weighted mean.

    Parameters
    ----------
    iterations : int
        Most iterations.
    tolerance : float
        Stop when the centre moves less than this share of its distance from ``received``.
    smoothing : float
        Smallest distance that divides, as a share of the median client update, which one
        far outlier cannot inflate.
    """
    share = weights / weights.sum()
    centre = mean(parameters, received, share).double()
    updates = parameters.double() - received.double()
    floor = smoothing * float(updates.norm(dim=1).median())
    for _ in range(iterations):
        distance = (updates - centre).norm(dim=1).clamp(min=max(floor, 1e-300))
        pull = share / distance
        following = (pull / pull.sum()) @ updates
        moved = float((following - centre).norm())
        centre = following
        if moved <= tolerance * float(centre.norm()):
            break
    return (weights.sum() * centre).to(received.dtype)


COMBINE: Mapping[str, Callable[..., Tensor]] = {
    rule.__name__: rule for rule in (mean, median, trimmed_mean, geometric_median)
}


def bind_rule(name: str, options: Mapping[str, Any] | None = None) -> Callable[..., Tensor]:
    """Look a rule up by name and fix its options.

    Raises
    ------
    ConfigError
        If the rule has no such option, or the value cannot work.
    """
    rule, chosen = COMBINE[name], dict(options or {})
    allowed = list(inspect.signature(rule).parameters)[3:]
    for option, value in chosen.items():
        key = f"strategy.combine_options.{option}"
        if option not in allowed:
            raise ConfigError(
                key, f"{name!r} has no such option", f"it takes {', '.join(allowed) or 'none'}"
            )
        if not isinstance(value, int | float) or not value >= 0:
            raise ConfigError(key, f"is {value!r}", "set a number of 0 or more")
        if option == "trim" and not value < 0.5:
            raise ConfigError(key, f"is {value!r}", "set it below 0.5, or nobody is left")
    return partial(rule, **chosen)


def _blocks(parameters: Tensor) -> Iterator[slice]:
    clients, columns = parameters.shape
    width = min(BLOCK, max(256, CELLS // clients))
    for start in range(0, columns, width):
        yield slice(start, start + width)


def _sorted_by_coordinate(parameters: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Return values and clients ``[columns, clients]`` in rising order, a coordinate a row."""
    values, order = parameters[:, block].t().contiguous().sort(dim=1)
    return values, order
