"""Analytic loss landscapes, as models whose output is the loss (:mod:`fedrms.lab.tasks.objective`).

Each maps draws ``xi`` ``[examples, dimensions]`` to values ``[examples]``. With ``noise="shift"``
a client sees the landscape moved by its draws, ``f(w - xi)``, which is how the noisy quadratic
model of Schaul et al. (2013, arXiv:1206.1106) and Zhang et al. (2019, arXiv:1907.04164) puts
gradient noise into a loss: about the curvature times the draw. With ``noise="tilt"`` it sees
``f(w) + xi w``, whose gradient noise is the draw itself, everywhere alike. Draws of zero give
``f(w)``. A model takes the draws' shape and, unused, the number of outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NOISE = ("shift", "tilt")


class Landscape(nn.Module):
    """A point in a landscape; kinds of it say what :meth:`value` is.

    Parameters
    ----------
    shape : sequence of int
        ``(dimensions,)`` of the draws.
    start : float or sequence of float
        Where the point begins: a number for every dimension, or one each.
    noise : str
        ``shift`` or ``tilt``.
    """

    def __init__(
        self, shape: Sequence[int], start: float | Sequence[float] = 1.0, noise: str = "shift"
    ) -> None:
        super().__init__()
        (dimensions,) = shape
        values = [float(start)] * dimensions if isinstance(start, int | float) else list(start)
        if len(values) != dimensions:
            raise ValueError(f"start has {len(values)} numbers, the draws {dimensions}")
        if noise not in NOISE:
            raise ValueError(f"noise is {noise!r}, choose one of {', '.join(NOISE)}")
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float32))
        self.tilts = noise == "tilt"

    def value(self, w: Tensor) -> Tensor:
        """Return the values ``[...]`` at points ``[..., dimensions]``."""
        raise NotImplementedError

    def forward(self, xi: Tensor) -> Tensor:
        """Return the values ``[examples]`` at these draws."""
        if self.tilts:
            return self.value(self.w.expand_as(xi)) + (xi * self.w).sum(-1)
        return self.value(self.w - xi)


class Valley(Landscape):
    """An anisotropic quadratic, ``scale / 2 sum_i h_i w_i^2``, with the minimum 0 at 0.

    Curvatures are ``h_i`` from 1 to ``1 / condition``, with equal ratios between.

    Parameters
    ----------
    shape, start, noise
        See :class:`Landscape`.
    outputs : int
        Unused.
    condition : float
        The condition number, 1 or more.
    rotation : float
        Angle, in degrees, by which the first and the last axis are turned towards each other;
        at 0 the axes are those that an elementwise optimizer sees.
    scale : float
        The unit of the loss.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        condition: float = 100.0,
        rotation: float = 0.0,
        scale: float = 1.0,
        start: float | Sequence[float] = 1.0,
        noise: str = "shift",
    ) -> None:
        super().__init__(shape, start, noise)
        if condition < 1:
            raise ValueError(f"condition is {condition}, set a number of 1 or more")
        dimensions = len(self.w)
        exponent = torch.linspace(0.0, 1.0, dimensions) if dimensions > 1 else torch.zeros(1)
        self.curvature = scale * float(condition) ** -exponent
        self.angle = math.radians(rotation)

    def value(self, w: Tensor) -> Tensor:
        """Return the quadratic's values."""
        if self.angle:
            cos, sin = math.cos(self.angle), math.sin(self.angle)
            first, last = w[..., :1], w[..., -1:]
            turned = [cos * first - sin * last, w[..., 1:-1], sin * first + cos * last]
            w = torch.cat(turned, dim=-1)
        return 0.5 * (self.curvature.to(w) * w.square()).sum(-1)


class Plane(Landscape):
    """No landscape at all: the gradient is the draw, ``f(w) = xi w``.

    For what an optimizer makes of gradients of known law.

    Parameters
    ----------
    shape, start
        See :class:`Landscape`.
    outputs : int
        Unused.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int = 1, start: float | Sequence[float] = 0.0
    ) -> None:
        super().__init__(shape, start, "tilt")

    def value(self, w: Tensor) -> Tensor:
        """Return zeros."""
        return 0.0 * w.sum(-1)


class Plateau(Landscape):
    """A slope, a long flat stretch and a drop into a bowl; in each dimension the same.

    The gradient is -1 over a length of 1 from the start, ``-flatness`` over ``length``, -1 over
    another 1, and then that of ``(w - end)^2 / 2`` with the minimum 0 at ``end = length + 3``.

    Parameters
    ----------
    shape, start, noise
        See :class:`Landscape`.
    outputs : int
        Unused.
    length, flatness : float
        Of the flat stretch, and its slope.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        length: float = 10.0,
        flatness: float = 0.01,
        start: float | Sequence[float] = 0.0,
        noise: str = "tilt",
    ) -> None:
        super().__init__(shape, start, noise)
        self.length, self.flatness = length, flatness

    def value(self, w: Tensor) -> Tensor:
        """Return how far below the start the points are, as negative numbers."""
        before = w.clamp(max=1.0)
        flat = (w - 1.0).clamp(0.0, self.length)
        drop = (w - 1.0 - self.length).clamp(0.0, 1.0)
        bowl = (w - 2.0 - self.length).clamp(min=0.0)
        down = before + self.flatness * flat + drop + bowl - 0.5 * bowl.square()
        return (2.5 + self.flatness * self.length - down).sum(-1)


class Saddle(Landscape):
    """A saddle with a nearly flat exit: ``w_1^2 / 2 + flatness (w_2^2 / 4 - 1)^2``.

    The exit has curvature ``-flatness``; the minima, 0, are at ``w_2 = +-2``.

    Parameters
    ----------
    shape, start, noise
        See :class:`Landscape`; two dimensions. The start is beside the saddle.
    outputs : int
        Unused.
    flatness : float
        How steep the exit is; 0 would be none.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        flatness: float = 0.01,
        start: float | Sequence[float] = (1.0, 0.001),
        noise: str = "shift",
    ) -> None:
        super().__init__(shape, start, noise)
        if len(self.w) != 2:
            raise ValueError(f"a saddle has 2 dimensions, the draws {len(self.w)}")
        self.flatness = flatness

    def value(self, w: Tensor) -> Tensor:
        """Return the values."""
        across, along = w[..., 0].square(), w[..., 1].square()
        return 0.5 * across + self.flatness * (0.25 * along - 1.0).square()
