"""Differences paired by seed, with the interval of their mean: what an effect must stand out of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and the interval around it."""

    low: float
    mean: float
    high: float
    """In the differences' unit."""

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    def times(self, factor: float) -> Difference:
        """Return it in another unit, such as percentage points."""
        return Difference(factor * self.low, factor * self.mean, factor * self.high)

    def as_ratio(self) -> Difference:
        """Return differences of logarithms as ratios."""
        return Difference(*(float(np.exp(end)) for end in (self.low, self.mean, self.high)))


def difference(values: ArrayLike, among: int = 1) -> Difference:
    """Return the mean of paired differences ``[seeds]`` and its 95 % interval, by Student's t.

    ``among`` says of how many intervals one alone may decide a claim: each is then at 1 - 0.05 /
    among (Bonferroni), so that chance decides it no more than once in twenty times.
    """
    each = np.asarray(values, np.float64)
    mean = float(each.mean())
    if len(each) < 2:
        return Difference(-np.inf, mean, np.inf)
    error = float(each.std(ddof=1)) / np.sqrt(len(each))
    half = float(stats.t.ppf(1 - 0.025 / among, len(each) - 1)) * error
    return Difference(mean - half, mean, mean + half)


def told_as_ratios(found: Mapping[str, Difference]) -> dict[str, float]:
    """Return the numbers of differences of logarithms by name, as ratios, for a verdict."""
    ratios = {name: own.as_ratio() for name, own in found.items()}
    return {
        f"ratio, {name}, {end}": value
        for name, own in ratios.items()
        for end, value in (("from", own.low), ("mean", own.mean), ("to", own.high))
    }


def told(found: Mapping[str, Difference], unit: str = "") -> dict[str, float]:
    """Return the numbers of differences by name, in a unit such as ``", pp"``, for a verdict."""
    return {
        f"{what}{unit}, {name}": value
        for name, own in found.items()
        for what, value in (("low", own.low), ("difference", own.mean), ("high", own.high))
    }
