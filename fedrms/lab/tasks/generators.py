"""Published systems of generators for economic dispatch: cost curves, limits and load.

A unit that puts out P costs ``a + b P + c P^2`` dollars an hour and keeps to its limits; what
all put out must meet the load. Losses of the network are left out, as in the sources' examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrms.errors import ConfigError

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class System:
    """Generating units and the load that they share."""

    a: Numbers
    b: Numbers
    c: Numbers
    """``[units]`` cost coefficients in $/h, $/MWh and $/MW^2h."""
    low: Numbers
    high: Numbers
    """``[units]`` limits of the output in MW."""
    load: float  # in MW

    def output(self, price: float) -> Numbers:
        """Return what each unit puts out, ``[units]`` in MW, where a MWh more is worth a price."""
        return np.clip((price - self.b) / (2 * self.c), self.low, self.high)

    def cost(self, output: Numbers) -> float:
        """Return what an output ``[units]`` costs, in $/h."""
        return float((self.a + self.b * output + self.c * output**2).sum())

    def price(self, load: float | None = None) -> float:
        """Return the incremental cost, in $/MWh, at which the units meet a load, if they can.

        Equal incremental costs of all units within their limits: the Kuhn-Tucker conditions of the
        least cost (Wood and Wollenberg, section 3.1). What is put out is piecewise linear in the
        price, with corners where a unit comes to a limit.
        """
        wanted = self.load if load is None else load
        if not self.low.sum() <= wanted <= self.high.sum():
            raise ValueError(f"the units cannot meet a load of {wanted} MW")
        corners = np.sort(
            np.append(self.b + 2 * self.c * self.low, self.b + 2 * self.c * self.high)
        )
        total = [self.output(corner).sum() for corner in corners]
        return float(np.interp(wanted, total, corners))


def _system(load: float, *units: tuple[float, float, float, float, float]) -> System:
    a, b, c, low, high = np.array(units, np.float64).T
    return System(a, b, c, low, high, load)


SYSTEMS = {
    # Wood and Wollenberg, Power Generation, Operation and Control, example 3A: two coal-fired
    # units and an oil-fired one. Published: 393.2, 334.6 and 122.2 MW at 9.148 $/MWh.
    "three_units": _system(
        850.0,
        (561.0, 7.92, 0.001562, 150.0, 600.0),
        (310.0, 7.85, 0.00194, 100.0, 400.0),
        (78.0, 7.97, 0.00482, 50.0, 200.0),
    ),
    # The generators of the IEEE 30-bus system: Alsac and Stott, Optimal load flow with
    # steady-state security, IEEE Trans. PAS-93 (1974). Without losses, three are at their minima.
    "ieee30": _system(
        283.4,
        (0.0, 2.0, 0.00375, 50.0, 200.0),
        (0.0, 1.75, 0.0175, 20.0, 80.0),
        (0.0, 1.0, 0.0625, 15.0, 50.0),
        (0.0, 3.25, 0.00834, 10.0, 35.0),
        (0.0, 3.0, 0.025, 10.0, 30.0),
        (0.0, 3.0, 0.025, 12.0, 40.0),
    ),
}


def system(name: str) -> System:
    """Return a published system."""
    if name not in SYSTEMS:
        raise ConfigError("model.system", f"there is no {name!r}", f"choose from {list(SYSTEMS)}")
    return SYSTEMS[name]
