r"""Confidence intervals over seeds: of a mean difference, and of a ratio of two.

An interval is the set of values that a studentised test does not reject. With ``d`` the
differences to a baseline and ``o`` those of an oracle, paired by seed, it is every g with

.. math:: t_{low} \le \frac{\bar d - g\,\bar o}{s(d - g\,o) / \sqrt n} \le t_{high},

a quadratic inequality in g (Fieller 1954, JRSS B 16(2)); a mean is the case o = 1. From
`BOOTSTRAP_FROM` seeds on, ``t_low`` and ``t_high`` are quantiles of the bootstrap-t (Efron
and Tibshirani 1993, chapter 12.5; Hall 1988, Annals of Statistics 16(3)): the same ratio,
computed on seeds drawn with replacement from the residuals. Below, they are Student's.

Why not the percentile or the BCa bootstrap: their ends lie between the smallest and the
largest difference, so no n below 6 can reach 95 % (the mean's two sides being equally
likely, 1 - 2^(1-n): 75 % with three seeds), and they stay too narrow beyond (Hesterberg
2015, The American Statistician 69(4)). Of few seeds the bootstrap-t itself is degenerate: a
ninth of the draws from three seeds has no spread. Where one seed lies far from all others, the
draws without it have next to no spread, and the ratio has no bound: it counts as at most
Student's at the level `FARTHEST`. ``docs/analysis.md`` has measured coverages.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, NamedTuple

import numpy as np

from fedrms.randomness import generator

LEVEL: Final = 0.95
BOOTSTRAP_FROM: Final = 6
"""Seeds from which on the bootstrap-t is used."""
RESAMPLES: Final = 9999
FARTHEST: Final = 0.9999
"""Level of Student's interval beyond which none of the bootstrap-t reaches."""
_NO_SPREAD: Final = 1e-12
"""A standard deviation below this share of the values is rounding."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Interval(NamedTuple):
    """Both ends; NaN where there is no interval, infinite where it has no end."""

    low: float
    high: float


UNKNOWN: Final = Interval(math.nan, math.nan)


def mean_interval(values: Floats) -> Interval:
    """Return the 95 % interval of the mean of paired differences ``[seeds]``, in any unit.

    NaN with fewer than two values, with a NaN among them, or where all are one value that is not 0:
    values without spread say nothing about what another seed would give.
    """
    return ratio_interval(values, np.ones(len(values)))


def ratio_interval(numerator: Floats, denominator: Floats, *, students: bool = False) -> Interval:
    """Return the 95 % interval of the ratio of two means over the same seeds ``[seeds]``.

    An end is infinite where the data cannot tell the denominator's mean from 0; NaN as in
    `mean_interval`. ``students`` goes by Student's t whatever the number of seeds.
    """
    d, o = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if len(d) < 2 or not (np.isfinite(d).all() and np.isfinite(o).all()) or o.mean() == 0:
        return UNKNOWN
    if o.mean() < 0:
        d, o = -d, -o
    ratio = float(d.mean() / o.mean())
    residuals = d - ratio * o
    if without_spread(residuals, float(np.abs(d).max())):
        return Interval(0.0, 0.0) if ratio == 0 else UNKNOWN
    low, high = _critical(residuals, students)
    return Interval(_end(d, o, high, -1), _end(d, o, -low, 1))


def without_spread(values: Floats, scale: float | None = None) -> bool:
    """Tell whether values differ by no more than rounding."""
    scale = float(np.abs(values).max()) if scale is None else scale
    return float(np.std(values)) <= _NO_SPREAD * scale


def _end(d: Floats, o: Floats, critical: float, side: int) -> float:
    """Solve for the end on one side, at which the ratio reaches the critical value."""
    if not math.isfinite(critical):
        return side * math.inf
    squared = max(critical, 0.0) ** 2 / len(d)
    (dd, do), (_, oo) = np.cov(d, o)
    a = o.mean() ** 2 - squared * oo
    b = d.mean() * o.mean() - squared * do
    c = d.mean() ** 2 - squared * dd
    if a <= 0:
        return side * math.inf
    return float((b + side * math.sqrt(max(b * b - a * c, 0.0))) / a)


def _critical(residuals: Floats, students: bool) -> tuple[float, float]:
    n = len(residuals)
    from scipy.special import stdtrit  # here, as runs import this room and need no scipy

    if students or n < BOOTSTRAP_FROM:
        t = float(stdtrit(n - 1, (1 + LEVEL) / 2))
        return -t, t
    most = float(stdtrit(n - 1, (1 + FARTHEST) / 2))
    ordered = np.sort(residuals - residuals.mean())  # sorted: the seeds' order changes no bit
    counts = _resamples(n)
    mean = counts @ ordered / n
    variance = (counts @ ordered**2 / n - mean**2) * n / (n - 1)
    constant = variance <= _NO_SPREAD * float(ordered @ ordered)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_values = mean / np.sqrt(np.where(constant, 0.0, variance) / n)
    t_values = np.sort(np.nan_to_num(t_values, nan=0.0, posinf=math.inf, neginf=-math.inf))
    tail = round((RESAMPLES + 1) * (1 - LEVEL) / 2)
    return max(float(t_values[tail - 1]), -most), min(float(t_values[RESAMPLES - tail]), most)


@functools.lru_cache(maxsize=64)
def _resamples(n: int) -> Floats:
    """How often each of n seeds is drawn, ``[resamples, n]``: the same for every call."""
    draws = generator(0, "bootstrap", client=n)
    return draws.multinomial(n, [1 / n] * n, size=RESAMPLES).astype(np.float64)
