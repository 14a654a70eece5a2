"""RMSProp with a median in the place of the mean: one outlier does not stall it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

CHI_SQUARE_MEDIAN = 0.4549364231195725
"""Median of the square of a standard normal number: chi-square with one degree of freedom."""


class MedianRMS(Optimizer):
    """Divide a gradient by a robust estimate of its root mean square.

    ``w <- w - lr clip(g / (sqrt(m / 0.4549) + eps))`` with m the median, of each number by
    itself, of the squares of its last `window` gradients, this one included. For Gaussian
    gradients of mean zero the root is their deviation, so the step is RMSProp's; outliers, if
    fewer than half of the window's gradients, leave it bounded. The outlier itself is not:
    RMSProp's own step is at most ``lr / sqrt(1 - beta)``, and `clip` puts such a bound here.

    Parameters
    ----------
    params : iterable
        As for every ``torch.optim`` optimizer.
    lr : float
        Learning rate.
    window : int
        Gradients that the median is taken over; the first steps take those that there are.
    eps : float
        Added to the root.
    clip : float or None
        Largest scaled gradient; None leaves it without a bound. The default is the bound of
        RMSProp at beta = .99.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        window: int = 20,
        eps: float = 1e-8,
        clip: float | None = 10.0,
    ) -> None:
        if window < 1:
            raise ValueError(f"window is {window}, set 1 or more")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip is {clip}, set a number above 0, or null")
        super().__init__(params, {"lr": lr, "window": window, "eps": eps, "clip": clip})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the closure, if given, is evaluated first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, window = self.state[parameter], group["window"]
        if not state:
            state["step"] = 0
            state["squares"] = parameter.new_zeros(window, *parameter.shape)
        state["squares"][state["step"] % window] = gradient.square()
        state["step"] += 1
        seen = state["squares"][: min(state["step"], window)]
        # torch's own median is the lower of two in the middle; this is their mean.
        centre = seen.quantile(0.5, dim=0)
        scaled = gradient / (centre / CHI_SQUARE_MEDIAN).sqrt().add_(group["eps"])
        if group["clip"] is not None:
            scaled.clamp_(-group["clip"], group["clip"])
        parameter.sub_(scaled, alpha=group["lr"])
