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

BLOCK = 1 << 16
"""Columns handled at a time, so that a float64 copy of the stack is never held whole."""


def mean(parameters: Tensor, received: Tensor, weights: Tensor) -> Tensor:
    """Return sum_k w_k (x_k - received); weights that sum to 1 give the weighted mean."""
    step = torch.empty_like(received)
    total = weights.sum()
    for block in _blocks(received):
        summed = weights @ parameters[:, block].double()
        step[block] = (summed - total * received[block].double()).to(step.dtype)
    return step


def median(parameters: Tensor, received: Tensor, weights: Tensor) -> Tensor:
    """Return the step to the weighted coordinate median (Yin et al. 2018, arXiv:1803.01498).

    The value at which half of the weight lies on either side; the midpoint of two values
    where exactly half lies below the first.
    """
    share = weights / weights.sum()
    step = torch.empty_like(received)
    for block in _blocks(received):
        values, order = parameters[:, block].double().sort(dim=0)
        below = share[order].cumsum(0)
        last = len(share) - 1
        low = (below < 0.5 - 1e-9).sum(0).clamp(max=last)
        high = (below <= 0.5 + 1e-9).sum(0).clamp(max=last)
        middle = 0.5 * (values.gather(0, low[None]) + values.gather(0, high[None]))[0]
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
    for block in _blocks(received):
        values, order = parameters[:, block].double().sort(dim=0)
        kept = weights[order][cut : len(weights) - cut]
        kept = torch.where(kept.sum(0) > 0.0, kept, 1.0)
        centre = (kept * values[cut : len(weights) - cut]).sum(0) / kept.sum(0)
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


def _blocks(received: Tensor) -> Iterator[slice]:
    for start in range(0, len(received), BLOCK):
        yield slice(start, start + BLOCK)
