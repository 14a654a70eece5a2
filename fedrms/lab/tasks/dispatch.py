"""Economic dispatch under an uncertain load, as a landscape for :mod:`fedrms.lab.tasks.objective`.

Outputs are fixed before the load is known; what is then missing is bought and what is left over
is sold at imbalance prices, so that output and load balance whatever the load
(:mod:`fedrms.lab.tasks.generators` has the published systems).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fedrms.lab.tasks.generators import System, system
from fedrms.lab.tasks.steering import with_gradient_of


class Dispatch(nn.Module):
    """What an hour costs above what it would have cost with the load known before, in $/h.

    A draw x makes the load ``(1 + x)`` times the system's. The value is never negative, convex in
    the outputs, and 0 only for the outputs that are best at that load. Outputs beyond a unit's
    limits are taken as at the limit, with a slope that leads back: an exact penalty.

    Parameters
    ----------
    shape : sequence of int
        ``(dimensions,)`` of the draws; the first number is used.
    outputs : int
        Unused.
    name_of_system : str
        Which one, ``three_units`` or ``ieee30``.
    shortage, surplus : float
        Prices of a MWh that is missing and of one that is left over, in units of the incremental
        cost at the expected load: above and below 1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        name_of_system: str = "three_units",
        shortage: float = 1.5,
        surplus: float = 0.75,
    ) -> None:
        super().__init__()
        if not surplus < 1 < shortage:
            raise ValueError(
                f"shortage is {shortage} and surplus {surplus}, set prices above and below 1"
            )
        self.system = system(name_of_system)
        price = self.system.price()
        best = self.system.output(price)
        # Each unit begins in the middle of its limits.
        self.output = nn.Parameter(_single((self.system.low + self.system.high) / 2))
        self.low, self.high = _single(self.system.low), _single(self.system.high)
        self.best, self.curvature = _single(best), _single(self.system.c)
        # Differences from the expected hour: costs of thousands of dollars would hide the cents.
        self.slope = _single(self.system.b + 2 * self.system.c * best - price)
        self.missing, self.left = (shortage - 1) * price, (1 - surplus) * price
        self.known = _Foresight(self.system, price, shortage * price, surplus * price)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values ``[examples]`` at these draws, in $/h."""
        output = self.output.clamp(self.low.to(x), self.high.to(x))
        away = output - self.best.to(x)
        units = (away * (self.slope.to(x) + self.curvature.to(x) * away)).sum()
        change = self.system.load * x[..., 0]
        short = change - away.sum()
        market = self.missing * short.clamp(min=0) + self.left * (-short).clamp(min=0)
        value = units + market - self.known(change)
        outside = (self.output - output).abs().sum()
        return with_gradient_of(value, value + (self.missing + self.left) / 2 * outside)


class _Foresight:
    """Least cost at each load, above that at the expected load and its incremental cost.

    Quadratic between corners, where a unit comes to a limit or the market becomes cheaper.
    """

    def __init__(self, units: System, price: float, dearest: float, cheapest: float) -> None:
        inside = np.append(units.b + 2 * units.c * units.low, units.b + 2 * units.c * units.high)
        inside = np.append(inside[(inside > cheapest) & (inside < dearest)], price)
        prices = np.unique(np.concatenate([[cheapest], inside, [dearest]]))
        change = np.array([units.output(p).sum() for p in prices]) - units.load
        here = int(np.flatnonzero(prices == price)[0])
        steps, middles = np.diff(change), (prices[1:] + prices[:-1]) / 2 - price
        value = np.concatenate([[0.0], np.cumsum(steps * middles)])
        bends = np.divide(np.diff(prices), steps, out=np.zeros_like(steps), where=steps > 0)
        self._corners = _single(change)
        # One row a segment; below the first and above the last corner the market takes it all.
        first = np.concatenate([[0], np.arange(len(prices))])
        self._from = _single(change[first])
        self._value = _single((value - value[here])[first])
        self._price = _single((prices - price)[first])
        self._bend = _single(np.concatenate([[0.0], bends, [0.0]]))

    def __call__(self, change: Tensor) -> Tensor:
        """Return it at changes of the load in MW, in $/h."""
        k = torch.bucketize(change, self._corners.to(change))
        step = change - self._from.to(change)[k]
        rise = self._price.to(change)[k] + 0.5 * self._bend.to(change)[k] * step
        return self._value.to(change)[k] + step * rise


def _single(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
