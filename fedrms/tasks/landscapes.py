"""Analytic loss landscapes, as models whose output is the loss (:mod:`fedrms.tasks.objective`).

Each maps draws ``xi`` ``[examples, dimensions]`` to values ``[examples]``: a client sees the
landscape moved by its draws, ``f(w - xi)``, which is how the noisy quadratic model of Schaul et
al. (2013, arXiv:1206.1106) and Zhang et al. (2019, arXiv:1907.04164) puts gradient noise into
a loss; for a quadratic, the gradient's noise is the curvature times the draw's. Draws of zero
give ``f(w)``. A model takes the draws' shape and, unused, the number of outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def point(start: float | Sequence[float], dimensions: int) -> nn.Parameter:
    """Return a starting point: a number for every dimension, or one each."""
    values = [float(start)] * dimensions if isinstance(start, int | float) else list(start)
    if len(values) != dimensions:
        raise ValueError(f"start has {len(values)} numbers, the draws {dimensions}")
    return nn.Parameter(torch.tensor(values, dtype=torch.float32))


class Valley(nn.Module):
    """An anisotropic quadratic, ``scale / 2 sum_i h_i w_i^2``, with the minimum 0 at 0.

    Curvatures are ``h_i`` from 1 to ``1 / condition``, with equal ratios between.

    Parameters
    ----------
    shape : sequence of int
        ``(dimensions,)`` of the draws.
    outputs : int
        Unused.
    condition : float
        The condition number, 1 or more.
    rotation : float
        Angle, in degrees, by which the first and the last axis are turned towards each other;
        at 0 the axes are those that an elementwise optimizer sees.
    scale : float
        The unit of the loss.
    start : float or sequence of float
        Where it begins.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        condition: float = 100.0,
        rotation: float = 0.0,
        scale: float = 1.0,
        start: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        (dimensions,) = shape
        if condition < 1:
            raise ValueError(f"condition is {condition}, set a number of 1 or more")
        self.w = point(start, dimensions)
        exponent = torch.linspace(0.0, 1.0, dimensions) if dimensions > 1 else torch.zeros(1)
        self.curvature = scale * float(condition) ** -exponent
        self.angle = math.radians(rotation)

    def forward(self, xi: Tensor) -> Tensor:
        """Return the values ``[examples]`` at these draws."""
        away = self.w - xi
        if self.angle:
            cos, sin = math.cos(self.angle), math.sin(self.angle)
            first, last = away[..., :1], away[..., -1:]
            turned = [cos * first - sin * last, away[..., 1:-1], sin * first + cos * last]
            away = torch.cat(turned, dim=-1)
        return 0.5 * (self.curvature.to(away) * away.square()).sum(-1)
