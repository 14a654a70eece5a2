"""Who is how noisy where each client draws its own level, so that any cohort's can be made alone.

Among a million clients of whom a thousand are asked, nobody deals levels to all: a client is noisy
with a probability, at a level drawn at its address, uniform where dealt ones are evenly spaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrms.data.levels import (
    NOBODY,
    ORDERS,
    Clients,
    Levels,
    NoiseLevels,
    beta_options,
    fedcorr_options,
    schedule,
    since,
    span,
)
from fedrms.errors import ConfigError
from fedrms.options import number, one_of, sequence, switch
from fedrms.randomness import counter_uniform


@dataclass(frozen=True)
class DrawnLevels:
    """Levels that each client draws."""

    seed: int  # the run's seed
    fraction: float  # probability that a client is noisy
    law: str
    """One of ``linear``, ``log``, ``beta``: a noisy client's level: uniform in [first, second],
    uniform in its logarithm, or Beta(first, second)."""
    first: float
    second: float
    """Of the law."""
    starts: tuple[int, ...] = (1,)  # rounds from which on all levels are drawn anew; the first is 1
    addressed: bool = True

    def of(self, clients: Clients, round: int) -> Levels:
        """Return the level of some clients in a round."""
        start = since(self.starts, round)
        noisy = counter_uniform(self.seed, "noise-clients", clients, start) < self.fraction
        share = counter_uniform(self.seed, "noise-levels", clients, start)
        if self.law == "beta":
            from scipy.special import betaincinv

            levels = betaincinv(self.first, self.second, share)
        elif self.law == "log":
            levels = self.first * (self.second / self.first) ** share
        else:
            levels = self.first + (self.second - self.first) * share
        return np.where(noisy, levels, 0.0)


@dataclass(frozen=True)
class Drawn:
    """Lets each client draw its level."""

    seed: int  # the run's seed
    source: str  # the name of the data, for messages

    def of(
        self, how: str, ceiling: float, num_classes: int, options: dict[str, Any]
    ) -> NoiseLevels:
        """Return the levels of a kind of noise; see :class:`fedrms.data.levels.Spread`."""
        if how == "nobody":
            return NOBODY
        if how == "chosen":
            raise ConfigError(
                "noise",
                f"data={self.source} makes a client's rows when it is asked, and noise=file names "
                "rows of everyone's",
                "choose another noise",
            )
        switch("noise.spare_rare", options.pop("spare_rare"))
        if one_of("noise.order", options.pop("order"), ORDERS) != "random":
            raise ConfigError(
                "noise.order",
                f"data={self.source} draws each client's level alone, and clients cannot be "
                "compared",
                "leave it random",
            )
        starts = self._redrawn(options.pop("drift"))
        if how == "fedcorr":
            rho, tau, share = fedcorr_options(num_classes, options)
            return DrawnLevels(self.seed, rho, "linear", tau * share, share, starts)
        if how == "beta":
            fraction, a, b = beta_options(options)
            return DrawnLevels(self.seed, fraction, "beta", a, b, starts)
        if options.pop("levels") is not None:
            raise ConfigError(
                "noise.levels",
                f"data={self.source} draws each client's level when the client is asked",
                "leave it null, and set noise.fraction, noise.low and noise.high",
            )
        fraction = number("noise.fraction", options.pop("fraction"), 0, 1)
        low, high, by_ratio = span(ceiling, options)
        return DrawnLevels(self.seed, fraction, "log" if by_ratio else "linear", low, high, starts)

    def _redrawn(self, drift: Any) -> tuple[int, ...]:
        """Return the rounds since which levels hold."""
        for change in sequence("noise.drift", [] if drift is None else drift):
            if isinstance(change, Mapping) and change.get("levels", "shuffle") != "shuffle":
                raise ConfigError(
                    "noise.drift",
                    f"data={self.source} draws each client's level when the client is asked",
                    "write each change as {round: 10, levels: shuffle}",
                )
        nobody = np.zeros(0)
        return schedule(self.seed, nobody, nobody.astype(np.bool_), drift, 1.0).starts
