"""What outputs cost in expectation at a normal load, and the best of them by a convex solver.

A part of :mod:`fedrms.lab.dispatch`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from fedrms.lab.tasks.generators import System

DEVIATION = 0.05
"""Of the load, as a share."""


PRICES = (1.5, 0.75)
"""Of a missing MWh and of one left over, in units of the incremental cost."""


def expected_cost(units: System, outputs: np.ndarray, deviation: float = DEVIATION) -> np.ndarray:
    """Return the expected cost ``[...]`` of outputs ``[..., units]`` at a normal load, in $/h."""
    price, sigma = units.price(), deviation * units.load
    total = outputs.sum(-1)
    z = (total - units.load) / sigma
    # E max(0, load - total), of a normal load.
    short = sigma * (norm.pdf(z) - z * norm.sf(z))
    left = total - units.load + short
    own = (units.a + units.b * outputs + units.c * outputs**2).sum(-1)
    return np.asarray(own + price * (PRICES[0] * short - PRICES[1] * left))


def optimum(units: System, deviation: float = DEVIATION) -> tuple[np.ndarray, float]:
    """Return the best outputs ``[units]`` before the load is known, and their expected cost."""
    price, sigma = units.price(), deviation * units.load

    def slope(outputs: np.ndarray) -> np.ndarray:
        z = (outputs.sum() - units.load) / sigma
        market = price * (PRICES[0] * norm.sf(z) + PRICES[1] * norm.cdf(z))
        return np.asarray(units.b + 2 * units.c * outputs - market)

    found = minimize(
        lambda outputs: float(expected_cost(units, outputs, deviation)),
        units.output(price),
        jac=slope,
        method="SLSQP",
        bounds=list(zip(units.low, units.high, strict=True)),
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    return np.asarray(found.x), float(found.fun)
